from pathlib import Path

import pytest

from eval import bench, cases, collection
from eval.cases import GoldenCase, PageRef
from eval.collection import GOLDEN, Outcome, measured
from rag_bot.survey import wanted


def test_the_shipped_cases_are_whole() -> None:
    golden = cases.read(GOLDEN)
    assert len(golden.cases) >= 40
    assert sum(not case.answerable for case in golden.cases) >= 6
    assert sum("hop" in case.tags for case in golden.cases) >= 3
    assert {ref.document for case in golden.cases for ref in case.relevant} <= {
        path.name for path in bench.EXAMPLES.iterdir()
    }


def test_every_shipped_case_is_taken_for_one_about_many_documents() -> None:
    golden = cases.read(GOLDEN)
    assert [case.question for case in golden.cases if not wanted(case.question)] == []


def test_no_ordinary_shipped_case_is() -> None:
    golden = cases.read(bench.SHIPPED)
    assert [case.question for case in golden.cases if wanted(case.question)] == []


def test_counts_given_as_reference_are_those_of_the_documents() -> None:
    for case in cases.read(GOLDEN).cases:
        if collection.COUNT in case.tags and case.answerable:
            number = len({ref.document for ref in case.relevant})
            assert case.references[-1] == str(number), case.id


def _outcome(right: str, listed: str, count: int | None = None, *tags: str) -> Outcome:
    relevant = tuple(PageRef(name, 1) for name in right)
    case = GoldenCase("x", "?", (), relevant, answerable=bool(right), tags=tags)
    return Outcome(case, True, frozenset(right), frozenset(listed), count)


def test_the_figures_by_hand() -> None:
    """Right 3 of 4 listed, 3 of 5 wanted: F1 = 6/9; by case 4/5, 2/4: mean 0.65."""
    found = measured(
        [
            _outcome("abc", "ab", 2, "count"),
            _outcome("de", "dx", 2, "count"),
            _outcome("", ""),
            _outcome("", "z"),
        ]
    )
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx(3 / 5)
    assert found["F1"] == pytest.approx(6 / 9)
    assert found["F1_by_case"] == pytest.approx(0.65)
    assert (found["exact"], found["counts"], found["counts_right"]) == (0, 2, 1)
    assert (found["none"], found["none_right"]) == (2, 1)


def test_a_question_that_is_not_understood_lists_nothing() -> None:
    case = GoldenCase("x", "?", (), (), answerable=False)
    found = collection.outcome(case, None)
    assert (found.surveyed, found.listed) == (False, frozenset())
    assert measured([found])["none_right"] == 0


def test_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collection.main(["--cases", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
