"""Content words: what a question asks about and what a claim says."""

from __future__ import annotations

import re

from rag_bot.lexical import analyze

_STOP = """
a about above after again against all also am an and any are as at be because been before being
below between both but by can could did do does doing down during each few for from further had
has have having he her here hers him his how i if in into is it its itself just me more most my no
nor not now of off on once only or other our out over own s same she should so some such t than
that the their them then there these they this those through to too under until up upon very was
we were what when where which while who whom whose why will with would you your
according document documents mention mentioned please provided say says source sources state stated
states tell text yes
"""
STOP_TERMS = frozenset(analyze(_STOP))

_NUMBER = re.compile(r"\d[\d.,'’ \u00a0\u202f]*\d|\d")


def content(text: str) -> frozenset[str]:
    """The stemmed, folded words of a text that carry meaning, numbers among them."""
    return frozenset(analyze(text)) - STOP_TERMS


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text, digits only: `1,200.50` and `1 200,50` are the same."""
    return frozenset(re.sub(r"\D", "", match) for match in _NUMBER.findall(text))
