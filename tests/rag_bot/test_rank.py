from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from rag_bot.config import Retrieval
from rag_bot.rank import distinct, header, reranked
from rag_bot.types import Reading, Source

Make = Callable[..., Source]


class Told:
    """A reader that says of each passage what its text says."""

    model_id = "told"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        self.asked += passages
        return [Reading(float(text), 0.5, 0, 1, 0.0) for _, text in passages]


@pytest.fixture
def sources(source: Make) -> list[Source]:
    texts = {"1": 0.5, "3": 0.4, "2": 0.3, "9": 0.2}
    return [
        replace(source(n, text), score=score)
        for n, (text, score) in enumerate(texts.items(), start=1)
    ]


def test_the_best_candidates_are_read_and_reordered(sources: list[Source]) -> None:
    told = Told()
    ranked = reranked("?", sources, told, Retrieval(read=3, top_k=3, reader_weight=2.0))
    assert [each.chunk.text for each in ranked] == ["3", "2", "1", "9"]
    assert [each.marker for each in ranked] == [1, 2, 3, 4]
    assert [each.reading is not None for each in ranked] == [True, True, True, False]
    assert [text for _, text in told.asked] == ["1", "3", "2"]


def test_the_reader_weighs_what_it_is_given(sources: list[Source]) -> None:
    """.5 + .5 · .731, .4 + .5 · .953 and .3 + .5 · .881: .866, .876, .741."""
    ranked = reranked("?", sources, Told(), Retrieval(read=3, reader_weight=0.5))
    assert [each.chunk.text for each in ranked] == ["3", "1", "2", "9"]
    ranked = reranked("?", sources, Told(), Retrieval(read=3, reader_weight=0))
    assert ranked[0].chunk.text == "1"


def test_however_sure_the_reader_is_it_only_says_so_much(source: Make) -> None:
    """.5 + .2 · σ(-900) and .2 + .2 · σ(900): .5 and .4."""
    sources = [replace(source(1, "-900"), score=0.5), replace(source(2, "900"), score=0.2)]
    ranked = reranked("?", sources, Told(), Retrieval(read=2, reader_weight=0.2))
    assert [each.chunk.text for each in ranked] == ["-900", "900"]


def test_nothing_found_is_nothing_read() -> None:
    assert reranked("?", [], Told(), Retrieval()) == ()


def test_a_passage_is_read_under_its_file_and_headings(source: Make) -> None:
    assert header(source(1, "x", "annual_report_2025.pdf")) == "annual report 2025"
    assert header(source(1, "x", "faq.md", heading="A > B")) == "faq > A > B"


def test_the_same_text_is_shown_once(source: Make) -> None:
    texts = ["One.", "two", "ONE. ", "One.\n", "three", "four"]
    found = [source(n, text, f"{n}.txt") for n, text in enumerate(texts, start=1)]
    kept = distinct(found, 3)
    assert [each.document for each in kept] == ["1.txt", "2.txt", "5.txt"]
    assert [each.marker for each in kept] == [1, 2, 3]
