"""Precision at k: `|top k ∩ relevant| / k`.

Manning, Raghavan & Schütze, "Introduction to Information Retrieval", 2008, chapter 8.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence


def precision(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Share of relevant ids among the first k of a ranking, best first, each id once.

    A ranking shorter than k counts as if it were filled up with wrong ids, as in trec_eval.
    """
    return len(set(ranking[:k]) & set(relevant)) / k
