"""Average precision: `sum of precision at the rank of each hit / |relevant|`. Its mean is MAP.

Buckley & Voorhees, "Evaluating evaluation measure stability", SIGIR 2000; trec_eval's `map` and,
with k, `map_cut`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence


def average_precision(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int | None = None
) -> float:
    """Of a whole ranking or its first k, best first, each id once.

    Raises ZeroDivisionError if nothing is relevant: then there is nothing to find.
    """
    hits = [rank for rank, i in enumerate(ranking[:k], start=1) if i in relevant]
    return sum(found / rank for found, rank in enumerate(hits, start=1)) / len(set(relevant))
