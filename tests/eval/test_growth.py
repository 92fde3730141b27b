"""Made-up documents are documents: what the index relies on holds for them."""

from __future__ import annotations

import numpy as np

from eval import growth
from rag_bot.catalogue import Collection
from rag_bot.index import Index

SENTENCES = [f"Pump {number} needs a filter every {number % 7} months." for number in range(50)]


def collection(index: Index) -> Collection:
    return index.make_collection("default", "made-up")


def test_made_up_documents_hold_the_chunks_asked_for_and_their_offsets(index: Index) -> None:
    made = list(growth.made_up(collection(index), 123, SENTENCES, 8, seed=0))
    assert [len(each.chunks) for each in made] == [100, 23]
    for each in made:
        for chunk in each.chunks:
            assert each.document.text[chunk.char_start : chunk.char_end] == chunk.text
            assert chunk.text in each.document.pages[chunk.page_start - 1].text
        assert np.allclose(np.linalg.norm(each.vectors, axis=1), 1)
    assert len({chunk.id for each in made for chunk in each.chunks}) == 123


def test_the_same_seed_makes_the_same_documents(index: Index) -> None:
    held = collection(index)
    one, same = (next(growth.made_up(held, 7, SENTENCES, 8, seed=1)) for _ in range(2))
    other = next(growth.made_up(held, 7, SENTENCES, 8, seed=2))
    assert one.document == same.document
    assert np.array_equal(one.vectors, same.vectors)
    assert one.document.text != other.document.text
    assert not np.array_equal(one.vectors, other.vectors)


def test_the_index_takes_them_and_finds_them(index: Index) -> None:
    held = collection(index)
    made = list(growth.made_up(held, 120, SENTENCES, 8, seed=0))
    index.add(held, made)
    assert index.catalogue.chunk_count(held) == 120
    first = made[0].chunks[0]
    assert index.dense(held, made[0].vectors[0], 1)[0].chunk.id == first.id
