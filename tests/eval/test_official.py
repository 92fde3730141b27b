"""Our figures against other people's code, and whether a difference would be seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eval import official, score
from eval.cases import GoldenCase
from eval.rows import Row

MakeCase = Callable[..., GoldenCase]
MakeRow = Callable[..., Row]
PAGES = [("a.pdf", n) for n in range(1, 30)]


@pytest.fixture
def rows(case: MakeCase, row: MakeRow) -> list[Row]:
    return [
        row(case("second", ("a.pdf", 2)), "It is 28 days.", found=PAGES[:4]),
        row(case("late", ("a.pdf", 3), ("a.pdf", 14)), "No idea.", found=PAGES),
        row(case("lost", ("b.pdf", 1)), "", found=PAGES[:12]),
        row(case("nothing", ("b.pdf", 2)), "", found=()),
        row(case("whole", ("a.pdf", None)), "28 days", found=PAGES[:2]),
        row(case("unanswerable"), "", found=PAGES[:3]),
    ]


def test_trec_eval_agrees(rows: list[Row]) -> None:
    differences = official.by_trec_eval(rows)
    assert set(differences) == {*official.NAMES, "MRR@10"}
    assert max(differences.values()) < 1e-6


def test_a_wrong_metric_would_be_seen(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = score.Metric(lambda row: 0.5 if row.case.relevant else None, "wrong")
    monkeypatch.setitem(score.PER_CASE, "recall@5", wrong)
    assert official.by_trec_eval(rows)["recall@5"] == 0.5


SCRIPT = """
import json, sys
gold, said = (json.load(open(name)) for name in sys.argv[1:3])
asked = [qa for a in gold["data"] for p in a["paragraphs"] for qa in p["qas"]]
right = [said[qa["id"]] in [x["text"] for x in qa["answers"]] for qa in asked]
print(json.dumps({"exact": 100 * sum(right) / len(right), "f1": len(asked)}))
"""


def test_the_official_script_is_asked_about_the_same_questions(
    rows: list[Row], tmp_path: Path
) -> None:
    """It sees the questions of the run alone, and the answers without markers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    gold = tmp_path / "gold.json"
    answers = [{"text": "28 days", "answer_start": 0}]
    asked = [{"id": name, "answers": answers} for name in ("whole", "second", "another")]
    gold.write_text(json.dumps({"data": [{"paragraphs": [{"qas": asked}]}]}))
    kept = [row for row in rows if row.case.id in ("whole", "second")]
    found = official.by_squad(kept, script, gold)
    assert found["exact_match"] == (50.0, 50.0)
    assert found["F1"][1] == 2
