from collections.abc import Callable

import pytest

from rag_bot.catalogue import Collection, Prepared
from rag_bot.config import Retrieval
from rag_bot.embed import Embedder
from rag_bot.index import Index
from rag_bot.retrieve import fuse, retrieve
from rag_bot.types import Chunk, ScoredChunk


def ranking(*names: str) -> list[ScoredChunk]:
    return [ScoredChunk(Chunk(n, "d", n, 1, 1, 0, 1), 9.0, "dense") for n in names]


def test_fusion_worked_by_hand() -> None:
    """With k = 10: b has 1/12 + 1/11, a has 1/11, d has 1/12, c has 1/13."""
    fused = fuse([ranking("a", "b", "c"), ranking("b", "d")], 10)
    assert [hit.chunk.id for hit in fused] == ["b", "a", "d", "c"]
    assert [hit.score for hit in fused] == pytest.approx([23 / 132, 1 / 11, 1 / 12, 1 / 13])
    assert {hit.retriever for hit in fused} == {"hybrid"}


def test_a_tie_keeps_the_order_of_appearance() -> None:
    """Both have 1/61 + 1/62 = 0.032523 with the paper's k = 60."""
    fused = fuse([ranking("a", "b"), ranking("b", "a")], 60)
    assert [hit.chunk.id for hit in fused] == ["a", "b"]
    assert fused[0].score == fused[1].score == pytest.approx(0.0325225)


def test_a_larger_k_lets_agreement_beat_a_single_first_place() -> None:
    """a: 1/(k+1); b: 2/(k+3). At k = 0.5 that is 0.667 to 0.571, at k = 10 0.091 to 0.154."""
    rankings = [ranking("a", "x", "b"), ranking("y", "z", "b")]
    assert fuse(rankings, 0.5)[0].chunk.id == "a"
    assert fuse(rankings, 10)[0].chunk.id == "b"


def test_fusing_nothing_is_nothing() -> None:
    assert fuse([], 10) == fuse([[], []], 10) == []


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
    found = retrieve(index, embedder, docs, "E-417", Retrieval(rrf_k=10))
    assert "E-417" in found.hits[0].chunk.text
    # First in both rankings with rrf_k = 10.
    assert found.hits[0].score == pytest.approx(2 / 11)


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
