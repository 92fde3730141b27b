"""If only the surest answers were given, how many would be wrong?

Cases are covered in the order of their confidence. With n cases, of which m were answered:

    coverage after i = i / n,  risk after i = wrong among the first i / i
    AURC = 1/m * sum of risk after 1 … m

Lower is better. Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks",
NeurIPS 2017, and "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019.
There every case has an answer. Here, one abstained from is never covered: the curve ends at m / n
and AURC is the mean up to there, so read it beside the coverage. An answer to an unanswerable
question is wrong.

No threshold tells cases of the same confidence apart: the curve takes them at once, and AURC the
mean over their orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Case(NamedTuple):
    """`confidence` in any unit, more is surer. `correct` is ignored unless `answered`."""

    confidence: float
    correct: bool
    answered: bool


class Point(NamedTuple):
    """All answers with at least this confidence: their share of all cases, and the wrong ones'."""

    threshold: float
    coverage: float
    risk: float


def curve(cases: Sequence[Case]) -> list[Point]:
    """One point for each confidence, the surest first. Empty if nothing was answered."""
    thresholds, counts, wrong = _groups(cases)
    covered = counts.cumsum()
    points = zip(thresholds, covered / max(len(cases), 1), wrong.cumsum() / covered, strict=True)
    return [Point(*map(float, point)) for point in points]


def aurc(cases: Sequence[Case]) -> float | None:
    """Area under the curve, in [0, 1]. None if nothing was answered."""
    _, counts, wrong = _groups(cases)
    # On average over the orders of a group, each of its places has an equal part of its errors.
    errors = np.repeat(wrong / counts, counts.astype(int)).cumsum()
    return float(np.mean(errors / np.arange(1, len(errors) + 1))) if len(errors) else None


def coverage_at(cases: Sequence[Case], accuracy: float) -> float | None:
    """The largest coverage that a threshold reaches with so few wrong; 0 if none does.

    None without cases. The threshold is picked on the very cases, so the figure flatters.
    """
    if not cases:
        return None
    risk = 1 - accuracy + 1e-9  # for what binary fractions lose
    return max((point.coverage for point in curve(cases) if point.risk <= risk), default=0.0)


def _groups(cases: Sequence[Case]) -> tuple[Floats, Floats, Floats]:
    """Each confidence of an answer, surest first, how many have it, and how many are wrong."""
    answered = [case for case in cases if case.answered]
    confidences = np.array([case.confidence for case in answered], dtype=np.float64)
    wrong = np.array([not case.correct for case in answered], dtype=np.float64)
    negated, group = np.unique(-confidences, return_inverse=True)
    size = len(negated)
    counts = np.bincount(group, minlength=size).astype(np.float64)
    return -negated, counts, np.bincount(group, wrong, size).astype(np.float64)
