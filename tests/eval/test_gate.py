"""The gate on made rows: what closes it, what must not, and what it is told wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eval.cases import GoldenCase
from eval.compare import settings_changed
from eval.gate import Finding, Guard, comparable, gate, guards
from eval.rows import Row
from eval.run import FORMAT, Record
from rag_bot.config import Settings
from rag_bot.errors import UsageError

Answered = Callable[..., list[Row]]
SAME = ["28 days"] * 60
ACCURACY = [Guard("accuracy", 0.03)]


@pytest.fixture
def run(case: Callable[..., GoldenCase], row: Callable[..., Row]) -> Answered:
    """A run of cases, three to a document, each given the answer at its place."""

    def make(answers: list[str], **fields: Any) -> list[Row]:
        return [
            row(case(f"c{n:02}", (f"{n // 3}.txt", 1)), answer, **fields)
            for n, answer in enumerate(answers)
        ]

    return make


def of(findings: list[Finding], metric: str) -> Finding:
    (found,) = [each for each in findings if each.metric == metric]
    return found


def failed(findings: list[Finding]) -> list[str]:
    return [each.metric for each in findings if not each.passed]


# Guards


def test_guards_are_read_as_they_are_written() -> None:
    assert guards(["accuracy=0.03", " recall@5 = .1 ", "ECE=0"]) == [
        Guard("accuracy", 0.03),
        Guard("recall@5", 0.1),
        Guard("ECE", 0),
    ]


def test_the_guards_that_ship_are_known_and_need_no_judge(settings: Settings) -> None:
    shipped = guards(settings.eval.guards)
    assert len(shipped) == len(settings.eval.guards) > 5
    assert "judge_accuracy" not in {each.metric for each in shipped}


@pytest.mark.parametrize(
    ("lines", "said", "remedy"),
    [
        (["charm=0.1"], "eval.guards: there is no metric 'charm'", "accuracy_answerable, "),
        (["=0.1"], "eval.guards: there is no metric ''", "there are AURC, "),
        ([""], "eval.guards: there is no metric ''", "there are AURC, "),
        (["accuracy"], "eval.guards: 'accuracy' has no margin", "accuracy=0.03"),
        (["accuracy="], "eval.guards: 'accuracy=' has no margin", "accuracy=0.03"),
        (["accuracy=0,03"], "eval.guards: 'accuracy=0,03' has no margin", "accuracy=0.03"),
        (["accuracy=0.03", "F1=x"], "eval.guards: 'F1=x' has no margin", "accuracy=0.03"),
        ([], "eval.guards is empty", "name a metric"),
    ],
)
def test_a_bad_guard_is_named(lines: list[str], said: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        guards(lines)
    assert caught.value.message.startswith(said)
    assert remedy in caught.value.remedy
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("margin", ["nan", "inf", "-0.1"])
def test_a_margin_that_no_loss_can_exceed_or_any_does_is_none(margin: str) -> None:
    with pytest.raises(UsageError, match="has no margin"):
        guards([f"accuracy={margin}"])


# What closes it


def test_a_planted_loss_is_caught(run: Answered) -> None:
    worse = ["9 days" if n % 3 == 0 else "28 days" for n in range(60)]
    found = gate(run(SAME), run(worse), ACCURACY)
    first = found[0]
    assert (first.metric, first.passed, first.cases) == ("accuracy", False, 60)
    # One case of each document's three: however documents are drawn, a third is lost.
    assert (first.loss, first.low, first.high) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert str(first) == (
        "accuracy is worse by 0.333 (0.333 to 0.333) on 60 cases; 0.03 is allowed"
    )


def test_the_same_rows_pass(run: Answered, settings: Settings) -> None:
    rows = run(["28 days", "", "No."] * 20, cited=[("0.txt", 1, True)])
    found = gate(rows, rows, guards(settings.eval.guards))
    assert failed(found) == []
    assert len(found) == len(settings.eval.guards) + 1
    assert all((each.loss, each.low, each.high) == (0, 0, 0) for each in found)


def test_a_small_difference_within_chance_passes(run: Answered) -> None:
    """Four cases are lost and two gained: 2 of 60, more than the margin, and not beyond chance."""
    before, after = SAME.copy(), SAME.copy()
    before[1] = before[31] = "9 days"
    after[4] = after[17] = after[28] = after[50] = "9 days"
    found = of(gate(run(before), run(after), ACCURACY), "accuracy")
    assert found.loss == pytest.approx(2 / 60)
    assert found.loss > found.margin > found.low
    assert found.passed


def test_a_loss_within_its_margin_passes_however_sure(run: Answered) -> None:
    worse = ["9 days" if n % 3 == 0 else "28 days" for n in range(60)]
    found = of(gate(run(SAME), run(worse), [Guard("accuracy", 0.34)]), "accuracy")
    assert found.low > 0
    assert found.passed


def test_a_gain_passes(run: Answered) -> None:
    found = of(gate(run(["9 days"] * 60), run(SAME), ACCURACY), "accuracy")
    assert (found.loss, found.low, found.high, found.passed) == (-1, -1, -1, True)


def test_of_what_is_better_low_a_rise_is_the_loss(run: Answered) -> None:
    guarded = [Guard("false_abstention", 0.05)]
    shy = [""] * 60
    assert of(gate(run(SAME), run(shy), guarded), "false_abstention").loss == 1
    assert failed(gate(run(SAME), run(shy), guarded)) == ["false_abstention"]
    assert of(gate(run(shy), run(SAME), guarded), "false_abstention").loss == -1
    assert failed(gate(run(shy), run(SAME), guarded)) == []


def test_a_figure_of_the_set_can_be_guarded(run: Answered) -> None:
    """As sure as ever of answers that are now wrong: Brier goes from 0 to 1."""
    before, after = run(SAME, confidence=1.0), run(["9 days"] * 60, confidence=1.0)
    found = of(gate(before, after, [Guard("Brier", 0.1)]), "Brier")
    assert (found.loss, found.passed) == (1, False)


def test_the_loss_that_can_be_seen_follows_from_the_spread(
    case: Callable[..., GoldenCase], row: Callable[..., Row]
) -> None:
    """40 documents of a case each, every other one lost: sd 0.5, standard error 0.5 / √40."""
    asked = [case(f"{n}", (f"{n}.txt", 1)) for n in range(40)]
    before = [row(each, "28 days") for each in asked]
    after = [row(each, "9 days" if n % 2 else "28 days") for n, each in enumerate(asked)]
    found = of(gate(before, after, ACCURACY), "accuracy")
    assert found.detectable == pytest.approx(0.03 + 2.8 * 0.5 / math.sqrt(40), rel=0.05)


def test_a_metric_that_vanished_fails(run: Answered) -> None:
    guarded = [Guard("page_precision", 0.05), *ACCURACY]
    found = gate(run(SAME, cited=[("0.txt", 1, True)]), run(SAME), guarded)
    assert failed(found) == ["page_precision"]
    assert str(found[0]) == "page_precision: the run has nothing to measure it on"


def test_a_figure_of_the_set_that_vanished_fails(run: Answered) -> None:
    """Nothing is answered any more, so no confidence can be wrong."""
    found = gate(run(SAME), run([""] * 60), [Guard("ECE", 0.05)])
    assert failed(found) == ["ECE"]


def test_a_metric_that_the_baseline_lacks_passes_and_says_so(run: Answered) -> None:
    guarded = [Guard("page_precision", 0.05)]
    for after in (run(SAME), run(SAME, cited=[("0.txt", 1, True)])):
        found = of(gate(run(SAME), after, guarded), "page_precision")
        assert found.passed
        assert "not measured" in str(found)


def test_more_cases_that_failed_to_run_close_it(run: Answered) -> None:
    after = run(SAME)
    after[:2] = [Row(each.case, error="RuntimeError: no") for each in after[:2]]
    found = gate(run(SAME), after, ACCURACY)
    assert failed(found) == ["completed"]
    assert str(found[0]) == "completed: 3% of the cases failed to run, 0% before"
    assert of(found, "accuracy").cases == 58


def test_as_many_failures_as_before_do_not(run: Answered) -> None:
    before, after = run(SAME), run(SAME)
    before[:2] = [Row(each.case, error="RuntimeError: no") for each in before[:2]]
    after[-3:] = [Row(each.case, error="RuntimeError: no") for each in after[-3:]]
    found = gate(before, after, ACCURACY)
    assert failed(found) == []
    assert of(found, "completed").loss == pytest.approx(1 / 60)
    assert of(found, "accuracy").cases == 55


def test_two_in_a_hundred_more_failures_are_allowed(run: Answered) -> None:
    before, after = run(["28 days"] * 100), run(["28 days"] * 100)
    for rows, lost in ((before, 3), (after, 5)):
        rows[:lost] = [Row(each.case, error="RuntimeError: no") for each in rows[:lost]]
    assert failed(gate(before, after, ACCURACY)) == []


def test_when_every_case_fails_every_guard_does(run: Answered) -> None:
    after = [Row(each.case, error="RuntimeError: no") for each in run(SAME)]
    assert set(failed(gate(run(SAME), after, ACCURACY))) == {"completed", "accuracy"}


def test_where_nothing_could_be_measured_it_stays_shut(run: Answered) -> None:
    broken = [Row(each.case, error="RuntimeError: no") for each in run(SAME)]
    for after in (run(["a week"] * 60), broken):
        assert failed(gate(broken, after, ACCURACY)) == ["guards"]


def test_what_is_no_number_does_not_pass(run: Answered) -> None:
    guarded = [Guard("perplexity", 0.1)]
    before, after = run(SAME, reference_nll=1.0), run(SAME, reference_nll=math.nan)
    assert failed(gate(before, before, guarded)) == []
    assert failed(gate(before, after, guarded)) == ["perplexity"]


def test_the_worst_comes_first(run: Answered) -> None:
    worse = ["9 days" if n % 3 == 0 else "28 days" for n in range(60)]
    after = run(worse, cited=[("x.txt", 1, True)], confidence=0.5)
    before = run(SAME, cited=[("x.txt", 1, True)], confidence=0.5)
    guarded = [Guard("page_precision", 0.05), Guard("exact_match", 0.2), Guard("accuracy", 0.01)]
    found = gate(before, after, guarded)
    assert [each.metric for each in found][:2] == ["accuracy", "exact_match"]
    assert [each.passed for each in found] == [False, False, True, True]


def test_runs_of_other_cases_are_refused(run: Answered) -> None:
    with pytest.raises(UsageError, match="'c59' is in one only") as caught:
        gate(run(SAME), run(SAME[:-1]), ACCURACY)
    assert caught.value.exit_status == 2
    assert "--limit" in caught.value.remedy
    with pytest.raises(UsageError, match="'c00' is in one only"):
        gate([], run(SAME), ACCURACY)


def test_two_runs_without_a_row_are_refused() -> None:
    with pytest.raises(UsageError):
        gate([], [], ACCURACY)


def test_rows_in_any_order_are_paired_by_their_id(run: Answered) -> None:
    after = run(["9 days", *SAME[1:]])
    assert gate(run(SAME), after, ACCURACY) == gate(run(SAME), after[::-1], ACCURACY)


# What may be held against each other


RECORD = Record(
    format=FORMAT,
    version="0.1.0",
    commit="abc",
    golden="golden.jsonl",
    golden_sha256="12",
    limit=None,
    seed=0,
    answers=True,
    perplexity=False,
    judge="",
    collection="default",
    documents=3,
    corpus="34",
    settings={"retrieval": {"top_k": 4, "floor": 0.42}, "ingest": {"include": []}},
    models={"embedder": "e:1", "llm": "m:1"},
)


def test_runs_of_the_same_questions_may_be_compared() -> None:
    comparable(RECORD, RECORD)
    others: dict[str, Any] = {
        "corpus": "56",
        "commit": "def",
        "settings": {},
        "models": {},
        "golden": "g.jsonl",
    }
    for name, value in others.items():
        comparable(RECORD, replace(RECORD, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("golden_sha256", "99"), ("limit", 10), ("seed", 1), ("answers", False)],
)
def test_runs_that_measured_different_things_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        comparable(RECORD, replace(RECORD, **{name: value}))
    was = getattr(RECORD, name)
    assert caught.value.message == f"the runs differ in {name}: {was!r} and {value!r}"
    assert caught.value.exit_status == 2


def test_what_differs_between_runs_is_named() -> None:
    other = replace(
        RECORD,
        commit="def",
        corpus="56",
        settings={"retrieval": {"top_k": 1, "floor": 0.42}, "ingest": {"include": []}, "new": 1},
        models={"embedder": "e:1", "llm": "m:2"},
    )
    assert settings_changed(RECORD, other) == {
        "retrieval.top_k": (4, 1),
        "new": (None, 1),
        "model.llm": ("m:1", "m:2"),
        "corpus": ("34", "56"),
        "commit": ("abc", "def"),
    }
    assert settings_changed(RECORD, RECORD) == {}
