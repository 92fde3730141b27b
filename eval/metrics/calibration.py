"""Does a confidence of 0.8 mean right eight times in ten?

With the cases cut by confidence into bins of equal width, n_b of n cases in bin b:

    ECE = sum of n_b / n * |accuracy_b - mean confidence_b|
    Brier = 1/n * sum of (confidence - correct)²

Both are 0 at best. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017; Brier,
"Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
ECE grows with fewer cases in a bin, well calibrated or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

BINS = 10


class Judged(NamedTuple):
    """A confidence in [0, 1], and whether the answer was right."""

    confidence: float
    correct: bool


class Bin(NamedTuple):
    """`cases` with a confidence in (low, high]; the first bin has 0 too."""

    low: float
    high: float
    cases: int
    confidence: float
    accuracy: float


def reliability(cases: Sequence[Judged], bins: int = BINS) -> list[Bin]:
    """The bins that have cases, the lowest first."""
    filled: dict[int, list[Judged]] = {}
    for case in cases:
        filled.setdefault(max(math.ceil(case.confidence * bins) - 1, 0), []).append(case)
    return [
        Bin(
            place / bins,
            (place + 1) / bins,
            len(inside),
            fmean(case.confidence for case in inside),
            fmean(case.correct for case in inside),
        )
        for place, inside in sorted(filled.items())
    ]


def ece(cases: Sequence[Judged], bins: int = BINS) -> float | None:
    """Expected calibration error, in [0, 1]. None without cases."""
    if not cases:
        return None
    gaps = (each.cases * abs(each.accuracy - each.confidence) for each in reliability(cases, bins))
    return sum(gaps) / len(cases)


def brier(cases: Sequence[Judged]) -> float | None:
    """Mean squared error, in [0, 1]. None without cases."""
    return fmean((case.confidence - case.correct) ** 2 for case in cases) if cases else None
