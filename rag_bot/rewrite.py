"""A follow-up question to one that stands alone.

By rules: a model of this size loses the user's own words, and rules never do. The question stays
as it was asked; what it leaves unsaid is added behind it, from the user's earlier questions. What
the bot said is not, but for a name that was its whole answer: "Who is …?", "What is her number?"
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_bot.cite import without_markers
from rag_bot.types import Message
from rag_bot.words import content

_REFERS = re.compile(
    r"\b(it|its|they|them|their|theirs|this|that|these|those|he|him|his|she|her|hers|one|ones|"
    r"then|same|such|former|latter|both|either|neither|another|else|instead"
    # "Is there", "how many are there" name no place.
    r"|(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )there(?! (?:is|are|was|were)\b))\b",
    re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"\s*(and|but|or|so|also|then|what about|how about|what if|why|why not|how so|und|et)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_][\w'’.-]*[^\W_]|[^\W_]")
_ASKS_A_NAME = re.compile(
    r"\b(?:who|whom|whose|which|what|where|wer|wem|wen|welche[rnms]?|wo|was|qui|quel(?:le)?s?|où)\b",
    re.IGNORECASE,
)
_CAPITAL = r"[A-ZÀ-Þ][\w'’.-]*"
_NAME = re.compile(
    rf"{_CAPITAL}(?:(?: (?:de|del|der|da|di|du|la|le|of|the|van|von|zu))* {_CAPITAL}){{0,4}}"
)
_NO_NAME = re.compile(
    r"yes|no|none|nothing|nobody|ja|nein|oui|non|si|all|both|every\w*"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve",
    re.IGNORECASE,
)
_FEW = 2
_MOST = 12


def standalone(question: str, history: Sequence[Message]) -> str:
    """The question with what it refers to, or unchanged if it needs nothing.

    `history` is the conversation before it. Every word of `question` is kept, in its order.
    """
    topic = named = ""
    asked = ""
    for message in history:
        if message.role == "user":
            topic, named, asked = _with_topic(message.text, topic, named), "", message.text
        elif message.role == "assistant":
            named = name(message.text, asked)
    return _with_topic(question, topic, named)


def refers(question: str) -> bool:
    """Whether a question says "it" or "her" of something that was spoken of before."""
    return bool(_REFERS.search(question))


def name(answer: str, question: str) -> str:
    """An answer without markers, if a name was asked for and it is nothing else; or nothing."""
    plain = without_markers(answer).strip(' .,;:“”"')
    found = _ASKS_A_NAME.search(question) and _NAME.fullmatch(plain)
    return plain if found and not _NO_NAME.fullmatch(plain) else ""


def completed(question: str, topic: str) -> str:
    """The question with those words of a topic that it lacks, in brackets behind it."""
    said = content(question)
    missing: list[str] = []
    for word in _WORD.findall(topic):
        stems = content(word)
        if stems and not stems <= said:
            missing.append(word)
            said |= stems
    return f"{question} ({' '.join(missing[:_MOST])})" if missing else question


def _with_topic(question: str, topic: str, named: str) -> str:
    said = content(question)
    if named and refers(question):
        topic = f"{named} {topic}"
    leans = refers(question) or _CONTINUES.match(question) or len(said) <= _FEW
    return completed(question, topic) if topic and leans else question
