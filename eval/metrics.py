"""Ranking metrics over binary relevance.

`ranking` is a list of ids, best first, each once; `relevant` the ids that should be found.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def recall(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant ids among the first k: `|top k ∩ relevant| / |relevant|`."""
    return len(set(ranking[:k]) & set(relevant)) / len(relevant)


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """`1 / rank` of the first relevant id among the first k, else 0; its mean is MRR@k."""
    return next((1 / rank for rank, i in enumerate(ranking[:k], 1) if i in relevant), 0.0)


def ndcg(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain: `sum 1 / log2(rank + 1)` over hits, over the best.

    Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """
    gain = sum(1 / math.log2(rank + 1) for rank, i in enumerate(ranking[:k], 1) if i in relevant)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / best
