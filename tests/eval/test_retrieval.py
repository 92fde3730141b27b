"""The measuring tool on a data set small enough to check by eye."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval import retrieval
from eval.cases import GoldenCase, PageRef
from eval.datasets import Dataset
from eval.metrics.bootstrap import Estimate
from rag_bot.config import Settings
from rag_bot.types import Message

FERRY = "The ferry to Ulvik leaves at noon from the northern quay."
GOAT = "A goat eats two kilograms of hay on a winter day."
DATASET = Dataset(
    {"ferry": FERRY, "goat": GOAT},
    (
        GoldenCase("1", "When does the ferry leave?", (), (PageRef("ferry.txt", None),)),
        GoldenCase("2", "Who steers it?", (), (), answerable=False),
        GoldenCase(
            id="3",
            question="How much hay does a goat eat?",
            references=(),
            relevant=(
                PageRef("goat.txt", None, "two kilograms"),
                PageRef("goat.txt", None, "on a winter day"),
            ),
        ),
        GoldenCase(
            id="4",
            question="And when?",
            references=(),
            relevant=(PageRef("ferry.txt", None),),
            history=(Message("user", "Does the ferry go to Ulvik?"), Message("assistant", "Yes.")),
        ),
    ),
)


def test_retrieval_is_measured_on_the_real_index(settings: Settings) -> None:
    measured = retrieval.measure(DATASET, settings)
    table = measured.table()
    assert list(table) == ["lexical", "dense", "hybrid", "read"]
    assert table["read"]["recall@1"] == 1
    assert table["hybrid"]["recall@1"] == 1
    assert table["hybrid"]["nDCG@10"] == 1
    assert measured.intervals()["hybrid"]["nDCG@10"] == Estimate(1.0, 1.0, 1.0, 3)
    # what a follow-up is about stands only in what was said before it
    assert table["lexical"]["recall@1"] == 1
    alone = replace(DATASET.cases[-1], history=())
    table = retrieval.measure(replace(DATASET, cases=(alone,)), settings).table()
    assert table["lexical"]["recall@1"] == 0


def test_only_sets_of_text_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        retrieval.main(["sec10q"])
    said = capsys.readouterr().err
    assert "squad" in said
    assert "musique" in said


def test_retrievers_are_held_against_the_last_one_case_by_case() -> None:
    measured = retrieval.Measured(
        {
            "hybrid": {"nDCG@10": [0.5, 0.0, 1.0], "ms": [1, 2, 3]},
            "read": {"nDCG@10": [1.0, 0.5, 1.0], "ms": [4, 5, 60]},
        },
        ("a", "b", "c"),
    )
    assert measured.table()["read"] == {"nDCG@10": pytest.approx(2.5 / 3), "ms": 5}
    found = measured.against("read")
    assert list(found) == ["hybrid"]
    assert list(found["hybrid"]) == ["nDCG@10"]
    assert found["hybrid"]["nDCG@10"].mean == pytest.approx(1 / 3)


def test_without_a_reader_there_is_no_reading(settings: Settings) -> None:
    none = settings.model_copy(update={"models": settings.models.model_copy(update={"reader": ""})})
    assert list(retrieval.measure(DATASET, none).table()) == ["lexical", "dense", "hybrid"]
