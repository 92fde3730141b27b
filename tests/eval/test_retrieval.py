"""The measuring tool on a data set small enough to check by eye."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval import cases, retrieval
from eval.cases import GoldenCase, PageRef
from eval.corpus import indexed
from eval.datasets import Dataset
from eval.metrics.bootstrap import Estimate
from rag_bot import read
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.types import Chunk, Message, ScoredChunk

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


def measured_on(dataset: Dataset, settings: Settings) -> retrieval.Measured:
    embedder = Embedder.from_settings(settings)
    with indexed(dataset, settings, embedder) as (index, collection):
        reader = read.load(settings)
        return retrieval.measure(
            dataset.cases, index, collection, embedder, reader, settings.retrieval
        )


def test_retrieval_is_measured_on_the_real_index(settings: Settings) -> None:
    measured = measured_on(DATASET, settings)
    table = measured.table()
    assert list(table) == ["lexical", "dense", "rrf", "combined", "hybrid", "read"]
    assert table["read"]["recall@1"] == 1
    assert table["hybrid"]["recall@1"] == 1
    assert table["hybrid"]["nDCG@10"] == 1
    assert measured.intervals()["hybrid"]["nDCG@10"] == Estimate(1.0, 1.0, 1.0, 3)
    # what a follow-up is about stands only in what was said before it
    assert table["lexical"]["recall@1"] == 1
    alone = replace(DATASET.cases[-1], history=())
    table = measured_on(replace(DATASET, cases=(alone,)), settings).table()
    assert table["lexical"]["recall@1"] == 0


def test_fusing_by_ranks_worked_by_hand() -> None:
    """With k = 10: b has 1/12 + 1/11, a has 1/11, d has 1/12, c has 1/13."""

    def ranking(names: str) -> list[ScoredChunk]:
        return [ScoredChunk(Chunk(n, "d", n, 1, 1, 0, 1), 9.0, "dense") for n in names]

    fused = retrieval.reciprocal_ranks([ranking("abc"), ranking("bd")])
    assert [chunk.id for chunk in fused] == ["b", "a", "d", "c"]
    assert [c.id for c in retrieval.reciprocal_ranks([ranking("ab"), ranking("ba")])] == ["a", "b"]


def test_a_folder_is_asked_by_page_where_the_cases_name_pages(
    tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(models_dir))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "all.txt").write_text(f"{FERRY}\f{GOAT}")
    golden = [
        GoldenCase("1", "When does the ferry leave?", (), (PageRef("all.txt", 1),)),
        GoldenCase("2", "How much hay does a goat eat?", (), (PageRef("all.txt", None),)),
    ]
    cases.write(tmp_path / "cases.jsonl", golden)
    arguments = ["--docs", str(docs), "--cases", str(tmp_path / "cases.jsonl"), "--json"]
    assert retrieval.main([*arguments, "--work", str(tmp_path / "work")]) == 0
    assert json.loads(capsys.readouterr().out)["table"]["hybrid"]["recall@1"] == 1
    cases.write(tmp_path / "cases.jsonl", [replace(golden[0], relevant=(PageRef("all.txt", 2),))])
    assert retrieval.main([*arguments, "--work", str(tmp_path / "work")]) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert (table["hybrid"]["recall@1"], table["hybrid"]["recall@5"]) == (0, 1)


@pytest.mark.parametrize(
    "arguments", [[], ["--docs", "x"], ["--cases", "x"], ["squad", "--docs", "x", "--cases", "x"]]
)
def test_one_thing_is_asked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert retrieval.main(arguments) == 2
    assert "name a set" in capsys.readouterr().err


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
    assert list(measured_on(DATASET, none).table())[-1] == "hybrid"
