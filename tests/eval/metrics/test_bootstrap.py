"""Intervals: what they are on data whose answer is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean

import pytest

from eval.metrics.bootstrap import Estimate, interval, interval_of, paired, paired_of


def test_two_clusters_can_be_checked_by_hand() -> None:
    # Drawn twice: both the same (1/4 each), or one of each (1/2). a has 3 cases at 0, b has 1 at 1.
    values = [0.0, 0.0, 0.0, 1.0]
    found = interval(values, ["a", "a", "a", "b"])
    assert found == Estimate(mean=0.25, low=0.0, high=1.0, n=4)


def test_clusters_of_different_size_count_by_their_cases() -> None:
    # Without the ratio of sums the middle of the means would be 0.5.
    values = [0.0] * 90 + [1.0] * 10
    clusters = [f"a{i % 10}" for i in range(90)] + [f"b{i}" for i in range(10)]
    found = interval(values, clusters)
    assert found is not None
    assert found.mean == 0.1
    assert found.low < 0.1 < found.high < 0.5


def test_a_missing_value_is_left_out_and_not_counted() -> None:
    with_gaps = interval([1.0, None, 0.0, None], ["a", "a", "b", "c"])
    assert with_gaps == interval([1.0, 0.0], ["a", "b"])
    assert with_gaps is not None
    assert with_gaps.n == 2
    assert interval([None], ["a"]) is None
    assert interval([], []) is None


def test_the_interval_of_independent_cases_is_that_of_the_normal_approximation() -> None:
    chance = random.Random(1)
    values = [float(chance.random() < 0.3) for _ in range(2000)]
    found = interval(values, [str(i) for i in range(2000)])
    assert found is not None
    mean = fmean(values)
    half = 1.96 * math.sqrt(mean * (1 - mean) / 2000)
    assert found.low == pytest.approx(mean - half, abs=0.002)
    assert found.high == pytest.approx(mean + half, abs=0.002)


def test_cases_that_fail_together_widen_the_interval() -> None:
    values = [float(i % 20 < 10) for i in range(400)]
    together = interval(values, [f"d{i % 20}" for i in range(400)])
    apart = interval(values, [f"q{i}" for i in range(400)])
    assert together is not None
    assert apart is not None
    # 20 documents are all right or all wrong: the root of 20 times as wide
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(math.sqrt(20), rel=0.1)


def test_the_interval_holds_the_truth_in_about_95_of_100_samples() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(300):
        values: list[float] = []
        clusters: list[str] = []
        for cluster in range(60):
            ease = chance.random()  # the truth is its mean, 0.5
            size = chance.randint(1, 8)
            values += [float(chance.random() < ease) for _ in range(size)]
            clusters += [str(cluster)] * size
        found = interval(values, clusters, rounds=400)
        assert found is not None
        held += found.low <= 0.5 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_a_single_cluster_is_resampled_by_case() -> None:
    values = [0.0, 1.0] * 50
    found = interval(values, ["a"] * 100)
    assert found == pytest.approx(interval(values, [f"{i:03}" for i in range(100)]), abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one() -> None:
    values = [float(i % 3 == 0) for i in range(300)]
    clusters = [f"d{i % 37}" for i in range(300)]
    first = interval(values, clusters, seed=1)
    other = interval(values, clusters, seed=2)
    assert first == interval(values, clusters, seed=1)
    assert first != other
    assert first is not None
    assert other is not None
    assert other.low == pytest.approx(first.low, abs=0.02)


def test_values_and_clusters_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        interval([1.0], ["a", "b"])


def test_a_difference_is_the_second_less_the_first() -> None:
    found = paired([0.2] * 40, [0.5] * 40, [f"d{i}" for i in range(40)])
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))
    assert found.standard_error == pytest.approx(0)
    assert found.p == 2 / 2001
    assert found.n == 40


def test_no_difference_is_no_evidence() -> None:
    same = [float(i % 2) for i in range(50)]
    found = paired(same, same, [f"d{i}" for i in range(50)])
    assert found is not None
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_pairing_leaves_out_what_makes_cases_hard_for_both() -> None:
    chance = random.Random(2)
    hard = [chance.random() for _ in range(200)]
    a = [0.8 * each for each in hard]
    b = [each + 0.02 + chance.gauss(0, 0.02) for each in a]
    clusters = [f"d{i % 40}" for i in range(200)]
    difference = paired(a, b, clusters)
    alone = interval(a, clusters)
    assert difference is not None
    assert alone is not None
    assert difference.low > 0
    assert difference.p < 0.01
    assert difference.high - difference.low < (alone.high - alone.low) / 5
    # the standard error of a mean of 200, by the formula
    assert difference.standard_error == pytest.approx(0.02 / math.sqrt(200), rel=0.35)


def test_a_pair_with_a_gap_is_left_out() -> None:
    found = paired([0.0, None, 0.0], [1.0, 1.0, None], ["a", "b", "c"])
    assert found is not None
    assert (found.mean, found.n) == (1, 1)
    assert paired([None], [1.0], ["a"]) is None


def noise(
    chance: random.Random, clusters: Sequence[str], gain: float = 0
) -> tuple[list[float], list[float]]:
    """Two runs that differ by nothing but chance, and by a gain."""
    before = [chance.gauss(0, 1) for _ in clusters]
    return before, [chance.gauss(gain, 1) for _ in clusters]


def test_p_is_seldom_small_where_nothing_differs() -> None:
    chance = random.Random(11)
    clusters = [f"d{i % 50}" for i in range(200)]
    small = 0
    for _ in range(200):
        a, b = noise(chance, clusters)
        found = paired(a, b, clusters, rounds=400)
        assert found is not None
        small += found.p < 0.05
    assert small / 200 < 0.11


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_p_is_seldom_small_where_nothing_differs_on_a_few_documents(count: int) -> None:
    chance = random.Random(13)
    clusters = [f"d{i % count}" for i in range(20 * count)]
    small = small_of_sets = 0
    for _ in range(150):
        a, b = noise(chance, clusters)
        found = paired(a, b, clusters, rounds=300)
        of_sets = paired_of(fmean, a, b, clusters, rounds=150)
        assert found is not None
        assert of_sets is not None
        small += found.p < 0.05
        small_of_sets += of_sets.p < 0.05
    assert small / 150 < 0.07
    assert small_of_sets / 150 < 0.07


def test_a_large_difference_is_seen_on_three_documents() -> None:
    chance = random.Random(17)
    clusters = [f"d{i % 3}" for i in range(60)]
    seen = 0
    for _ in range(100):
        a, b = noise(chance, clusters, gain=1)
        found = paired(a, b, clusters, rounds=300)
        assert found is not None
        seen += found.low > 0
    assert seen > 80


def test_a_statistic_of_whole_sets_agrees_with_the_mean_it_could_have_been() -> None:
    values = [float(i % 3 == 0) for i in range(300)]
    clusters = [f"d{i % 37}" for i in range(300)]
    general = interval_of(fmean, values, clusters, rounds=2000)
    direct = interval(values, clusters)
    assert general is not None
    assert direct is not None
    assert general.mean == pytest.approx(direct.mean)
    assert general.low == pytest.approx(direct.low, abs=0.01)
    assert general.high == pytest.approx(direct.high, abs=0.01)
    better = paired_of(fmean, values, [each + 0.5 for each in values], clusters)
    assert better is not None
    assert (better.mean, better.low, better.high) == pytest.approx((0.5, 0.5, 0.5))


def mean_of_some(values: Sequence[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return fmean(some) if some else None


def is_some(value: float | None) -> bool:
    return value is not None


def test_n_is_how_many_cases_a_figure_of_a_set_is_about() -> None:
    values = [1.0, None, 0.0, None]
    found = interval_of(mean_of_some, values, list("abcd"), counts=is_some)
    assert found
    assert (found.mean, found.n) == (0.5, 2)
    every = interval_of(mean_of_some, values, list("abcd"))
    assert every == found._replace(n=4), "what is drawn is the same"


def test_a_difference_is_about_what_counts_on_either_side_or_on_both() -> None:
    a: list[float | None] = [1.0, None, 3.0, None]
    b: list[float | None] = [2.0, 8.0, None, None]
    either = paired_of(mean_of_some, a, b, list("abcd"), counts=is_some)
    both = paired_of(mean_of_some, a, b, list("abcd"), counts=is_some, in_both=True)
    assert either
    assert (either.mean, either.n) == (3.0, 3)  # 5 against 2
    assert both
    assert (both.mean, both.n) == (1.0, 1)
    none = paired_of(mean_of_some, a[:2], b[2:], list("ab"), counts=is_some, in_both=True)
    assert none is None


def test_rounds_without_a_value_are_left_out() -> None:
    def of_positives(cases: Sequence[float]) -> float | None:
        kept = [each for each in cases if each > 0]
        return fmean(kept) if kept else None

    found = interval_of(of_positives, [0.0, 2.0], ["a", "b"])
    assert found == Estimate(mean=2.0, low=2.0, high=2.0, n=2)
    assert interval_of(of_positives, [0.0], ["a"]) is None
    assert paired_of(of_positives, [0.0], [1.0], ["a"]) is None
