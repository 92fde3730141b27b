"""Finding: dense and lexical retrieval, fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rag_bot.catalogue import Collection
from rag_bot.config import Retrieval
from rag_bot.filler import bare
from rag_bot.index import Index
from rag_bot.scope import Scope
from rag_bot.types import ScoredChunk

if TYPE_CHECKING:
    from rag_bot.embed import Embedder


class Found(NamedTuple):
    """What a query found: chunks, best first, and the cosine of the nearest one."""

    hits: list[ScoredChunk]
    cosine: float


def retrieve(
    index: Index,
    embedder: Embedder,
    collection: Collection,
    query: str,
    settings: Retrieval,
    limit: int | None = None,
    scopes: tuple[Scope, ...] = (),
) -> Found:
    """The best chunks for a standalone query; `limit` defaults to `top_k`.

    Only documents that fit all `scopes` are searched. Finds something for any query where they
    have any chunks: whether it is evidence is `rag_bot.abstain`'s question. Raises Flipped
    when the generation no longer answers.
    """
    limit = limit or settings.top_k
    candidates = max(settings.candidates, limit)
    if not query.strip():
        return Found([], 0.0)
    vector = embedder.encode([query])[0]
    with index.view():
        within = index.within(collection, scopes)
        dense = index.dense(collection, vector, candidates, within)
        lexical = index.lexical(collection, bare(query), candidates, within)
    # Lexical first: where ranks tie, the words of the question decide.
    fused = fuse([lexical, dense], settings.rrf_k)
    return Found(fused[:limit], dense[0].score if dense else 0.0)


def fuse(rankings: Sequence[Sequence[ScoredChunk]], k: float) -> list[ScoredChunk]:
    """Reciprocal rank fusion: `score = sum over rankings of 1 / (k + rank)`, rank from 1.

    Cormack, Clarke & Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods", SIGIR 2009. Ties keep the order of first appearance.
    """
    scores: dict[str, float] = {}
    chunks = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            chunks[hit.chunk.id] = hit.chunk
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (k + rank)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    return [ScoredChunk(chunks[i], scores[i], "hybrid") for i in ranked]
