"""What a question says that is not about its subject: courtesies, where to look, what to return.

"According to the annual report, what were net sales? If not available, return N/A." A lexical index
would look for "report" and "N/A". Only whole phrases go; what is left keeps its words and order.
And a question with a mail pasted around it would be searched for by how the mail begins: the
embedder reads no further than some 250 word pieces.
"""

from __future__ import annotations

import re

from rag_bot.rewrite import refers
from rag_bot.sentences import sentences
from rag_bot.words import content

_LONG = 1000
"""Characters. What is shorter is a question as it stands: an embedder reads about so much."""
_ENOUGH = 600
"""Characters of what is left of a longer one."""
_ASKS = re.compile(
    r"[?？]['\"”’»)\]]*$"
    r"|^(?:please\s+|kindly\s+)?(?:tell\s+(?:me|us)|let\s+(?:me|us)\s+know|explain|describe|summari[sz]e"
    r"|show\s+(?:me|us)|find\s+out|i\s+(?:would\s+like|want|need)\s+to\s+know)\b"
    # Typed in haste, on a line of its own.
    r"|^(?:who|whom|whose|what|which|when|where|why|how|wer|was|wann|wo|warum|wie|welche[rnms]?"
    r"|qui|que|quand|où|pourquoi|comment|combien|quel(?:le)?s?)\b[^.!:]*$",
    re.IGNORECASE,
)

_NOTHING = r"[\"'“‘]?(?:n\s?/\s?a|none|null|unknown|not\s+(?:available|found|given))[\"'”’]?"
_PHRASES = re.compile(
    r"\b(?:if|when|where)\s+(?:(?:it|this|that|there|(?:the|no)\s+(?:answer|information|data))\s+)?"
    r"(?:is|are|was|were)?\s*"
    r"(?:not|n['’]t|un)\s?(?:available|present|found|given|mentioned|stated|known|provided|disclosed)"
    r"[^.?!;]*[.?!;]?"
    rf"|\b(?:please\s+)?(?:return|answer|say|write|reply|respond|output)\s+(?:with\s+)?{_NOTHING}\.?"
    r"|\b(?:according\s+to|based\s+on|as\s+(?:stated|given|described)\s+in|judging\s+by)\s+"
    r"(?:the|this|these|your|our|my)\s+(?:(?:annual|quarterly|provided|given|above|following|attached|"
    r"uploaded|available|indexed)\s+)*"
    r"(?:reports?|documents?|texts?|context|sources?|files?|passages?|information|filings?|data)\b,?"
    r"|\b(?:can|could|would|will)\s+you\s+(?:please\s+)?(?:tell|show|explain\s+to|give)\s+(?:me|us)\b"
    r"|\b(?:please|kindly)\s+(?:tell|show|explain\s+to|give)\s+(?:me|us)\b"
    r"|\bi\s+(?:would\s+like|want|need)\s+to\s+know\b|\bi['’]d\s+like\s+to\s+know\b",
    re.IGNORECASE,
)


def bare(question: str) -> str:
    """The question without such phrases, or as it was if nothing would be left of it."""
    left = " ".join(_PHRASES.sub(" ", question).split())
    return left if content(left) else question


def question_in(message: str) -> str:
    """Of a long message the sentences that ask something; any other as it is.

    One that refers to what was said ("When does it end?") brings the sentence before it. Where they
    are more than can be searched for, the last ones are kept: people tend to end with what they
    want.
    """
    if len(message) <= _LONG:
        return message
    said = [" ".join(message[a:b].split()) for a, b in sentences(message)]
    kept: list[str] = []
    room = _ENOUGH
    for at in reversed(range(len(said))):
        if not (_ASKS.search(said[at]) and content(said[at])):
            continue
        told = f"{said[at - 1]} {said[at]}" if at and refers(said[at]) else said[at]
        if kept and len(told) > room:
            break
        room -= len(told)
        kept.insert(0, told)
    return " ".join(kept) or message
