"""Normalised discounted cumulative gain: `sum of 1 / log2(rank + 1)` over hits, over the best sum.

Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20(4), 2002; the
discount is that of trec_eval's `ndcg_cut`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence


def ndcg(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Of the first k of a ranking, best first, each id once; every relevant id gains 1.

    Raises ZeroDivisionError if nothing is relevant: then no ranking is better than another.
    """
    gained = _sum(rank for rank, i in enumerate(ranking[:k], start=1) if i in relevant)
    return gained / _sum(range(1, min(k, len(set(relevant))) + 1))


def _sum(ranks: Iterable[int]) -> float:
    return sum(1 / math.log2(rank + 1) for rank in ranks)
