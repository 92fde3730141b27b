"""Abstention, risk and coverage, calibration, AUROC and latency, by hand."""

from __future__ import annotations

import itertools

import pytest

from eval.metrics.abstention import Abstention, Decision, abstention
from eval.metrics.auroc import auroc
from eval.metrics.calibration import Bin, Judged, brier, ece, reliability
from eval.metrics.latency import Latency, latency
from eval.metrics.risk_coverage import Case, Point, aurc, coverage_at, curve

CASES = [
    Case(0.9, True, True),
    Case(0.8, False, True),
    Case(0.7, True, True),
    Case(0.6, True, True),
    Case(0.99, False, False),
]


def test_abstention_worked_out_by_hand() -> None:
    cases = [
        Decision(answerable=False, abstained=True),
        Decision(answerable=False, abstained=True),
        Decision(answerable=False, abstained=False),
        Decision(answerable=True, abstained=True),
        *[Decision(answerable=True, abstained=False)] * 4,
        Decision(answerable=False, abstained=False),
    ]
    precision, recall = 2 / 3, 2 / 4
    f1 = 2 * precision * recall / (precision + recall)
    assert abstention(cases) == pytest.approx(Abstention(6 / 9, precision, recall, f1))


def test_abstention_is_undefined_where_there_is_nothing_to_divide_by() -> None:
    assert abstention([]) == Abstention(None, None, None, None)
    assert abstention([Decision(True, False)]) == Abstention(1, None, None, None)
    assert abstention([Decision(True, True)]) == Abstention(0, 0, None, 0)
    assert abstention([Decision(False, False)]) == Abstention(0, None, 0, 0)


def test_the_curve_covers_the_surest_first_and_never_what_was_abstained_from() -> None:
    assert curve(CASES) == [
        Point(0.9, 1 / 5, 0),
        Point(0.8, 2 / 5, 1 / 2),
        Point(0.7, 3 / 5, 1 / 3),
        Point(0.6, 4 / 5, 1 / 4),
    ]
    assert curve([Case(0.9, False, False)]) == []


def test_aurc_is_the_mean_risk_along_the_curve() -> None:
    assert aurc(CASES) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert aurc([Case(0.9, False, False)]) is None
    assert aurc([]) is None


def test_cases_of_the_same_confidence_may_come_in_any_order() -> None:
    tied = [Case(0.5, True, True), Case(0.5, False, True), Case(0.5, True, True)]
    first = Case(0.9, False, True)
    values = [aurc([*order[:2], first, order[2]]) for order in itertools.permutations(tied)]
    assert len(set(values)) == 1
    # the mean over the three places that the wrong one may have: 1, 2/2 or 1/2, …
    expected = [
        (1 + (1 + a) / 2 + (1 + a + b) / 3 + 2 / 4) / 4 for a, b in [(1, 0), (0, 1), (0, 0)]
    ]
    assert values[0] == pytest.approx(sum(expected) / 3)
    assert curve([first, *tied]) == [Point(0.9, 1 / 4, 1), Point(0.5, 1, 2 / 4)]


def test_coverage_at_an_accuracy_is_the_largest_that_holds_it() -> None:
    assert coverage_at(CASES, 0.75) == 4 / 5  # though 2/5 has only one in two right
    assert coverage_at(CASES, 0.8) == 1 / 5
    assert coverage_at([Case(0.9, False, True)], 0.8) == 0
    assert coverage_at([], 0.8) is None


def test_coverage_at_an_accuracy_bears_what_binary_fractions_lose() -> None:
    assert coverage_at([Case(0.5, i < 9, True) for i in range(10)], 0.9) == 1


def test_reliability_cuts_confidences_into_bins_of_equal_width() -> None:
    cases = [Judged(0, False), Judged(0.5, True), Judged(0.5, False), Judged(0.9, True)]
    assert reliability(cases, 2) == [
        Bin(0, 0.5, 3, pytest.approx(1 / 3), pytest.approx(1 / 3)),
        Bin(0.5, 1, 1, 0.9, 1),
    ]
    assert [each.low for each in reliability([Judged(1, True), Judged(0.05, True)])] == [0, 0.9]


def test_ece_weighs_each_bin_by_its_cases() -> None:
    # in (0.7, 0.8]: sure 0.8, right 2 in 3; in (0.2, 0.3]: sure 0.3, right 0 in 1
    cases = [Judged(0.8, True), Judged(0.8, True), Judged(0.8, False), Judged(0.3, False)]
    assert ece(cases) == pytest.approx(3 / 4 * (0.8 - 2 / 3) + 1 / 4 * 0.3)
    assert ece([Judged(1, True)]) == 0
    assert ece([]) is None


def test_brier_is_the_mean_squared_error() -> None:
    assert brier([Judged(0.8, True), Judged(0.6, False)]) == pytest.approx((0.04 + 0.36) / 2)
    assert brier([]) is None


def test_auroc_counts_the_pairs_in_the_right_order_and_ties_half() -> None:
    # positives 0.9, 0.5; negatives 0.5, 0.1, 0.7: 3 + (1 + 1/2) of 6 pairs
    scores = [0.9, 0.5, 0.5, 0.1, 0.7]
    assert auroc(scores, [True, True, False, False, False]) == pytest.approx(4.5 / 6)
    assert auroc([1, 2], [True, False]) == 0
    assert auroc([1, 1, 1], [True, False, True]) == 0.5
    assert auroc([1, 2], [True, True]) is None
    assert auroc([], []) is None


def test_latency_interpolates_between_measurements() -> None:
    # of 1 … 5: the median is the third; 95 % of the way is 3.8 steps from the first
    assert latency([5, 1, 4, 2, 3]) == pytest.approx(Latency(3, 4.8, 5))
    assert latency([0.2]) == Latency(0.2, 0.2, 1)
    assert latency([]) is None
