"""What the model is asked. Serving and training build their prompts here, with this function."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_bot.rank import likeliest
from rag_bot.types import OMITTED, Message, Source

NO_ANSWER = "The documents do not say."

SYSTEM = (
    "You answer questions from numbered sources. Use only what the sources say. Answer in one or"
    " two short sentences and put the number of the source in brackets after each, like [1]."
    " Stars mark the words that may answer, before the number of their source."
    f' If the sources do not hold the answer, reply exactly: "{NO_ANSWER}"'
)

MARK = "**"
"""Around the words that the reader points at in the source it believes in most.

A small model phrases better than it finds. With stars in every source, one that learned from 700
examples took those of the first. The source's number follows the stars: a model of 135 million
parameters that had to look it up at the head of the source named another in one of four answers.
"""

# A document may hold the very tokens that separate the turns of a prompt.
_CONTROL = re.compile(r"<\|([^|<>]{1,40})\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>")


def build(question: str, sources: Sequence[Source]) -> list[Message]:
    """The messages for a standalone question over numbered sources."""
    best = likeliest(sources)
    shown = "\n\n".join(
        f"[{source.marker}] {where(source)}\n"
        + disarm(marked(source) if source is best else source.excerpt)
        for source in sources
    )
    return [
        Message("system", SYSTEM),
        Message("user", f"Sources:\n\n{shown}\n\nQuestion: {disarm(question)}"),
    ]


def marked(source: Source) -> str:
    """What is shown of a source, with stars around the words that the reader points at.

    Its number stands behind them.
    """
    text, reading = source.chunk.text, source.reading
    if reading is None or reading.end <= reading.start:
        return source.excerpt
    parts = []
    for a, b in source.shown or ((0, len(text)),):
        start, end = max(a, reading.start), min(b, reading.end)
        if start < end:
            starred = f"{MARK}{text[start:end]}{MARK} [{source.marker}]"
            parts.append(f"{text[a:start]}{starred}{text[end:b]}")
        else:
            parts.append(text[a:b])
    return OMITTED.join(parts)


def disarm(text: str) -> str:
    """A text in which no chat template sees a turn begin or end."""
    return _CONTROL.sub(lambda match: re.sub(r"[<>|\[\]]", " ", match[0]), text)


def where(source: Source) -> str:
    """File, page and headings of a source, on one line."""
    heading = f", {source.chunk.heading}" if source.chunk.heading else ""
    return disarm(f"{source.document}, page {source.chunk.page_start}{heading}")
