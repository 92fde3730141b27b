"""Recall at k: `|top k ∩ relevant| / |relevant|`.

Manning, Raghavan & Schütze, "Introduction to Information Retrieval", 2008, chapter 8.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence


def recall(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Share of the relevant ids among the first k of a ranking, best first, each id once.

    Raises ZeroDivisionError if nothing is relevant: then there is nothing to find.
    """
    return len(set(ranking[:k]) & set(relevant)) / len(set(relevant))
