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
_SHORT = 300
"""Characters of a paragraph that is kept whole if it asks something."""
_FEW = 3
"""Content words: a question that has no more, and refers to something, does not stand alone."""
_ASKS = re.compile(
    r"[?？]['\"”’»)\]]*$"
    r"|^(?:please\s+|kindly\s+)?(?:tell\s+(?:me|us)|let\s+(?:me|us)\s+know|explain|describe|summari[sz]e"
    r"|compare|list|show\s+(?:me|us)|give\s+(?:me|us)|find\s+out|i\s+need"
    r"|i\s+(?:would\s+like|want)\s+to\s+know)\b"
    # Typed in haste, on a line of its own.
    r"|^(?:who|whom|whose|what|which|when|where|why|how|wer|was|wann|wo|warum|wie|welche[rnms]?"
    r"|qui|que|quand|où|pourquoi|comment|combien|quel(?:le)?s?)\b[^.!:]*$",
    re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_FAREWELL = re.compile(
    r"(?:kind|best|warm|many|with|sincerely|yours?|thank|thanks|cheers|sent\s+from|mit\s+freundlich"
    r"|viele|beste|liebe|danke|cordialement|merci|bien\s+à)\b",
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
    """Of a long message what it asks, in its order; any other message as it is.

    Of a short paragraph with a question all is kept, of a longer one the sentences that ask; where
    nothing asks, the last short paragraph that is no farewell. Where that is more than can be
    searched for, the last questions are kept: people tend to end with what they want.
    """
    if len(message) <= _LONG:
        return message
    paragraphs = _PARAGRAPH.split(message.strip())
    kept: list[str] = []
    room = _ENOUGH
    for asked in reversed([each for paragraph in paragraphs for each in _asked(paragraph)]):
        if kept and len(asked) > room:
            break
        room -= len(asked)
        kept.insert(0, asked)
    if kept:
        return " ".join(kept)
    short = (
        paragraph
        for paragraph in reversed(paragraphs)
        if len(paragraph) <= _SHORT and content(paragraph) and not _FAREWELL.match(paragraph)
    )
    return next(short, message)


def _asked(paragraph: str) -> list[str]:
    """What a paragraph asks: all of it, or the sentences that do."""
    said = [" ".join(paragraph[a:b].split()) for a, b in sentences(paragraph)]
    asking = [n for n, each in enumerate(said) if _ASKS.search(each) and content(each)]
    if asking and len(paragraph) <= _SHORT:
        return [" ".join(said)]
    # "When does it end?" brings the sentence before it.
    leans = {n for n in asking if n and refers(said[n]) and len(content(said[n])) <= _FEW}
    return [f"{said[n - 1]} {said[n]}" if n in leans else said[n] for n in asking]
