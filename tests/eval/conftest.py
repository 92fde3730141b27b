"""What the tests of the evaluation share: a generator that knows a few answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from rag_bot.types import Message


class Knowing:
    """A generator that knows what to say to a few questions, and breaks on others."""

    model_id = "knowing:1"

    def __init__(self, said: Mapping[str, str], broken: Sequence[str] = ()) -> None:
        self.said = said
        self.broken = set(broken)
        self.asked: list[str] = []

    def count(self, text: str) -> int:
        return len(text.split())

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        question = messages[-1].text.rpartition("Question: ")[2]
        self.asked.append(question)
        if question in self.broken:
            yield "It is "
            raise RuntimeError("out of memory")
        yield self.said.get(question, "The documents do not say.")


class Weighing(Knowing):
    """One that can also say how likely an answer was: half a nat for each of its words."""

    def nll(self, messages: Sequence[Message], answer: str) -> float:
        assert messages[-1].role == "user"
        return self.count(answer) / 2


@pytest.fixture(scope="session")
def knowing() -> type[Knowing]:
    return Knowing


@pytest.fixture(scope="session")
def weighing() -> type[Weighing]:
    return Weighing
