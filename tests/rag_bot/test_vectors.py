import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rag_bot.catalogue import Vectors
from rag_bot.vectors import MemoryVectors, VectorStore

AXES = np.eye(4, dtype=np.float32)
Store = VectorStore | MemoryVectors


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    opened = VectorStore(tmp_path / "chroma")
    yield opened
    opened.close()


@pytest.fixture(params=["disk", "memory"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = VectorStore(tmp_path / "chroma") if request.param == "disk" else MemoryVectors()
    yield opened
    opened.close()


def some(count: int, dimension: int = 4) -> Vectors:
    return np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)


def names(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def test_the_nearest_comes_first_with_its_cosine(either: Store) -> None:
    either.replace(["x", "y", "z"], AXES[:3])
    query = np.array([0.8, 0.6, 0, 0], dtype=np.float32)
    found = either.search(query, 2)
    assert [chunk_id for chunk_id, _ in found] == ["x", "y"]
    assert [score for _, score in found] == pytest.approx([0.8, 0.6], abs=1e-6)


def test_a_cosine_does_not_depend_on_length(either: Store) -> None:
    either.replace(["x", "y"], AXES[:2] * np.array([[0.5], [3.0]], np.float32))
    found = either.search(np.array([8, 6, 0, 0], dtype=np.float32), 2)
    assert [chunk_id for chunk_id, _ in found] == ["x", "y"]
    assert [score for _, score in found] == pytest.approx([0.8, 0.6], abs=1e-6)


def test_an_empty_store_finds_nothing(either: Store) -> None:
    assert either.search(AXES[0], 5) == []
    assert len(either) == 0


def test_asking_for_more_than_there_is_gives_what_there_is(either: Store) -> None:
    either.replace(["x"], AXES[:1])
    assert len(either.search(AXES[0], 50)) == 1


def test_memory_finds_what_the_disk_finds(tmp_path: Path) -> None:
    disk, memory = VectorStore(tmp_path / "chroma"), MemoryVectors()
    for store in (disk, memory):
        store.replace(names(150), some(300, 16)[:150])
        store.replace([str(n) for n in range(150, 300)], some(300, 16)[150:])
    assert len(memory) == len(disk) == 300
    for query in some(20, 16):
        there, here = disk.search(query, 10), memory.search(query, 10)
        assert [i for i, _ in there] == [i for i, _ in here]
        assert [s for _, s in there] == pytest.approx([s for _, s in here], abs=1e-5)
    disk.close()


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
    assert store._batch >= 1000
    store._batch = 7
    store.replace(names(20), some(20))
    assert len(store) == 20
    held = store.vectors(names(20))
    assert all(np.allclose(held[str(n)], row, atol=1e-6) for n, row in enumerate(some(20)))
    store.remove(names(15))
    assert {chunk_id for chunk_id, _ in store.search(AXES[0], 20)} == set(names(20)[15:])


def test_the_vectors_held_can_be_read_and_unknown_ones_are_left_out(store: VectorStore) -> None:
    store.replace(["x", "y"], AXES[:2])
    held = store.vectors(["y", "nobody"])
    assert list(held) == ["y"]
    assert held["y"] == pytest.approx(AXES[1])
    assert store.vectors([]) == {}


def test_what_was_put_in_is_there_when_opened_again(tmp_path: Path) -> None:
    first = VectorStore(tmp_path / "chroma")
    first.replace(names(1100), some(1100))  # more than stay in Chroma's log
    first.close()
    again = VectorStore(tmp_path / "chroma")
    assert len(again) == 1100
    assert [i for i, _ in again.search(some(1100)[7], 1)] == ["7"]
    again.close()


def test_a_closed_store_lets_go_of_its_files(tmp_path: Path) -> None:
    def open_files() -> list[str]:
        links = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
        return [str(link) for link in links if link.is_relative_to(tmp_path)]

    store = VectorStore(tmp_path / "chroma")
    store.replace(names(1100), some(1100))
    assert open_files()
    store.close()
    ends = time.monotonic() + 20  # Chroma closes its files from threads of its own
    while open_files():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_folders_are_apart(tmp_path: Path) -> None:
    one, two = VectorStore(tmp_path / "one"), VectorStore(tmp_path / "two")
    one.replace(["x"], AXES[:1])
    assert two.search(AXES[0], 5) == []
    one.close()
    two.replace(["y"], some(1, 8))  # of another length
    assert len(two) == 1
    two.close()


def test_no_text_goes_into_chroma(store: VectorStore) -> None:
    store.replace(["x"], AXES[:1])
    held = store._collection.get(include=["documents", "metadatas"])
    assert held["documents"] == [None]
    assert held["metadatas"] == [None]


def test_what_was_cleared_at_opening_is_not_written_again(tmp_path: Path) -> None:
    """Chroma writes the room for the first vectors as it finds it in memory."""
    folder = tmp_path / "chroma"
    first = VectorStore(folder)
    first.replace(names(40), some(40))
    first.close()
    again = VectorStore(folder)
    files = sorted(folder.glob("*/*.bin"))
    written = [each.stat().st_mtime_ns for each in files]
    assert files
    assert not any(folder.glob("*/data_level0.bin").__next__().read_bytes())
    assert len(again) == 40
    again.search(some(1)[0], 3)
    again.vectors(names(3))
    again.close()
    assert [each.stat().st_mtime_ns for each in files] == written


def test_what_is_put_in_while_it_is_searched_takes_no_other_s_place(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace(["old", "new"], AXES[:2])
    monkeypatch.setattr(VectorStore, "__len__", lambda _: 1)  # as counted before "new" came
    assert {chunk_id for chunk_id, _ in store.search(AXES[1], 5)} == {"old", "new"}
