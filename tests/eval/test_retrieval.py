"""The measuring tools on a data set small enough to check by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval import datasets, retrieval
from rag_bot.config import Settings
from rag_bot.errors import UsageError

ARTICLES = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "The ferry to Ulvik leaves at noon from the northern quay.",
                    "qas": [
                        {"id": "1", "question": "When does the ferry leave?"},
                        {"id": "2", "question": "Who steers it?", "is_impossible": True},
                    ],
                },
                {
                    "context": "A goat eats two kilograms of hay on a winter day.",
                    "qas": [{"id": "3", "question": "How much hay does a goat eat?"}],
                },
            ]
        }
    ]
}


@pytest.fixture
def squad_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "squad"
    folder.mkdir()
    (folder / "val-v2.json").write_text(json.dumps(ARTICLES))
    return folder


def test_squad_becomes_paragraphs_and_questions(squad_folder: Path) -> None:
    dataset = datasets.squad(squad_folder, "val-v2", ("val-v2",))
    assert dict(dataset.documents) == {
        "p00000": "The ferry to Ulvik leaves at noon from the northern quay.",
        "p00001": "A goat eats two kilograms of hay on a winter day.",
    }
    assert [sorted(question.relevant) for question in dataset.questions] == [
        ["p00000"],
        [],
        ["p00001"],
    ]


def test_scifact_takes_the_test_qrels(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "7", "title": "T", "text": "Body."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "A claim."}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t7\t1\n1\t8\t0\n")
    dataset = datasets.scifact(tmp_path)
    assert dict(dataset.documents) == {"7": "T\n\nBody."}
    assert dataset.questions == [datasets.Question("1", "A claim.", frozenset({"7"}))]


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.jsonl"):
        datasets.load("scifact", tmp_path)
    with pytest.raises(UsageError, match="no data set 'nope'"):
        datasets.load("nope", tmp_path)


def test_retrieval_is_measured_on_the_real_index(squad_folder: Path, settings: Settings) -> None:
    dataset = datasets.squad(squad_folder, "val-v2", ("val-v2",))
    table = retrieval.measure(dataset, settings)
    assert set(table) == {"lexical", "dense", "hybrid"}
    assert table["hybrid"]["recall@1"] == 1
    assert table["hybrid"]["nDCG@10"] == 1
