"""What the model is asked. Serving and training build their prompts here, with this function."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_bot.types import Message, Source

NO_ANSWER = "The documents do not say."

SYSTEM = (
    "You answer questions from numbered sources. Use only what the sources say. Answer in one or"
    " two short sentences and put the number of the source in brackets after each, like [1]."
    f' If the sources do not hold the answer, reply exactly: "{NO_ANSWER}"'
)

# A document may hold the very tokens that separate the turns of a prompt.
_CONTROL = re.compile(r"<\|([^|<>]{1,40})\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>")


def build(question: str, sources: Sequence[Source]) -> list[Message]:
    """The messages for a standalone question over numbered sources."""
    shown = "\n\n".join(
        f"[{source.marker}] {where(source)}\n{disarm(source.excerpt)}" for source in sources
    )
    return [
        Message("system", SYSTEM),
        Message("user", f"Sources:\n\n{shown}\n\nQuestion: {disarm(question)}"),
    ]


def disarm(text: str) -> str:
    """A text in which no chat template sees a turn begin or end."""
    return _CONTROL.sub(lambda match: re.sub(r"[<>|\[\]]", " ", match[0]), text)


def where(source: Source) -> str:
    """File, page and headings of a source, on one line."""
    heading = f", {source.chunk.heading}" if source.chunk.heading else ""
    return disarm(f"{source.document}, page {source.chunk.page_start}{heading}")
