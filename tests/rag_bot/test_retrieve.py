from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.catalogue import Collection, Prepared
from rag_bot.config import Retrieval
from rag_bot.embed import Embedder
from rag_bot.index import Index
from rag_bot.retrieve import fuse, retrieve
from rag_bot.types import Chunk, ScoredChunk


def ranking(**scores: float) -> list[ScoredChunk]:
    return [ScoredChunk(Chunk(n, "d", n, 1, 1, 0, 1), s, "dense") for n, s in scores.items()]


def fused(lexical: list[ScoredChunk], dense: list[ScoredChunk], depth: int = 9) -> dict[str, float]:
    return {hit.chunk.id: hit.score for hit in fuse(lexical, dense, 0.8, depth)}


def test_fusion_worked_by_hand() -> None:
    """BM25 by its best, 20; cosines from -1 to their best, 0.6: a range of 1.6.

    a: 0.2 * 20/20 + 0.8 * 1.2/1.6; b: 0.2 * 5/20 + 0.8 * 1.6/1.6. What a whole ranking lacks has
    nothing of it: c has 0.2 * 10/20, d 0.8 * 1.4/1.6.
    """
    scores = fused(ranking(a=20, c=10, b=5), ranking(b=0.6, d=0.4, a=0.2))
    assert scores == pytest.approx({"b": 0.85, "a": 0.8, "d": 0.7, "c": 0.1})
    assert list(scores) == ["b", "a", "d", "c"]
    hits = fuse(ranking(a=20), ranking(a=0.6), 0.8, 9)
    assert [(hit.chunk.id, hit.score, hit.retriever) for hit in hits] == [("a", 1.0, "hybrid")]


def test_what_a_ranking_was_too_short_for_has_its_last_score() -> None:
    scores = fused(ranking(a=20, b=10), ranking(c=0.6, d=0.5), depth=2)
    assert scores["a"] == pytest.approx(0.2 + 0.8 * 1.5 / 1.6)
    assert scores["c"] == pytest.approx(0.2 * 0.5 + 0.8)


def test_a_near_miss_counts_more_than_its_rank_says() -> None:
    """Second in both, hardly worse in either, against first in one and far off in the other."""
    lexical, dense = ranking(a=20, b=19.9, c=2), ranking(c=0.6, b=0.59, a=-0.2)
    assert next(iter(fused(lexical, dense))) == "b"


def test_a_tie_keeps_the_order_of_appearance() -> None:
    assert [hit.chunk.id for hit in fuse(ranking(x=3, a=3), ranking(a=1, x=1), 0.5, 2)] == [
        "x",
        "a",
    ]


def test_without_words_or_without_vectors_the_other_decides() -> None:
    assert list(fused([], ranking(a=0.5, b=0.1))) == ["a", "b"]
    assert list(fused(ranking(a=5, b=1), [])) == ["a", "b"]
    assert list(fused(ranking(b=0), ranking(a=-1))) == ["b", "a"]


def test_fusing_nothing_is_nothing() -> None:
    assert fuse([], [], 0.8, 100) == []


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 50)),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-1, 1)),
    st.floats(0, 1),
    st.integers(1, 8),
)
def test_scores_lie_between_0_and_1_and_all_are_kept(
    words: dict[str, float], meaning: dict[str, float], weight: float, depth: int
) -> None:
    lexical, dense = (
        sorted(ranking(**each), key=lambda hit: -hit.score) for each in (words, meaning)
    )
    hits = fuse(lexical, dense, weight, depth)
    assert {hit.chunk.id for hit in hits} == {*words, *meaning}
    assert all(-1e-9 <= hit.score <= 1 + 1e-9 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.fixture
def docs(index: Index, embedder: Embedder, prepare: Callable[..., Prepared]) -> Collection:
    made = index.make_collection("docs", "f1")
    texts = {
        "/leave.txt": "Employees get 28 days of paid leave each year.",
        "/pump.txt": "Error E-417 means that the pump runs dry.",
        "/lease.txt": "The rent is due on the first of each month.",
    }
    index.add(made, [prepare(made, embedder, s, t) for s, t in texts.items()])
    return made


def test_meaning_finds_what_words_do_not(
    index: Index, docs: Collection, embedder: Embedder
) -> None:
    found = retrieve(index, embedder, docs, "How much vacation do workers receive?", Retrieval())
    assert "28 days" in found.hits[0].chunk.text
    assert found.cosine > 0.3


def test_a_code_finds_its_page(index: Index, docs: Collection, embedder: Embedder) -> None:
    found = retrieve(index, embedder, docs, "E-417", Retrieval())
    assert "E-417" in found.hits[0].chunk.text
    # The best in both rankings.
    assert found.hits[0].score == pytest.approx(1)


def test_the_number_of_hits_is_top_k_unless_said(
    index: Index, docs: Collection, embedder: Embedder
) -> None:
    settings = Retrieval(top_k=2, candidates=1)
    assert len(retrieve(index, embedder, docs, "rent", settings).hits) == 2
    assert len(retrieve(index, embedder, docs, "rent", settings, limit=3).hits) == 3


def test_an_empty_query_or_collection_finds_nothing(
    index: Index, docs: Collection, embedder: Embedder
) -> None:
    assert retrieve(index, embedder, docs, " \n", Retrieval()) == ([], 0.0)
    empty = index.make_collection("empty", "f1")
    assert retrieve(index, embedder, empty, "rent", Retrieval()) == ([], 0.0)
