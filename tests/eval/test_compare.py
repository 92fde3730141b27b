"""Two runs over made rows, their differences worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eval.cases import GoldenCase
from eval.compare import Changed, compare, differences
from eval.metrics.bootstrap import ROUNDS
from eval.rows import Row
from rag_bot.errors import UsageError
from rag_bot.jsonable import jsonable

MakeRow = Callable[..., Row]
Answered = Callable[..., list[Row]]


@pytest.fixture
def run(case: Callable[..., GoldenCase], row: MakeRow) -> Answered:
    """A run of cases about documents of their own, each given the answer at its place."""

    def make(*answers: str | None, **fields: Any) -> list[Row]:
        return [
            row(case(f"c{n}", (f"{n}.txt", 1)), answer, shown=[(f"{n}.txt", 1)], **fields)
            for n, answer in enumerate(answers)
        ]

    return make


def test_a_difference_is_the_mean_of_the_pairs(run: Answered) -> None:
    """Accuracy goes from 0, 0, 1, 1 to 1, 1, 1, 0: by (1 + 1 + 0 - 1) / 4."""
    found = compare(
        run("9 days", "No.", "28 days", "28 days"),
        run("28 days", "28 days", "28 days", "1 day"),
    )
    accuracy = found.metrics["accuracy"]
    assert (accuracy.mean, accuracy.n) == (0.25, 4)
    assert accuracy.low < 0 < accuracy.high
    assert 0.05 < accuracy.p <= 1
    # The standard deviation of 1, 1, 0, -1 over the square root of 4.
    assert accuracy.standard_error == pytest.approx(math.sqrt(0.6875 / 4), rel=0.1)


def test_a_run_is_no_different_from_itself(run: Answered) -> None:
    one = run("28 days", "No.", "")
    found = compare(one, one)
    assert (found.cases, found.unpaired, found.changed) == (3, 0, ())
    for each in found.metrics.values():
        assert (each.mean, each.low, each.high, each.p) == (0, 0, 0, 1)
    assert found.metrics.keys() >= {"accuracy", "F1", "false_abstention", "ECE"}


def test_a_change_for_the_better_in_every_case_is_sure(run: Answered) -> None:
    found = compare(run(*["9 days"] * 8), run(*["28 days"] * 8))
    accuracy = found.metrics["accuracy"]
    assert (accuracy.mean, accuracy.low, accuracy.high) == (1, 1, 1)
    assert accuracy.p == pytest.approx(2 / (ROUNDS + 1))


def test_what_both_find_hard_does_not_blur_a_difference(run: Answered) -> None:
    """Half of 80 cases are wrong in both, and 5 in the second alone."""
    hard, easy = ["No.", "9 days"] * 20, ["28 days"] * 40
    pairs = zip(run(*hard, *easy), run(*hard, *easy[5:], *["1 day"] * 5), strict=True)
    accuracy = differences([*pairs], names=["accuracy"])["accuracy"]
    assert accuracy.mean == -5 / 80
    assert accuracy.high < 0


def test_cases_are_paired_by_their_id_whatever_their_order(run: Answered) -> None:
    before, after = run("28 days", "No.", "28 days"), run("28 days", "28 days", "9 days")
    found = compare(before, after[::-1])
    assert found.metrics["F1"].mean == pytest.approx((0 + 1 - 0.5) / 3)
    assert [each.id for each in found.changed] == ["c1", "c2"]


def test_the_cases_that_changed_are_named(run: Answered) -> None:
    found = compare(
        run("28 days", "9 days", "28 days", ""), run("28 days, says Ann", "28 days", "", "")
    )
    assert found.changed == (
        Changed("c1", "What of c1?", "9 days", "28 days", better=True),
        Changed("c2", "What of c2?", "28 days", "", better=False),
    )


def test_of_retrieval_alone_what_was_shown_has_changed(run: Answered) -> None:
    before = run(None, None, found=[("0.txt", 1), ("1.txt", 1)])
    after = run(None, None, found=[("0.txt", 1)])
    found = compare(before, after)
    assert found.changed == (Changed("c1", "What of c1?", "1.txt 1", "1.txt 1", better=False),)
    assert found.metrics["recall@5"].mean == -0.5
    assert "accuracy" not in found.metrics


def test_cases_in_one_run_only_are_counted_and_left_out(run: Answered) -> None:
    before, after = run("28 days", "28 days", "28 days"), run("No.", "28 days")
    found = compare(before, after)
    assert (found.cases, found.unpaired) == (2, 1)
    assert found.metrics["accuracy"].n == 2


def test_cases_that_failed_in_either_run_are_counted_and_left_out(run: Answered) -> None:
    before, after = run(*["28 days"] * 4), run(*["No."] * 4)
    before[0] = Row(before[0].case, error="RuntimeError: no")
    after[0] = Row(after[0].case, error="RuntimeError: no")
    after[1] = Row(after[1].case, error="RuntimeError: no")
    found = compare(before, after)
    assert (found.cases, found.failed_before, found.failed_after) == (4, 1, 2)
    assert found.metrics["accuracy"].n == 2
    assert [each.id for each in found.changed] == ["c2", "c3"]


def test_only_failures_have_no_differences(run: Answered) -> None:
    lost = [Row(each.case, error="RuntimeError: no") for each in run("", "")]
    found = compare(lost, lost)
    assert (found.metrics, found.changed, found.failed_after) == ({}, (), 2)


def test_runs_without_a_common_case_are_refused(run: Answered) -> None:
    one = run("28 days")
    other = [replace(each, case=replace(each.case, id="other")) for each in one]
    for pair in ((one, other), (one, []), ([], [])):
        with pytest.raises(UsageError, match="no case in common") as caught:
            compare(*pair)
        assert caught.value.exit_status == 2
        assert "same golden set" in caught.value.remedy


def test_the_perplexities_of_two_runs_are_of_the_cases_that_both_have(run: Answered) -> None:
    """An answer in parts has none: the others' must not be held against fewer."""
    before = run("28 days", "28 days", "28 days", reference_nll=1.0)
    after = run("28 days", "28 days", "", reference_nll=1.0)
    before[0] = replace(before[0], reference_nll=9.0)
    after[0] = replace(after[0], reference_nll=None)
    found = compare(before, after).metrics
    assert (found["perplexity"].mean, found["perplexity"].n) == (0, 2)
    assert found["ECE"].n == 3  # answers given in either


