"""What people prefer: the file of judgements, what is asked, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from eval import preferences
from eval.cases import GoldenCase, PageRef
from eval.metrics import bootstrap
from eval.preferences import (
    Judgement,
    Preference,
    append,
    check_same,
    cohen_kappa,
    fleiss_kappa,
    left,
    lines,
    pairs,
    read,
    report,
    to_judge,
)
from eval.rows import Row
from rag_bot.errors import UsageError
from rag_bot.types import Message


def said(
    case: str, rater: str, preference: Preference, shown_left: preferences.Run = "a"
) -> Judgement:
    return Judgement(case, rater, preference, shown_left, "0" * 64, "1" * 64, 1000.5)


def row(name: str, answer: str) -> Row:
    case = GoldenCase(name, f"What is {name}?", ("x",), (PageRef("d.pdf", 1),))
    return Row(case, answered=True, answer=answer)


def test_what_all_prefer_is_told_the_better_first() -> None:
    found = [
        preferences.Pair(row(name, "a").case, row(name, "a"), row(name, "b")) for name in "wxyz"
    ]
    judged = [
        said("w", "ann", "a"),
        said("x", "ann", "a"),
        said("x", "ann", "b"),  # the last word counts
        said("y", "ann", "a"),
        said("y", "bob", "b"),
        said("z", "ann", "both_good"),
    ]
    better = preferences.preferred(found, judged)
    assert [(a.case.id, a.answer, b.answer) for a, b in better] == [
        ("w", "a", "b"),
        ("x", "b", "a"),
    ]


# The file


def test_judgements_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    made = [said("käse\n1", "Zoë", "both_bad", "b"), said("2", "bob", "a")]
    for each in made:
        append(file, each)
    assert read(file) == made
    assert file.read_text("utf-8").count("\n") == 2


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"case": "1"}',
        '{"case": "1", "rater": "", "preference": "a", "left": "a",'
        ' "a_sha256": "", "b_sha256": "", "time": 1}',
        '{"case": "1", "rater": "r", "preference": "left", "left": "a",'
        ' "a_sha256": "", "b_sha256": "", "time": 1}',
        '{"case": "1", "rater": "r", "preference": "a", "left": "a",'
        ' "a_sha256": "", "b_sha256": "", "time": "1"}',
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "judged.jsonl"
    append(file, said("1", "ann", "a"))
    file.write_text(file.read_text() + "\n" + bad + "\n")
    with pytest.raises(UsageError, match=r"judged\.jsonl, line 3: "):
        read(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl can't be read"):
        read(tmp_path / "none.jsonl")


def test_a_line_that_a_kill_cut_short_is_left_out_and_gone_with_the_next(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    first, second, third = (said(str(i), "ann", "a") for i in range(3))
    append(file, first)
    append(file, second)
    file.write_bytes(file.read_bytes()[:-20])
    assert read(file) == [first]
    append(file, third)
    assert read(file) == [first, third]


def test_a_whole_last_line_without_its_line_feed_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    first, second = said("1", "ann", "a"), said("2", "ann", "b")
    append(file, first)
    file.write_bytes(file.read_bytes().rstrip())
    append(file, second)
    assert read(file) == [first, second]


# What is to be judged


def test_only_cases_that_both_answered_and_differently_are_judged() -> None:
    other = row("other question", "y")
    turned = row("other history", "y")
    a = [row(name, "x  y") for name in ("same", "differs", "failed", "silent", "a only")]
    a += [row("other question", "x"), row("other history", "x")]
    b = [
        row("same", "x\ny"),
        row("differs", "z"),
        replace(row("failed", "z"), error="ModelBroken: it broke"),
        replace(row("silent", "z"), answered=False),
        row("b only", "z"),
        replace(other, case=replace(other.case, question="Another?")),
        replace(turned, case=replace(turned.case, history=(Message("user", "Hello"),))),
    ]
    (found,) = pairs(a, b)
    assert (found.case.id, found.a.answer, found.b.answer) == ("differs", "x  y", "z")
    assert [each.case.id for each in pairs(b, a)] == ["differs"]


def test_fewer_cases_are_the_first_of_the_same_order() -> None:
    a, b = [row(str(i), "x") for i in range(40)], [row(str(i), "y") for i in range(40)]
    every = [each.case.id for each in pairs(a, b, seed=3)]
    assert [each.case.id for each in pairs(a, b, limit=7, seed=3)] == every[:7]
    assert sorted(every, key=int) == [str(i) for i in range(40)]
    assert every != sorted(every, key=int)
    assert every != [each.case.id for each in pairs(a, b, seed=4)]


def test_a_rater_is_asked_only_what_is_left() -> None:
    found = pairs([row("1", "x"), row("2", "x")], [row("1", "y"), row("2", "y")])
    done = [said("1", "ann", "both_good"), said("2", "bob", "a")]
    assert [each.case.id for each in to_judge(found, done, "ann")] == ["2"]
    assert [each.case.id for each in to_judge(found, done, "bob")] == ["1"]
    assert to_judge(found, done, "eve") == found


def test_judgements_of_other_answers_are_refused(tmp_path: Path) -> None:
    a, b = [row("1", "x")], [row("1", "y")]
    (pair,) = pairs(a, b)
    done = [pair.judged("ann", "b", "a", 5.0)]
    check_same(tmp_path, pairs(a, b), done)
    for first, second in ((b, a), (a, [row("1", "z")]), ([row("2", "x")], [row("2", "y")])):
        with pytest.raises(UsageError, match=r"judgements of other answers: see the case '1'"):
            check_same(tmp_path, pairs(first, second), done)


def test_the_left_one_is_as_if_by_a_coin_and_always_the_same() -> None:
    ids = [str(i) for i in range(1000)]
    ann, bob = ([left(each, rater, 0) for each in ids] for rater in ("ann", "bob"))
    other = [left(each, "ann", 1) for each in ids]
    assert ann == [left(each, "ann", 0) for each in ids]
    for each in (ann, bob, other):
        assert 440 < each.count("a") < 560
    for each in (bob, other):
        assert 440 < sum(x == y for x, y in zip(ann, each, strict=True)) < 560


# What follows


def test_the_win_rate_is_a_mean_over_cases_where_a_tie_counts_half() -> None:
    found = report(
        [
            said("1", "ann", "a"),
            said("1", "bob", "b"),
            said("2", "ann", "both_good"),
            said("3", "bob", "b"),
        ]
    )
    assert (found.cases, found.judgements) == (3, 4)
    assert found.counts == {"a": 1, "b": 2, "both_good": 1, "both_bad": 0}
    assert found.by_rater == {
        "ann": {"a": 1, "b": 0, "both_good": 1, "both_bad": 0},
        "bob": {"a": 0, "b": 2, "both_good": 0, "both_bad": 0},
    }
    # the cases' means: 1/2, 1/2, 1
    assert found.win_rate == bootstrap.interval([0.5, 0.5, 1.0], ["1", "2", "3"])
    assert found.win_rate is not None
    assert found.win_rate.mean == pytest.approx(2 / 3)
    # without the tie: 1/2, 1
    assert found.decided is not None
    assert (found.decided.mean, found.decided.n) == (0.75, 2)


def test_cases_of_one_cluster_are_drawn_together() -> None:
    judged = [said(str(i), "ann", "b" if i < 20 else "a") for i in range(40)]
    alone = report(judged).win_rate
    together = report(judged, {str(i): "x" if i < 20 else "y" for i in range(40)}).win_rate
    assert alone is not None
    assert together is not None
    assert alone.mean == together.mean == 0.5
    assert 0.3 < alone.low < alone.high < 0.7
    assert (together.low, together.high) == (0, 1)


def test_the_order_of_judging_changes_nothing() -> None:
    judged = [said(str(i), "ann", "b" if i % 3 else "a") for i in range(30)]
    assert report(judged) == report(judged[::-1])


def test_the_last_judgement_of_a_rater_on_a_case_counts() -> None:
    found = report([said("1", "ann", "a"), said("1", "bob", "a"), said("1", "ann", "b")])
    assert found.counts == {"a": 1, "b": 1, "both_good": 0, "both_bad": 0}
    assert found.by_rater["ann"]["b"] == 1


def test_a_rater_who_always_takes_the_left_one_is_seen() -> None:
    found = report(
        [
            said("1", "ann", "a", "a"),
            said("2", "ann", "b", "b"),
            said("3", "ann", "both_bad", "b"),
            said("4", "ann", "a", "b"),
        ]
    )
    assert found.left is not None
    assert found.left.mean == pytest.approx(2 / 3)
    assert found.left.n == 3


def test_nothing_judged_and_nothing_decided_have_no_rate() -> None:
    empty = report([])
    assert (empty.win_rate, empty.decided, empty.left) == (None, None, None)
    assert lines(empty) == ["nothing has been judged yet"]
    ties = report([said("1", "ann", "both_good"), said("2", "ann", "both_bad")])
    assert ties.win_rate is not None
    assert ties.win_rate.mean == 0.5
    assert (ties.decided, ties.left) == (None, None)
    assert sum("no case was decided" in line for line in lines(ties)) == 2


# Agreement


def test_cohens_kappa_by_hand() -> None:
    # 50 cases: both b 20, both a 15, b then a 5, a then b 10. Observed 35/50. The first says b of
    # 25/50, the second of 30/50: by chance 0.5 * 0.6 + 0.5 * 0.4.
    first = ["b"] * 20 + ["a"] * 15 + ["b"] * 5 + ["a"] * 10
    second = ["b"] * 20 + ["a"] * 15 + ["a"] * 5 + ["b"] * 10
    assert cohen_kappa(first, second) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert cohen_kappa(first, first) == 1
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    assert cohen_kappa([], []) is None


def spread(counts: Sequence[int]) -> list[str]:
    return [str(answer) for answer, count in enumerate(counts) for _ in range(count)]


def test_fleiss_kappa_by_hand() -> None:
    # Of 3 raters. Pairs that agree: 1/3 and 1. a is said of 2/6, b of 4/6: by chance 1/9 + 4/9.
    assert fleiss_kappa([["a", "b", "a"], ["b", "b", "b"]]) == pytest.approx(
        (2 / 3 - 5 / 9) / (4 / 9)
    )
    assert fleiss_kappa([["a", "a"], ["a", "a"]]) is None
    assert fleiss_kappa([]) is None
    # The example often worked: 14 raters, 10 cases, 5 answers; 0.378 against 0.213 by chance.
    table = """
        0 0 0 0 14   0 2 6 4 2   0 0 3 5 6   0 3 9 2 0   2 2 8 1 1
        7 7 0 0 0    3 2 6 3 0   2 5 3 2 2   6 5 2 1 0   0 2 2 3 7
    """
    numbers = [int(each) for each in table.split()]
    cases = [spread(numbers[at : at + 5]) for at in range(0, 50, 5)]
    assert fleiss_kappa(cases) == pytest.approx(0.210, abs=5e-4)


def test_agreement_is_over_the_cases_that_all_judged() -> None:
    shared = [("1", "a", "a"), ("2", "b", "b"), ("3", "a", "b"), ("4", "both_good", "both_good")]
    judged = [
        said(case, rater, preference)  # type: ignore[arg-type]
        for case, *both in shared
        for rater, preference in zip(("ann", "bob"), both, strict=True)
    ]
    found = report([*judged, said("5", "ann", "b")]).agreement
    assert (found.raters, found.cases, found.observed) == (2, 4, 0.75)
    # ann: a 2, b 1, good 1; bob: a 1, b 2, good 1. By chance (2 + 2 + 1) / 16.
    assert found.cohen == pytest.approx((0.75 - 5 / 16) / (1 - 5 / 16))
    # a 3, b 3, good 2 of 8: by chance (9 + 9 + 4) / 64
    assert found.fleiss == pytest.approx((0.75 - 22 / 64) / (1 - 22 / 64))


def test_three_raters_have_no_cohens_kappa_and_one_has_none() -> None:
    three = [said("1", rater, "a") for rater in ("ann", "bob", "eve")] + [said("2", "ann", "b")]
    found = report(three).agreement
    assert (found.raters, found.cases, found.observed) == (3, 1, 1.0)
    assert (found.cohen, found.fleiss) == (None, None)
    alone = report([said("1", "ann", "a")]).agreement
    assert (alone.raters, alone.observed, alone.cohen, alone.fleiss) == (1, None, None, None)
    apart = report([said("1", "ann", "a"), said("2", "bob", "a")])
    assert apart.agreement.cases == 0
    assert "agreement: no case has been judged by all" in lines(apart)


def test_the_report_as_text() -> None:
    found = report(
        [
            said("1", "ann", "b", "b"),
            said("1", "bob", "b"),
            said("2", "ann", "a"),
            said("2", "bob", "both_bad"),
        ]
    )
    shown = lines(found)
    assert shown[0] == "4 judgements of 2 cases by 2 raters"
    # case 1: 1; case 2: (0 + 1/2) / 2
    assert " ".join(shown[1].split()) == (
        "B is preferred, a tie counts half 62.5% 25.0% to 100.0%, n = 2"
    )
    assert shown[5].split() == ["A", "better", "B", "better", "both", "good", "both", "bad"]
    assert shown[6].split() == ["ann", "1", "1", "0", "0"]
    assert shown[8].split() == ["all", "1", "2", "0", "1"]
    # agree on one of two; by chance 1/4 (Cohen), (1 + 4 + 1) / 16 (Fleiss)
    assert shown[-1] == (
        "agreement on the 2 cases judged by all: 50%, Cohen's kappa 0.33, Fleiss' kappa 0.20"
    )
