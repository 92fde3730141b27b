"""Area under the ROC curve: how often a positive case scores above a negative one, ties half.

    AUROC = (sum of the positives' ranks - P (P + 1) / 2) / (P N)

0.5 is chance. Hanley & McNeil, "The Meaning and Use of the Area under a Receiver Operating
Characteristic (ROC) Curve", Radiology 143, 1982.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """One score for each case, more for positives. None unless there are cases of both kinds."""
    cases = sorted(zip(scores, positive, strict=True))
    positives = sum(positive)
    negatives = len(cases) - positives
    if not positives or not negatives:
        return None
    ranks = 0.0
    passed = 0
    for _, group in groupby(cases, key=lambda case: case[0]):
        tied = [is_positive for _, is_positive in group]
        ranks += sum(tied) * (passed + (len(tied) + 1) / 2)  # all have their mean rank
        passed += len(tied)
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
