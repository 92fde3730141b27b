import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_bot.caches import CacheBroken, Caches
from rag_bot.catalogue import Catalogue, Collection, Prepared
from rag_bot.database import Database
from rag_bot.lexical import Lexical
from rag_bot.vectors import VectorStore

Prepare = Callable[..., Prepared]
PUMP, LEAVE = "The pump pressure is 4 bar.", "Employees have 28 days of leave."


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    database = Database(tmp_path / "c.sqlite")
    yield Catalogue(database)
    database.close()


@pytest.fixture
def docs(catalogue: Catalogue, prepare: Prepare, word_embedder: Any) -> Collection:
    """Two live documents and a pending one."""
    made = catalogue.create_collection("docs", "f1")
    each = [
        prepare(made, word_embedder, "/pump.txt", PUMP, title="Pump"),
        prepare(made, word_embedder, "/leave.txt", LEAVE, "A second page."),
        prepare(made, word_embedder, "/pending.txt", "Not yet."),
        prepare(made, word_embedder, "/empty.txt", ""),
    ]
    catalogue.write_pending(made, each)
    catalogue.go_live(made, [each[0].document.id, each[1].document.id, each[3].document.id])
    return made


@pytest.fixture
def caches(tmp_path: Path, catalogue: Catalogue, docs: Collection) -> Iterator[Caches]:
    """Filled with what is live."""
    opened = Caches.open(tmp_path / "caches")
    opened.fill(catalogue, docs)
    yield opened
    opened.close()


def ids(catalogue: Catalogue, docs: Collection) -> list[str]:
    return [s.chunk.id for e in catalogue.entries(docs) for s in catalogue.chunks_of(e.id)]


