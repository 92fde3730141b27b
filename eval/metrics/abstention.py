"""Does the bot keep silent when it should, and only then?

Abstaining is the positive decision, an unanswerable question the positive case:

    accuracy  = (abstained and unanswerable + answered and answerable) / all
    precision = abstained and unanswerable / abstained
    recall    = abstained and unanswerable / unanswerable
    F1        = 2 precision recall / their sum

Whether an answer is right plays no part. Wen et al., "Know Your Limits: A Survey of Abstention in
Large Language Models", TACL 13, 2025.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Decision(NamedTuple):
    """What one case was, and what was done with it."""

    answerable: bool
    abstained: bool


class Abstention(NamedTuple):
    """Each in [0, 1]; None where there is nothing to divide by."""

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def abstention(cases: Iterable[Decision]) -> Abstention:
    """All four. F1 is None only where nothing was unanswerable and nothing abstained from."""
    count = agreed = abstained = unanswerable = right = 0
    for case in cases:
        count += 1
        agreed += case.abstained != case.answerable
        abstained += case.abstained
        unanswerable += not case.answerable
        right += case.abstained and not case.answerable
    return Abstention(
        accuracy=_ratio(agreed, count),
        precision=_ratio(right, abstained),
        recall=_ratio(right, unanswerable),
        f1=_ratio(2 * right, abstained + unanswerable),  # the formula, multiplied out
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
