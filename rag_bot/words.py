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

CAPITALISED = r"[A-ZÀ-Þ][\w'’-]+"
INSIDE = rf"(?<=[\w,;:)] ){CAPITALISED}"
"""A capitalised word that does not begin its sentence: in most languages, a name."""
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip

_GROUPING = ".,'’ \u00a0\u202f"
_NUMBER = re.compile(
    r"(?:(?<![\w)])[-−])?"
    rf"(?:\d{{1,3}}(?:[{_GROUPING}]\d{{3}})+(?!\d)(?:[.,]\d{{1,2}}(?!\d))?|\d+(?:[.,]\d+)*)"
)
_DATE = re.compile(
    r"(?<![\d.])(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})(?!\d)"
    r"|(?<![\w-])(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)(?!\d|-)"
)
_FRACTION = re.compile(r"(.*)[.,](\d{1,2})$")


def content(text: str) -> frozenset[str]:
    """The stemmed, folded words of a text that carry meaning, numbers among them."""
    return frozenset(analyze(text)) - STOP_TERMS


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text in one spelling: `1,200.50`, `1 200,5` and `1200.5` are the same.

    A point or comma before three digits groups thousands; before one or two it is decimal. A date
    as 31.12.2027 or 2027-12-31 is three numbers, as it is in other spellings. A minus sign counts.
    """
    dates = {str(int(part)) for date in _DATE.findall(text) for part in date if part}
    return frozenset(map(_canonical, _NUMBER.findall(_DATE.sub(" ", text)))) | dates


def months(text: str) -> frozenset[str]:
    """The English names, stemmed, of the months that dates as 31.3.2026 and 2026-03-31 speak of."""
    found = {int(date["m"] or date["M"]) for date in _DATE.finditer(text)}
    return content(" ".join(MONTHS[n - 1] for n in found if 1 <= n <= len(MONTHS)))


def _canonical(number: str) -> str:
    split = _FRACTION.match(number)
    whole, fraction = split.groups() if split else (number, "")
    fraction = fraction.rstrip("0")
    digits = re.sub(r"\D", "", whole)
    sign = "-" if number[0] in "-−" else ""
    return f"{sign}{digits}.{fraction}" if fraction else f"{sign}{digits}"
