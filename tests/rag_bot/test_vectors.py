from pathlib import Path

import numpy as np
import pytest

from rag_bot.vectors import VectorStore, open_client

AXES = np.eye(4, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(open_client(tmp_path / "chroma"), "c1-g1")


def test_the_nearest_comes_first_with_its_cosine(store: VectorStore) -> None:
    store.replace(["x", "y", "z"], AXES[:3])
    query = np.array([0.8, 0.6, 0, 0], dtype=np.float32)
    found = store.search(query, 2)
    assert [chunk_id for chunk_id, _ in found] == ["x", "y"]
    assert [score for _, score in found] == pytest.approx([0.8, 0.6], abs=1e-6)


def test_an_empty_store_finds_nothing(store: VectorStore) -> None:
    assert store.search(AXES[0], 5) == []
    assert len(store) == 0


def test_asking_for_more_than_there_is_gives_what_there_is(store: VectorStore) -> None:
    store.replace(["x"], AXES[:1])
    assert len(store.search(AXES[0], 50)) == 1


def test_replacing_moves_a_vector(store: VectorStore) -> None:
    store.replace(["x", "y"], AXES[:2])
    store.replace(["x"], AXES[2:3])
    assert store.search(AXES[2], 1) == [("x", pytest.approx(1.0, abs=1e-6))]
    assert len(store) == 2


def test_removing_forgets_and_unknown_ids_are_no_error(store: VectorStore) -> None:
    store.replace(["x", "y"], AXES[:2])
    store.remove(["x", "nobody"])
    assert [chunk_id for chunk_id, _ in store.search(AXES[0], 5)] == ["y"]
    store.remove([])
    assert len(store) == 1


def test_more_than_chromas_largest_batch_goes_in_and_out(store: VectorStore) -> None:
    store._batch = 7
    random = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    names = [str(n) for n in range(20)]
    store.replace(names, random)
    assert len(store) == 20
    store.remove(names[:15])
    assert {chunk_id for chunk_id, _ in store.search(AXES[0], 20)} == set(names[15:])


def test_a_dropped_collection_is_empty_when_made_again(tmp_path: Path) -> None:
    client = open_client(tmp_path / "chroma")
    store = VectorStore(client, "c1-g1")
    store.replace(["x"], AXES[:1])
    store.drop()
    assert len(VectorStore(client, "c1-g1")) == 0


def test_collections_are_apart(tmp_path: Path) -> None:
    client = open_client(tmp_path / "chroma")
    one, two = VectorStore(client, "c1-g1"), VectorStore(client, "c2-g1")
    one.replace(["x"], AXES[:1])
    assert two.search(AXES[0], 5) == []


def test_no_text_goes_into_chroma(store: VectorStore) -> None:
    store.replace(["x"], AXES[:1])
    held = store._collection.get(include=["documents", "metadatas"])
    assert held["documents"] == [None]
    assert held["metadatas"] == [None]
