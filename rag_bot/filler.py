"""What a question says that is not about its subject: courtesies, where to look, what to return.

"According to the annual report, what were net sales? If not available, return N/A." A lexical index
would look for "report" and "N/A". Only whole phrases go; what is left keeps its words and order.
"""

from __future__ import annotations

import re

from rag_bot.words import content

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