def test_filled_caches_hold_what_is_live_and_nothing_else(
    caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    assert caches.sizes() == (3, 3)
    assert caches.lexical.ids() == set(ids(catalogue, docs))
    assert caches.differences(catalogue, docs) == []
    assert caches.lasting


def test_a_chunk_is_found_by_its_text_its_title_and_its_vector(
    caches: Caches, catalogue: Catalogue, docs: Collection, word_embedder: Any
) -> None:
    (pump,) = [i for i in ids(catalogue, docs) if "pump" in text_of(catalogue, docs, i)]
    assert [i for i, _ in caches.words("pressure", 5)] == [pump]
    assert caches.dense(word_embedder.encode([f"Pump\n{PUMP}"])[0], 1) == [
        (pump, pytest.approx(1, abs=1e-3))
    ]


def text_of(catalogue: Catalogue, docs: Collection, chunk_id: str) -> str:
    return catalogue.chunks(docs, [chunk_id])[chunk_id].chunk.text


def test_caches_opened_again_are_the_same(
    tmp_path: Path, caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    caches.close()
    again = Caches.open(tmp_path / "caches")
    assert again.differences(catalogue, docs) == []
    again.close()


def test_memory_says_what_the_disk_says(
    caches: Caches, catalogue: Catalogue, docs: Collection, word_embedder: Any
) -> None:
    memory = Caches.in_memory(catalogue, docs)
    assert not memory.lasting
    assert memory.sizes() == caches.sizes()
    for query in (PUMP, LEAVE, "a second pump"):
        assert memory.words(query, 5) == caches.words(query, 5)
        vector = word_embedder.encode([query])[0]
        here, there = memory.dense(vector, 5), caches.dense(vector, 5)
        assert dict(here) == pytest.approx(dict(there), abs=1e-5)
    memory.close()


def test_removing_leaves_no_difference_once_the_catalogue_has_it(
    caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    gone = catalogue.entries(docs)[1]
    assert gone.source == "/leave.txt"
    catalogue.take_away(docs, [gone.id])
    assert caches.differences(catalogue, docs) == [
        "the vector index: 2 of 1 vectors too many",
        "the lexical index: 2 of 1 texts too many",
    ]
    caches.remove(catalogue.leavings(docs))
    caches.remove(["nobody"])
    assert caches.differences(catalogue, docs) == []


def test_what_is_missing_wrong_or_too_much_is_counted(
    caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    first, second, third = ids(catalogue, docs)
    caches.vectors.replace([first], np.full((1, 256), 0.5, np.float32))
    assert caches.differences(catalogue, docs) == [
        "the vector index: 1 of 3 vectors are not what was written"
    ]
    caches.fill(catalogue, docs)
    assert caches.differences(catalogue, docs) == []
    caches.remove([second, third])
    assert caches.differences(catalogue, docs) == [
        "the vector index: 2 of 3 vectors are missing",
        "the lexical index: 2 of 3 texts are missing",
    ]
    caches.fill(catalogue, docs)
    caches.lexical.replace([first], ["nowhere"], ["something else"])
    assert caches.differences(catalogue, docs) == [
        "the lexical index: 1 of its sampled texts do not find themselves"
    ]


def test_ids_in_passing_may_be_there_or_not(
    caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    passing = frozenset(catalogue.passing(docs))
    assert len(passing) == 1
    assert list(caches.vector_differences(catalogue, docs, passing)) == []
    caches.add(catalogue, catalogue.pending(docs))
    assert list(caches.vector_differences(catalogue, docs, passing)) == []
    assert list(caches.vector_differences(catalogue, docs)) == [
        "the vector index: 1 of 3 vectors too many"
    ]


def test_the_words_alone_can_be_filled_again(
    tmp_path: Path, caches: Caches, catalogue: Catalogue, docs: Collection
) -> None:
    fresh = Caches(caches.vectors, Lexical(tmp_path / "fresh"))
    fresh.fill_lexical(catalogue, docs)
    assert fresh.differences(catalogue, docs) == []
    fresh.lexical.close()


def test_a_folder_that_cannot_be_one_is_a_broken_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheBroken):
        Caches.open(tmp_path / "file" / "caches")


def test_a_store_that_is_none_is_a_broken_cache(tmp_path: Path) -> None:
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(CacheBroken):
        Caches.open(tmp_path)


def open_files(folder: Path) -> list[Path]:
    links = [each.resolve() for each in Path("/proc/self/fd").iterdir() if each.exists()]
    return [link for link in links if link.is_relative_to(folder)]


def wait_until(true: Callable[[], bool]) -> None:
    """Chroma closes its files from threads of its own."""
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_when_one_cannot_be_opened_the_other_is_let_go_of(tmp_path: Path) -> None:
    (tmp_path / "lexical").mkdir()
    (tmp_path / "lexical" / "meta.json").write_text("{")
    with pytest.raises(CacheBroken):
        Caches.open(tmp_path)
    wait_until(lambda: not open_files(tmp_path))


class Panic(BaseException):
    """As PyO3 raises what panics in Rust: no Exception."""


@pytest.mark.parametrize("failing", [Panic, OSError, ValueError, RuntimeError])
def test_whatever_a_library_raises_is_a_broken_cache_with_its_words(
    caches: Caches, monkeypatch: pytest.MonkeyPatch, failing: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise failing("from Rust")

    for method in ("replace", "remove", "search", "vectors", "__len__"):
        monkeypatch.setattr(VectorStore, method, fail)
    for use in (
        lambda: caches.replace([], np.zeros((0, 4), np.float32)),
        lambda: caches.remove(["x"]),
        lambda: caches.dense(np.zeros(256, np.float32), 1),
        lambda: caches.sizes(),
    ):
        with pytest.raises(CacheBroken, match=f"{failing.__name__}: from Rust"):
            use()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_stops_the_program_is_no_broken_cache(
    caches: Caches, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise stop

    monkeypatch.setattr(VectorStore, "search", fail)
    with pytest.raises(stop):
        caches.dense(np.zeros(256, np.float32), 1)
