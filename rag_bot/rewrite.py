"""A follow-up question to one that stands alone.

By rules: a model of this size loses the user's own words, and rules never do. The question stays
as it was asked; what it leaves unsaid is added behind it, from the user's earlier questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_bot.types import Message
from rag_bot.words import content

_REFERS = re.compile(
    r"\b(it|its|they|them|their|theirs|this|that|these|those|he|him|his|she|her|hers|one|ones|"
    r"there|then|same|such|former|latter|both|either|neither|another|else|instead)\b",
    re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"\s*(and|but|or|so|also|then|what about|how about|what if|why|why not|how so|und|et)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_][\w'’.-]*[^\W_]|[^\W_]")
_FEW = 2
_MOST = 12


def standalone(question: str, history: Sequence[Message]) -> str:
    """The question with what it refers to, or unchanged if it needs nothing.

    `history` is the conversation before it. Every word of `question` is kept, in its order.
    """
    topic = ""
    for message in history:
        if message.role == "user":
            topic = _with_topic(message.text, topic)
    return _with_topic(question, topic)


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


def _with_topic(question: str, topic: str) -> str:
    said = content(question)
    leans = _REFERS.search(question) or _CONTINUES.match(question) or len(said) <= _FEW
    return completed(question, topic) if topic and leans else question