def test_only_what_is_asked_for_is_worked_out(run: Answered) -> None:
    pairs = list(zip(run("28 days", "No."), run("No.", "No."), strict=True))
    assert differences(pairs, names=["accuracy", "ECE"]).keys() == {"accuracy", "ECE"}
    assert differences(pairs, names=[]) == {}


def test_the_same_seed_draws_the_same_intervals(run: Answered) -> None:
    pairs = list(zip(run(*["28 days", "No."] * 9), run(*["No."] * 18), strict=True))
    first, again, other = (differences(pairs, seed=seed, names=["accuracy"]) for seed in (3, 3, 4))
    assert first == again
    assert first["accuracy"].mean == other["accuracy"].mean
    assert first != other


def test_a_comparison_is_one_json_object(run: Answered) -> None:
    found = json.loads(json.dumps(jsonable(compare(run("9 days", "Ärger"), run("28 days", "")))))
    assert (found["cases"], found["unpaired"]) == (2, 0)
    assert found["changed"][0] | {"better": True} == {
        "id": "c0",
        "question": "What of c0?",
        "before": "9 days",
        "after": "28 days",
        "better": True,
    }


def test_the_figures_of_a_comparison_have_names(run: Answered) -> None:
    found = json.loads(json.dumps(jsonable(compare(run("9 days", "No."), run("28 days", "No.")))))
    assert found["metrics"]["accuracy"]["mean"] == 0.5


def test_abstaining_more_often_without_need_is_a_loss_of_precision(
    case: Callable[..., GoldenCase], row: MakeRow
) -> None:
    """Before, all of 10 abstentions are right; after, 10 of 20."""
    asked = [case(f"a{n}", (f"{n}.txt", 1)) for n in range(10)]
    unanswerable = [case(f"u{n}") for n in range(10)]
    before = [row(each, "28 days") for each in asked] + [row(each, "") for each in unanswerable]
    after = [row(each, "") for each in asked + unanswerable]
    assert compare(before, after).metrics["abstention_precision"].mean == -0.5
