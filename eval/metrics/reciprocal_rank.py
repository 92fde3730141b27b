"""Reciprocal rank: `1 / rank` of the first relevant id. Its mean over questions is MRR.

Voorhees, "The TREC-8 Question Answering Track Report", TREC 1999.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence


def reciprocal_rank(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Of the first relevant id among the first k of a ranking, best first; 0 if there is none."""
    return next((1 / rank for rank, i in enumerate(ranking[:k], start=1) if i in relevant), 0.0)
