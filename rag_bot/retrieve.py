"""Finding: dense and lexical retrieval, fused, and what the found speaks of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rag_bot.catalogue import Collection
from rag_bot.config import Retrieval
from rag_bot.filler import bare
from rag_bot.index import Index
from rag_bot.mentions import followed
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
        names = index.names(collection)
    fused = fuse(lexical, dense, settings.dense_weight, candidates)
    fused = followed(query, fused, names, settings.mention_gain)
    return Found(fused[:limit], dense[0].score if dense else 0.0)


def fuse(
    lexical: Sequence[ScoredChunk], dense: Sequence[ScoredChunk], weight: float, depth: int
) -> list[ScoredChunk]:
    """A convex combination of both rankings' scores, in [0, 1]; `weight` is that of the dense one.

    Each score is scaled by the least that it can be, 0 of BM25 and -1 of a cosine, and the best
    that the query found: TM2C2 of Bruch, Gai & Ingber, "An Analysis of Fusion Functions for Hybrid
    Retrieval", ACM TOIS 42(1), 2023, with their weight of 0.8. Ranks alone, as reciprocal rank
    fusion takes them, don't tell a near miss from a far one.

    A chunk that one ranking of `depth` lacks has at most the last score of that ranking, and is
    given it. Ties keep the order of first appearance, lexical first: the words of the question
    decide.
    """
    chunks = {hit.chunk.id: hit.chunk for hit in [*lexical, *dense]}
    words, meaning = _scaled(lexical, 0.0, depth), _scaled(dense, -1.0, depth)
    scores = {i: (1 - weight) * words(i) + weight * meaning(i) for i in chunks}
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    return [ScoredChunk(chunks[i], scores[i], "hybrid") for i in ranked]


def _scaled(ranking: Sequence[ScoredChunk], least: float, depth: int) -> Callable[[str], float]:
    """A chunk's score as a share of the way from the least to the best."""
    if not ranking or ranking[0].score <= least:
        return lambda _: 0.0
    best = ranking[0].score
    scores = {hit.chunk.id: hit.score for hit in ranking}
    unseen = ranking[-1].score if len(ranking) >= depth else least
    return lambda chunk_id: (scores.get(chunk_id, unseen) - least) / (best - least)
