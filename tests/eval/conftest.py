"""What the tests of the evaluation share: small cases and rows, and a generator that knows a few
answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from eval.cases import GoldenCase, PageRef
from eval.rows import Cited, Hit, Judged, Row, Shown
from rag_bot.types import Label, Message

Place = tuple[str, int]


def _case(name: str, *relevant: tuple[str, int | None], **fields: Any) -> GoldenCase:
    fields.setdefault("references", ("28 days",) if relevant else ())
    fields.setdefault("answerable", bool(relevant))
    fields.setdefault("question", f"What of {name}?")
    return GoldenCase(id=name, relevant=tuple(PageRef(*each) for each in relevant), **fields)


def _row(
    case: GoldenCase,
    answer: str | None = None,
    *,
    found: Sequence[Place] = (),
    shown: Sequence[Place] = (),
    cut: Sequence[Place] = (),
    cited: Sequence[tuple[str, int, bool]] = (),
    claims: Sequence[tuple[Label, tuple[int, ...]]] = (),
    **fields: Any,
) -> Row:
    ranks = {place: f"{place[0]}#{place[1]}" for place in (*found, *shown, *cut)}
    sources = [
        Shown(marker, ranks[place], *place, score=1 / marker, text="")
        for marker, place in enumerate((*shown, *cut), start=1)
    ]
    return Row(
        case,
        query=case.question,
        ranking=tuple(Hit(ranks[place], *place, score=1.0) for place in found),
        sources=tuple(sources[: len(shown)]),
        cut=tuple(sources[len(shown) :]),
        answered=answer is not None,
        answer=answer or "",
        abstained=answer == "",
        citations=tuple(
            Cited(marker, document, page, "", verbatim)
            for marker, (document, page, verbatim) in enumerate(cited, start=1)
        ),
        verdicts=tuple(Judged("", label, 1.0, markers) for label, markers in claims),
        **fields,
    )


@pytest.fixture(scope="session")
def case() -> Callable[..., GoldenCase]:
    """A case by its name and its relevant pages. Without any, it is unanswerable."""
    return _case


@pytest.fixture(scope="session")
def row() -> Callable[..., Row]:
    """A row by its case and answer: none for retrieval alone, "" for an abstention.

    Places are (document, page). Markers count what was shown, then what was cut, from 1;
    citations, which are (document, page, verbatim), count for themselves.
    """
    return _row


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
