import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tantivy
from safetensors.numpy import save_file

from rag_bot import index as index_module
from rag_bot import models
from rag_bot.answer import Pipeline
from rag_bot.caches import LEXICAL, CacheBroken, Caches
from rag_bot.catalogue import Collection, Entry, Prepared
from rag_bot.config import Settings, load
from rag_bot.database import Database
from rag_bot.errors import (
    IndexBusy,
    IndexDamaged,
    IndexMismatch,
    Unavailable,
    UsageError,
)
from rag_bot.index import (
    CATALOGUE,
    Flipped,
    Index,
    Owner,
    context,
    fingerprint,
    indexed_text,
    owner,
)
from rag_bot.ledger import Origin
from rag_bot.scope import Scope, made
from rag_bot.seal import Seal
from rag_bot.types import Chunk
from rag_bot.vectors import MemoryVectors, VectorStore

Prepare = Callable[..., Prepared]
PUMP, LEAVE, LEASE = "/docs/pump.txt", "/docs/leave.txt", "/docs/lease.txt"
TEXTS = {
    PUMP: "The pump pressure is 4 bar.",
    LEAVE: "Employees have 28 days of leave.",
    LEASE: "The office lease ends in March.",
}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fill(prepare: Prepare, word_embedder: Any) -> Callable[[Index], Collection]:
    """Put three documents into a collection `docs`."""

    def into(index: Index) -> Collection:
        docs = index.make_collection("docs", "f1")
        index.add(docs, [prepare(docs, word_embedder, s, t) for s, t in TEXTS.items()])
        return docs

    return into


@pytest.fixture
def both(word_embedder: Any) -> Callable[[Index, Collection, str], list[list[str]]]:
    """The texts that dense and lexical retrieval find for a query, best first."""

    def find(index: Index, docs: Collection, query: str) -> list[list[str]]:
        vector = word_embedder.encode([query])[0]
        found = (index.dense(docs, vector, 10), index.lexical(docs, query, 10))
        return [[hit.chunk.text for hit in hits] for hits in found]

    return find


@pytest.fixture
def answers(word_embedder: Any) -> Callable[[Index], list[dict[str, float]]]:
    """For each text, every chunk's id and score, dense and lexical."""

    def find(index: Index) -> list[dict[str, float]]:
        docs = index.catalogue.collection("docs")
        assert docs
        vectors = word_embedder.encode(list(TEXTS.values()))
        return [
            {
                f"{hit.retriever} {hit.chunk.id}": round(hit.score, 3)
                for hit in [*index.dense(docs, vector, 9), *index.lexical(docs, text, 9)]
            }
            for vector, text in zip(vectors, TEXTS.values(), strict=True)
        ]

    return find


Fill = Callable[[Index], Collection]
Both = Callable[[Index, Collection, str], list[list[str]]]
Answers = Callable[[Index], list[dict[str, float]]]


def entry(index: Index, collection: Collection, source: str) -> Entry:
    (found,) = [each for each in index.catalogue.entries(collection) if each.source == source]
    return found


def sources(index: Index, collection: Collection) -> list[str]:
    return [each.source for each in index.catalogue.entries(collection)]


def folder_of(index: Index, collection: Collection) -> Path:
    return index.data_dir / "caches" / index.catalogue.caches(collection)


def at_once(*tasks: Callable[[], object], seconds: float = 60) -> None:
    """Run tasks in threads; raises what one of them raises, or if one hangs."""
    failures: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def in_another_process(code: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run code with `data_dir` and the usual names."""
    head = (
        "import os, signal, sys; from pathlib import Path; data_dir = Path(sys.argv[1])\n"
        "from rag_bot.caches import Caches; from rag_bot.errors import *\n"
        "from rag_bot.index import Index\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + code, str(data_dir)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of caches that are opened from now on, by name."""
    names: list[str] = []
    plain = VectorStore.__init__

    def noting(store: VectorStore, folder: Path) -> None:
        names.append(folder.parent.name)
        plain(store, folder)

    monkeypatch.setattr(VectorStore, "__init__", noting)
    return names


# Adding and removing


def test_what_was_added_is_found_by_both_retrievers(index: Index, fill: Fill, both: Both) -> None:
    docs = fill(index)
    dense, lexical = both(index, docs, "pump pressure")
    assert dense[0] == lexical[0] == TEXTS[PUMP]
    assert len(dense) == 3
    assert len(lexical) == 1


def test_scores_say_which_retriever_gave_them(index: Index, fill: Fill, word_embedder: Any) -> None:
    docs = fill(index)
    vector = word_embedder.encode([TEXTS[PUMP]])[0]
    (hit,) = index.dense(docs, vector, 1)
    assert (hit.retriever, hit.score) == ("dense", pytest.approx(1, abs=1e-3))
    assert {hit.retriever for hit in index.lexical(docs, "pump", 5)} == {"lexical"}


def test_removed_documents_are_found_no_more_and_leave_the_caches(
    index: Index, fill: Fill, both: Both
) -> None:
    docs = fill(index)
    index.remove(docs, [entry(index, docs, PUMP)])
    dense, lexical = both(index, docs, "pump pressure")
    assert TEXTS[PUMP] not in dense
    assert lexical == []
    assert index._pool.opened(docs).sizes() == (2, 2)
    assert index.catalogue.leavings(docs) == []


def test_a_removed_document_can_come_back(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    before = both(index, docs, "pump")
    index.remove(docs, [entry(index, docs, PUMP)])
    index.add(docs, [prepare(docs, word_embedder, PUMP, TEXTS[PUMP])])
    assert both(index, docs, "pump")[1] == before[1] == [TEXTS[PUMP]]


def test_a_new_version_replaces_the_old(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    index.add(docs, [prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")])
    assert both(index, docs, "pump")[1] == ["The pump now has 6 bar."]
    assert "The pump pressure is 4 bar." not in both(index, docs, "pump pressure 4 bar")[0]


def test_vectors_of_another_length_are_refused_both_ways(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    with pytest.raises(IndexMismatch, match="length 256, the embedder gives 7") as caught:
        index.dense(docs, np.ones(7, np.float32), 5)
    assert "ingest rebuild --collection docs" in caught.value.remedy
    other = prepare(docs, word_embedder, "/x.txt", "Text.")
    narrow = Prepared(other.document, other.chunks, other.vectors[:, :7], 1, 1, "text/plain")
    with pytest.raises(IndexMismatch):
        index.add(docs, [narrow])
    assert "/x.txt" not in sources(index, docs)


def test_what_the_catalogue_does_not_list_is_never_shown(
    index: Index, fill: Fill, both: Both, word_embedder: Any
) -> None:
    docs = fill(index)
    caches = index._pool.opened(docs)
    caches.lexical.replace(["stranger"], ["nowhere"], ["pump pump pump"])
    caches.vectors.replace(["stranger"], word_embedder.encode(["pump pump pump"]))
    dense, lexical = both(index, docs, "pump")
    assert lexical == [TEXTS[PUMP]]
    assert set(dense) == set(TEXTS.values())


def test_collections_are_searched_apart(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    other = index.make_collection("other", "f1")
    index.add(other, [prepare(other, word_embedder, "/x.txt", "Another pump entirely.")])
    assert both(index, other, "pump") == [["Another pump entirely."]] * 2
    assert "Another pump entirely." not in both(index, docs, "pump")[0]


def test_a_dropped_collection_can_be_made_anew(index: Index, fill: Fill, both: Both) -> None:
    docs = fill(index)
    index.drop(docs)
    assert index.catalogue.collection("docs") is None
    assert list((index.data_dir / "caches").iterdir()) == []
    again = index.make_collection("docs", "f2")
    assert both(index, again, "pump") == [[], []]


def test_writing_to_a_generation_that_is_no_more_is_refused(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    index.drop(docs)
    for write in (
        lambda: index.add(docs, [prepare(docs, word_embedder, "/x.txt", "Text.")]),
        lambda: index.remove(docs, []),
        lambda: index.compact(docs),
        lambda: index.flip(docs),
    ):
        with pytest.raises(Unavailable, match="'docs' is no more"):
            write()
    assert index.catalogue.collection("docs") is None
    assert list((index.data_dir / "caches").iterdir()) == []


def test_a_document_whose_write_failed_goes_with_its_older_version(
    index: Index,
    fill: Fill,
    both: Both,
    prepare: Prepare,
    word_embedder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = fill(index)
    old = entry(index, docs, PUMP)
    with monkeypatch.context() as patch:
        patch.setattr(Caches, "add", broken)
        with pytest.raises(Unavailable, match="can't be written"):
            index.add(docs, [prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")])
    index.remove(docs, [old], forget=[old])
    assert both(index, docs, "pump")[1] == []
    assert sources(index, docs) == [LEASE, LEAVE]
    assert index.catalogue.pending(docs) == []


def broken(*_: object, **__: object) -> Any:
    raise CacheBroken("OSError: No space left on device")


# Opening again


def test_an_index_opened_again_answers_the_same_and_makes_nothing_anew(
    settings: Settings, fill: Fill, answers: Answers, opened: list[str]
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        before, folder = answers(index), folder_of(index, docs)
    with Index(settings.data_dir) as index:
        assert answers(index) == before
        assert index.damaged == []
    assert opened == [folder.name] * 2


def test_a_process_that_only_read_and_was_killed_leaves_nothing_to_check(
    settings: Settings, fill: Fill, answers: Answers, opened: list[str]
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        before, folder = answers(index), folder_of(index, docs)
    done = in_another_process(
        "index = Index(data_dir); docs = index.collection('docs', 'f1')\n"
        "assert index.lexical(docs, 'pump', 5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        settings.data_dir,
    )
    assert done.returncode == -signal.SIGKILL
    opened.clear()
    with Index(settings.data_dir) as index:
        assert index._seal.intact(CATALOGUE)
        assert index._seal.intact(f"caches/{folder.name}")
        assert answers(index) == before
    assert opened == [folder.name]


@pytest.mark.parametrize("lost", ["", "chroma", "lexical"])
def test_a_lost_cache_is_rebuilt_from_the_catalogue(
    settings: Settings, fill: Fill, answers: Answers, lost: str
) -> None:
    with Index(settings.data_dir) as index:
        folder = folder_of(index, fill(index))
        before = answers(index)
    shutil.rmtree(folder / lost)
    with Index(settings.data_dir) as index:
        assert answers(index) == before
        assert [each.name for each in (settings.data_dir / "caches").iterdir()] != [folder.name]
    assert len(before) == 3


def test_damaged_caches_are_never_opened(
    settings: Settings, fill: Fill, answers: Answers, opened: list[str]
) -> None:
    with Index(settings.data_dir) as index:
        folder = folder_of(index, fill(index))
        before = answers(index)
    file = folder / "chroma" / "chroma.sqlite3"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    opened.clear()
    with Index(settings.data_dir) as index:
        assert answers(index) == before
    assert folder.name not in opened


def test_a_store_that_killed_its_process_is_not_opened_twice(
    settings: Settings, fill: Fill, answers: Answers, opened: list[str]
) -> None:
    with Index(settings.data_dir) as index:
        folder = folder_of(index, fill(index))
        before = answers(index)
    (settings.data_dir / "seal.json").unlink()
    done = in_another_process(
        "Caches.open = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "index = Index(data_dir); docs = index.collection('docs', 'f1')\n"
        "index.lexical(docs, 'pump', 5)\n",
        settings.data_dir,
    )
    assert done.returncode == -signal.SIGKILL
    assert (folder / "checking").exists()
    opened.clear()
    with Index(settings.data_dir) as index:
        assert answers(index) == before
    assert len(opened) == 1
    assert folder.name not in opened
    assert not folder.exists()


def test_a_cache_with_too_much_is_rebuilt(settings: Settings, fill: Fill, both: Both) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        index._pool.opened(docs).lexical.replace(["stranger"], ["nowhere"], ["pump pump pump"])
    with Index(settings.data_dir) as index:
        assert both(index, docs, "pump")[1] == [TEXTS[PUMP]]
        assert index._pool.opened(docs).sizes() == (3, 3)
        assert index.differences(docs) == []


def test_a_document_cut_off_before_it_went_live_is_finished_on_reopening(
    settings: Settings, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        new = prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")
        index.catalogue.write_pending(docs, [new])
        assert both(index, docs, "pump")[1] == [TEXTS[PUMP]]  # not before it is whole
    with Index(settings.data_dir) as index:
        assert both(index, docs, "pump")[1] == ["The pump now has 6 bar."]
        assert index.catalogue.pending(docs) == []
        assert index._pool.opened(docs).sizes() == (3, 3)


def test_leavings_of_a_cut_off_removal_are_swept_on_reopening(
    settings: Settings, fill: Fill, both: Both
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        index.catalogue.take_away(docs, [entry(index, docs, PUMP).id])
        assert both(index, docs, "pump")[1] == []
    with Index(settings.data_dir) as index:
        assert both(index, docs, "pump")[1] == []
        assert index._pool.opened(docs).sizes() == (2, 2)
        assert index.catalogue.leavings(docs) == []


def test_a_damaged_document_is_taken_out_and_named(
    settings: Settings, fill: Fill, both: Both
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
    file = settings.data_dir / CATALOGUE
    content = file.read_bytes()
    assert content.count(b"is 4 bar") == 1
    file.write_bytes(content.replace(b"is 4 bar", b"is 5 bar"))
    with Index(settings.data_dir) as index:
        assert index.damaged == [PUMP]
        assert both(index, docs, "pump")[1] == []
        assert TEXTS[PUMP] not in both(index, docs, "pump")[0]
        assert sources(index, docs) == [LEASE, LEAVE]
        assert index.ledger.rejections("docs")[PUMP].code == "index_damaged"
        assert index.differences(docs) == []
    with Index(settings.data_dir) as index:
        assert index.damaged == []
        assert sources(index, docs) == [LEASE, LEAVE]


@pytest.mark.parametrize("harm", ["lost", "empty"])
def test_a_lost_catalogue_is_no_new_index(settings: Settings, fill: Fill, harm: str) -> None:
    with Index(settings.data_dir) as index:
        fill(index)
    file = settings.data_dir / CATALOGUE
    kept = file.read_bytes()
    if harm == "lost":
        file.unlink()
    else:
        file.write_bytes(b"")
    with pytest.raises(IndexDamaged, match=CATALOGUE) as caught:
        Index(settings.data_dir)
    assert "put it back" in caught.value.remedy
    file.write_bytes(kept)
    with Index(settings.data_dir) as index:
        assert len(index.catalogue.collections()) == 1


def test_a_data_directory_of_schema_1_is_taken_over(
    settings: Settings, fill: Fill, answers: Answers, schema_1: str
) -> None:
    data_dir = settings.data_dir
    with Index(data_dir) as index:
        fill(index)
        before = answers(index)
    copied = sqlite3.connect(data_dir / CATALOGUE)
    shutil.rmtree(data_dir / "caches")
    (data_dir / "seal.json").unlink()
    with contextlib.closing(copied), contextlib.closing(sqlite3.connect(data_dir / "old")) as db:
        db.executescript("PRAGMA journal_mode = WAL;" + schema_1)
        for table in ("collections", "documents", "pages", "chunks"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            for row in copied.execute(f"SELECT {columns} FROM {table}").fetchall():
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        db.commit()
    (data_dir / "old").replace(data_dir / CATALOGUE)
    for name in ("chroma", "lexical/c1-g1"):
        (data_dir / name).mkdir(parents=True)
        (data_dir / name / "file").write_text("of the old version")
    with Index(data_dir) as index:
        assert answers(index) == before
        assert index.damaged == []
        docs = index.collection("docs", "f1")
        assert index.catalogue.damaged(docs) == []
        assert index.differences(docs) == []
        assert not (data_dir / "chroma").exists()
        assert not (data_dir / "lexical").exists()
    with Index(data_dir) as index:
        assert answers(index) == before


# Owners


def test_a_second_opener_is_told_who_has_it(settings: Settings) -> None:
    with Index(settings.data_dir, url="http://127.0.0.1:7860"):
        code = (
            "import sys; from pathlib import Path; from rag_bot.index import Index\n"
            "from rag_bot.errors import IndexBusy\n"
            "try: Index(Path(sys.argv[1]))\n"
            "except IndexBusy as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(settings.data_dir)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert f"in use by process {os.getpid()}, which serves at http://127.0.0.1:7860" in done.stdout
    assert str(settings.data_dir) in done.stdout


def test_a_second_opener_in_the_same_process_is_refused_too(settings: Settings) -> None:
    with Index(settings.data_dir):
        with pytest.raises(IndexBusy, match=f"process {os.getpid()}"):
            Index(settings.data_dir)
        with pytest.raises(IndexBusy):
            Index(settings.data_dir, wait=0.1)


def test_one_that_waits_gets_the_index_when_it_is_free(settings: Settings) -> None:
    first = Index(settings.data_dir)
    threading.Timer(0.3, first.close).start()
    with Index(settings.data_dir, wait=20) as second:
        assert second.token != first.token


def test_the_owner_is_known_while_it_owns(settings: Settings) -> None:
    assert owner(settings.data_dir) is None
    with Index(settings.data_dir) as index:
        assert owner(settings.data_dir) == Owner(os.getpid(), "", index.token)
        index.announce("http://here")
        assert owner(settings.data_dir) == Owner(os.getpid(), "http://here", index.token)
        note = settings.data_dir / "owner.json"
        assert note.stat().st_mode & 0o077 == 0  # it holds a secret
    assert owner(settings.data_dir) is None
    assert not note.exists()


def test_a_note_left_by_a_killed_owner_means_nothing(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "owner.json").write_text(json.dumps([1]))
    assert owner(settings.data_dir) is None
    with Index(settings.data_dir):
        assert owner(settings.data_dir).pid == os.getpid()


def test_a_data_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="file/data can't be used") as caught:
        Index(tmp_path / "file" / "data")
    assert "RAG_BOT_DATA_DIR" in caught.value.remedy


def test_a_broken_catalogue_does_not_keep_the_lock(settings: Settings) -> None:
    settings.data_dir.mkdir()
    broken = settings.data_dir / "catalogue.sqlite"
    broken.write_bytes(b"no database" * 500)
    with pytest.raises(Unavailable, match="can't be opened"):
        Index(settings.data_dir)
    broken.unlink()
    Index(settings.data_dir).close()


def test_another_fingerprint_is_refused_with_the_way_back(index: Index) -> None:
    index.make_collection("docs", "f1")
    for opening in (index.collection, index.make_collection):
        with pytest.raises(IndexMismatch, match="made with f1, the settings say f2") as caught:
            opening("docs", "f2")
        assert "--collection docs" in caught.value.remedy


def test_an_unknown_collection_is_refused_and_the_known_named(index: Index) -> None:
    index.make_collection("docs", "f1")
    with pytest.raises(UsageError, match="no collection 'dcos'") as caught:
        index.collection("dcos", "f1")
    assert "docs" in caught.value.remedy


# When the disk of the caches fails


def in_the_way(data_dir: Path) -> Path:
    """A file where the folder of the caches should be."""
    shutil.rmtree(data_dir / "caches")
    (data_dir / "caches").write_text("in the way")
    return data_dir / "caches"


def test_without_a_place_for_caches_the_answers_come_from_memory(
    settings: Settings, fill: Fill, answers: Answers, prepare: Prepare, word_embedder: Any
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        before = answers(index)
    file = in_the_way(settings.data_dir)
    with Index(settings.data_dir) as index:
        assert answers(index) == before
        assert isinstance(index._pool.opened(docs).vectors, MemoryVectors)
        assert index.differences(docs) == ["the caches can't be written: answers come from memory"]
        new = prepare(docs, word_embedder, "/new.txt", "A new pump.")
        for write in (
            lambda: index.add(docs, [new]),
            lambda: index.remove(docs, [entry(index, docs, PUMP)]),
            lambda: index.compact(docs),
        ):
            with pytest.raises(Unavailable, match=r"can't be written: .*caches") as caught:
                write()
            assert "still answers" in caught.value.remedy
        assert answers(index) == before
        file.unlink()
        index.add(docs, [new])
        assert index.differences(docs) == []
        assert index._pool.opened(docs).lasting
        assert "/new.txt" in sources(index, docs)
    with Index(settings.data_dir) as index:
        assert index.differences(docs) == []


class Panic(BaseException):
    """As PyO3 raises what panics in Rust: no Exception."""


@pytest.mark.parametrize("failing", [Panic, OSError, ValueError])
def test_a_cache_that_breaks_while_it_is_asked_is_made_anew_or_answered_from_memory(
    index: Index,
    fill: Fill,
    answers: Answers,
    failing: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "_FEW", 0)
    docs = fill(index)
    before = answers(index)
    failures = 1

    def search(store: VectorStore, vector: Any, limit: int) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise failing("from Rust")
        return plain(store, vector, limit)

    plain = VectorStore.search
    monkeypatch.setattr(VectorStore, "search", search)
    assert answers(index) == before
    assert index._pool.opened(docs).lasting
    failures = 1000
    assert answers(index) == before
    assert not index._pool.opened(docs).lasting
    failures = 0
    with contextlib.suppress(Unavailable):
        index.remove(docs, [])
    assert index._pool.opened(docs).lasting
    assert answers(index) == before
    assert index.differences(docs) == []


def test_a_vector_that_chroma_cannot_reach_is_found_among_few(
    index: Index, fill: Fill, word_embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = fill(index)
    vector = word_embedder.encode([TEXTS[PUMP]])[0]
    found = index.dense(docs, vector, 1)
    assert found[0].chunk.text == TEXTS[PUMP]

    def lost(store: VectorStore, vector: Any, limit: int) -> list[tuple[str, float]]:
        return [hit for hit in plain(store, vector, limit) if hit[0] != found[0].chunk.id]

    plain = VectorStore.search
    monkeypatch.setattr(VectorStore, "search", lost)
    assert index.dense(docs, vector, 1) == found
    monkeypatch.setattr(index_module, "_FEW", 0)
    assert index.dense(docs, vector, 1) != found


@pytest.mark.parametrize("scope", [(), (made(types=["txt"]),)], ids=["all", "within"])
def test_vectors_that_could_not_be_read_are_read_again(
    index: Index,
    fill: Fill,
    word_embedder: Any,
    monkeypatch: pytest.MonkeyPatch,
    scope: tuple[Scope, ...],
) -> None:
    docs = fill(index)
    vector = word_embedder.encode([TEXTS[PUMP]])[0]
    within = index.within(docs, scope)

    def fail(*_: object) -> None:
        raise Unavailable("the disk is slow", "wait")

    with monkeypatch.context() as broken:
        broken.setattr(index.catalogue, "vectors_within", fail)
        with pytest.raises(Unavailable):
            index.dense(docs, vector, 1, within)
    (hit,) = index.dense(docs, vector, 1, within)
    assert hit.chunk.text == TEXTS[PUMP]


@pytest.mark.parametrize("done", [False, True])
def test_a_write_that_fails_in_the_middle_shows_the_old_state_until_it_is_repeated(
    index: Index,
    fill: Fill,
    both: Both,
    prepare: Prepare,
    word_embedder: Any,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,
) -> None:
    """A failed operation of Chroma may have been carried out all the same."""
    docs = fill(index)
    new = prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")
    plain = VectorStore.replace

    def fail(store: VectorStore, chunk_ids: Sequence[str], vectors: Any) -> None:
        if done:
            plain(store, chunk_ids, vectors)
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(VectorStore, "replace", fail)
        with pytest.raises(Unavailable, match="No space left"):
            index.add(docs, [new])
        assert both(index, docs, "pump")[1] == [TEXTS[PUMP]]
        with pytest.raises(Unavailable):
            index.add(docs, [new])
        assert both(index, docs, "pump")[1] == [TEXTS[PUMP]]
    index.add(docs, [new])
    assert both(index, docs, "pump")[1] == ["The pump now has 6 bar."]
    assert index.differences(docs) == []
    assert index.catalogue.leavings(docs) == index.catalogue.pending(docs) == []


def test_a_removal_whose_caches_fail_is_gone_from_the_answers_and_finished_later(
    index: Index, fill: Fill, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = fill(index)
    with monkeypatch.context() as patch:
        patch.setattr("rag_bot.lexical.Lexical.remove", broken)
        with pytest.raises(Unavailable, match="No space left"):
            index.remove(docs, [entry(index, docs, PUMP)])
        assert both(index, docs, "pump")[1] == []
    assert both(index, docs, "pump")[1] == []
    index.compact(docs)
    assert index.catalogue.leavings(docs) == []
    assert index.differences(docs) == []


def test_a_compaction_without_room_leaves_the_old_caches_answering(
    index: Index, fill: Fill, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = fill(index)
    before, folder = answers(index), folder_of(index, docs)
    with monkeypatch.context() as patch:
        patch.setattr(Caches, "fill", broken)
        with pytest.raises(Unavailable, match="No space left"):
            index.compact(docs)
        assert answers(index) == before
        assert index._pool.opened(docs).lasting
    assert [each.name for each in (index.data_dir / "caches").iterdir()] == [folder.name]
    index.compact(docs)
    assert answers(index) == before
    assert not folder.exists()


def test_caches_from_memory_are_not_sealed(settings: Settings, fill: Fill) -> None:
    """Else what lies on the disk, whatever it is, would be trusted next time."""
    with Index(settings.data_dir) as index:
        docs = fill(index)
        name = index.catalogue.caches(docs)
    with Index(settings.data_dir) as index:
        index._pool.in_memory(docs)
        index._seal.lift(f"caches/{name}")
    with Index(settings.data_dir) as index:
        assert not index._seal.covers(f"caches/{name}")


# Deleting


def needles(prepared: Prepared) -> dict[str, bytes]:
    """All that would say that a document was here: its text, words, ids and vectors."""
    found = {"id": prepared.document.id, "path": prepared.document.source}
    found |= {"hash": prepared.document.sha256, "title": prepared.document.title}
    for page in prepared.document.pages:
        found |= {f"word {word}": word for word in page.text.lower().split() if len(word) > 9}
    found |= {f"chunk {n}": chunk.id for n, chunk in enumerate(prepared.chunks)}
    as_bytes = {label: text.encode() for label, text in found.items() if text}
    kept = prepared.vectors.astype(np.float16)
    again = kept.astype(np.float32)
    unit = again / np.linalg.norm(again, axis=1, keepdims=True)
    for kind, rows in (
        ("float16", kept),
        ("raw", prepared.vectors),
        ("float32", again),
        ("unit", unit),
    ):
        for n, row in enumerate(rows):
            # The numbers that are not zero, which is most of none: words in buckets.
            filled = np.flatnonzero(row)
            start = int(filled[len(filled) // 2 - 1])
            part = row[start : int(filled[len(filled) // 2]) + 1]
            as_bytes[f"vector {n} {kind}"] = part.tobytes()
    return as_bytes


def traces(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    """What of it is in any file below a folder."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return [
        f"{label} in {file.name}"
        for file in files
        for content in [file.read_bytes()]
        for label, needle in wanted.items()
        if needle in content
    ]


class DenseEmbedder:
    """A vector of numbers that no other text has."""

    dimension = 48

    def encode(self, texts: Sequence[str]) -> Any:
        rows = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
            for text in texts
        ]
        vectors = np.stack([row.normal(size=self.dimension) for row in rows]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def secret(name: str, sentences: int) -> str:
    """Text of words that nothing else has."""
    numbers = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    words = [f"{name}x{numbers.integers(10**9):09}" for _ in range(8 * sentences)]
    return " ".join(" ".join(words[i : i + 8]) + "." for i in range(0, len(words), 8))


@pytest.mark.parametrize("others", [30, 1100])
def test_a_deleted_document_is_in_no_file(
    settings: Settings, prepare: Prepare, others: int
) -> None:
    """With more than a thousand vectors Chroma has HNSW files beside its log."""
    embedder = DenseEmbedder()
    with Index(settings.data_dir) as index:
        docs = index.make_collection("docs", "f1")
        kept = prepare(docs, embedder, "/kept.txt", *(f"Kept page {n}." for n in range(others)))
        gone = [
            prepare(docs, embedder, f"/gone/secret{n}.txt", *pages, title=f"secrettitle{n}")
            for n, pages in enumerate(
                ([secret("one", 3)], [secret(f"two{p}", 40) for p in range(6)], [secret("tri", 1)])
            )
        ]
        index.add(docs, [gone[0], kept])
        index.add(docs, gone[1:])
        index.seal()
        wanted = {f"{n} {k}": v for n, each in enumerate(gone) for k, v in needles(each).items()}
        kinds = {label.split()[1] for label in traces(settings.data_dir, wanted)}
        assert {"id", "path", "hash", "title", "word", "chunk", "vector"} <= kinds
        origins = [Origin(each.document.source, each.document.sha256) for each in gone]
        index.ledger.record_feedback(
            collection="docs",
            question="What of onex?",
            answer={"text": gone[0].document.text},
            thumb=1,
            origins=origins[:1],
        )
        index.ledger.record_lineage("example", "e1", "docs", origins)
        run = index.ledger.begin_run("docs", "ingest")
        files = [{"path": origin.source} for origin in origins]
        index.ledger.end_run(run, "in part", {"files": files})

        entries = [each for each in index.catalogue.entries(docs) if each.source != "/kept.txt"]
        assert not index.owes(docs)
        index.remove(docs, entries, forget=entries)
        assert index.owes(docs)
        index.compact(docs)
        assert not index.owes(docs)
        assert traces(settings.data_dir, wanted) == []
        assert sources(index, docs) == ["/kept.txt"]
        assert index.differences(docs) == []
        assert index.ledger.feedback() == []
        assert [each.item for each in index.ledger.made(marked=True)] == ["e1"]
        assert index.ledger.runs()[0].report == {"files": []}
    assert traces(settings.data_dir, wanted) == []
    with Index(settings.data_dir) as index:
        assert len(index.lexical(docs, "kept page", 5)) == 5
    assert traces(settings.data_dir, wanted) == []


def test_of_two_twins_the_other_answers_on_and_both_leave_nothing(
    settings: Settings, prepare: Prepare
) -> None:
    embedder = DenseEmbedder()
    text = secret("twin", 5)
    with Index(settings.data_dir) as index:
        docs = index.make_collection("docs", "f1")
        one, two = (prepare(docs, embedder, f"/{name}.txt", text) for name in ("one", "two"))
        index.add(docs, [one, two, prepare(docs, embedder, "/kept.txt", "Kept.")])
        for each in (one, two):
            index.ledger.record_feedback(
                collection="docs",
                question=each.document.source,
                answer={},
                thumb=1,
                origins=[Origin(each.document.source, each.document.sha256)],
            )
        index.remove(
            docs, [entry(index, docs, "/one.txt")], forget=[entry(index, docs, "/one.txt")]
        )
        index.compact(docs)
        own = {k: v for k, v in needles(one).items() if k.split()[0] in ("id", "path", "chunk")}
        assert traces(settings.data_dir, own) == []
        word = text.split()[0]
        (hit,) = index.lexical(docs, word, 5)
        assert hit.chunk.document_id == two.document.id
        assert [each["question"] for each in index.ledger.feedback()] == ["/two.txt"]
        index.remove(
            docs, [entry(index, docs, "/two.txt")], forget=[entry(index, docs, "/two.txt")]
        )
        index.compact(docs)
        assert index.lexical(docs, word, 5) == []
        assert index.ledger.feedback() == []
        assert traces(settings.data_dir, needles(one) | needles(two)) == []


def test_a_dropped_collection_is_in_no_file(settings: Settings, prepare: Prepare) -> None:
    embedder = DenseEmbedder()
    with Index(settings.data_dir) as index:
        docs, other = (index.make_collection(name, "f1") for name in ("docs", "other"))
        gone = [prepare(docs, embedder, f"/{n}.txt", secret(f"drop{n}", 30)) for n in range(12)]
        index.add(docs, gone)
        index.add(other, [prepare(other, embedder, "/kept.txt", "Kept.")])
        index.drop(docs)
        wanted = {f"{n} {k}": v for n, each in enumerate(gone) for k, v in needles(each).items()}
        assert traces(settings.data_dir, wanted) == []
        assert sources(index, other) == ["/kept.txt"]


def test_a_deletion_stays_owed_while_somebody_reads_the_old_state(index: Index, fill: Fill) -> None:
    docs = fill(index)
    gone = [entry(index, docs, PUMP)]
    with contextlib.closing(sqlite3.connect(index.data_dir / CATALOGUE)) as reader:
        reader.isolation_level = None
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM pages").fetchone() == (3,)
        index.remove(docs, gone, forget=gone)
        index._database.one("PRAGMA busy_timeout = 100")
        with pytest.raises(Unavailable, match="another process reads it"):
            index.compact(docs)
        assert index.owes(docs)
    index.compact(docs)
    assert not index.owes(docs)
    assert not any(b"pump pressure" in f.read_bytes() for f in index.data_dir.rglob("*.sqlite*"))


def test_what_waits_for_a_deletion_keeps_nobody_waiting(index: Index, fill: Fill) -> None:
    docs = fill(index)
    pump = entry(index, docs, PUMP)
    said = {"collection": "docs", "question": "q?", "answer": {}, "thumb": 1}
    writers = [
        threading.Thread(target=lambda: index.record_feedback({pump.id}, **said)),
        threading.Thread(target=lambda: index.let_in("docs", PUMP, "")),
    ]
    with index._writing:  # as `compact` holds it while SQLite rewrites its file
        for each in writers:
            each.start()
            each.join(0.2)
            assert each.is_alive()
        assert index.catalogue.entries(docs)
    for each in writers:
        each.join(10)
    assert len(index.ledger.feedback()) == 1


def test_a_deleted_document_may_come_back_by_its_path_or_its_content(index: Index) -> None:
    for name in ("/a.txt", "/b.txt", "/c.txt"):
        index.ledger.keep_out("docs", name, f"hash of {name}")
    index.let_in("docs", "/a.txt", "hash of /b.txt")
    assert [each.source for each in index.ledger.forgotten("docs")] == ["/c.txt"]


def test_feedback_on_a_document_that_was_deleted_meanwhile_is_not_kept(
    index: Index, fill: Fill
) -> None:
    docs = fill(index)
    pump, lease = entry(index, docs, PUMP), entry(index, docs, LEASE)
    said = {"collection": "docs", "question": "q?", "answer": {"text": "a"}, "thumb": 1}
    assert index.record_feedback({pump.id, lease.id}, **said)
    assert set(index.ledger.origins("feedback", "1")) == {
        Origin(each.source, each.sha256) for each in (pump, lease)
    }
    index.remove(docs, [pump], forget=[pump])
    assert index.ledger.feedback() == []
    assert not index.record_feedback({pump.id, lease.id}, **said)
    assert index.ledger.feedback() == []


def test_edits_are_owed_when_they_add_up(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    many = prepare(docs, word_embedder, "/many.txt", *(f"Page {n}." for n in range(1001)))
    index.add(docs, [many])
    assert not index.owes(docs)
    index.add(docs, [prepare(docs, word_embedder, "/many.txt", "Short now.")])
    assert index.catalogue.debt(docs) == (1001, False)
    assert index.owes(docs)
    index.compact(docs)
    assert not index.owes(docs)
    assert index.catalogue.debt(docs) == (0, False)


def test_a_deletion_gives_up_a_generation_that_is_being_built(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    building = index.begin(docs, "f2")
    index.add(building, [prepare(building, word_embedder, PUMP, TEXTS[PUMP])])
    gone = [entry(index, docs, PUMP)]
    index.remove(docs, gone, forget=gone)
    assert index.catalogue.building() == []
    with pytest.raises(Unavailable, match="is no more"):
        index.flip(building)
    index.compact(docs)
    assert len(list((index.data_dir / "caches").iterdir())) == 1
    assert sources(index, docs) == [LEASE, LEAVE]


# Generations


def test_a_generation_is_gone_on_with_or_begun_anew(
    settings: Settings, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        begun = index.begin(docs, "f2")
        index.add(begun, [prepare(begun, word_embedder, PUMP, TEXTS[PUMP])])
        with pytest.raises(Flipped):
            index.lexical(begun, "pump", 5)
    with Index(settings.data_dir) as index:
        assert index.begin(docs, "f2") == begun
        assert sources(index, begun) == [PUMP]
        other = index.begin(docs, "f3")
        assert other.fingerprint == "f3"
        assert index.catalogue.building() == [other]
        assert sources(index, other) == []
        assert sources(index, docs) == sorted(TEXTS)
        index.drop(other)
        assert index.catalogue.building() == []
        assert len(list((settings.data_dir / "caches").iterdir())) == 1


def built(index: Index, docs: Collection, prepare: Prepare, embedder: Any, name: str) -> Collection:
    building = index.begin(docs, name)
    index.add(building, [prepare(building, embedder, s, t) for s, t in TEXTS.items()])
    return building


def test_after_a_flip_the_new_generation_answers_and_one_folder_is_left(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    adopted: list[bool] = []
    building = built(index, docs, prepare, word_embedder, "f2")
    index.flip(building, lambda: adopted.append(index.catalogue.is_live(building)))
    assert adopted == [True]
    assert index.collection("docs", "f2") == building
    with pytest.raises(Flipped):
        both(index, docs, "pump")
    assert both(index, building, "pump")[1] == [TEXTS[PUMP]]
    assert list((index.data_dir / "caches").iterdir()) == [folder_of(index, building)]
    with pytest.raises(IndexMismatch, match="ingest rebuild"):
        index.collection("docs", "f1")


def test_a_generation_whose_caches_are_wrong_is_mended_before_it_answers(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    building = built(index, docs, prepare, word_embedder, "f2")
    index._pool.opened(building).lexical.replace(["stranger"], ["nowhere"], ["pump"])
    index.flip(building)
    assert index.differences(building) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_before_or_after_the_flip_one_generation_is_whole(
    settings: Settings, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any, moment: str
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        building = built(index, docs, prepare, word_embedder, "f2")
    done = in_another_process(
        "from rag_bot.catalogue import Catalogue; plain = Catalogue.flip\n"
        "def flip(catalogue, building):\n"
        + ("    plain(catalogue, building)\n" if moment == "after" else "")
        + "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Catalogue.flip = flip\n"
        "index = Index(data_dir); index.flip(index.catalogue.building()[0])\n",
        settings.data_dir,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Index(settings.data_dir) as index:
        if moment == "before":
            assert both(index, docs, "pump")[1] == [TEXTS[PUMP]]
            assert index.catalogue.building() == [building]
            index.flip(building)
        assert both(index, building, "pump")[1] == [TEXTS[PUMP]]
        assert index.differences(building) == []
        assert list((settings.data_dir / "caches").iterdir()) == [folder_of(index, building)]


class Narrow:
    """Another embedder, with shorter vectors."""

    def __init__(self, wide: Any) -> None:
        self._wide = wide

    def encode(self, texts: Sequence[str]) -> Any:
        return self._wide.encode(texts)[:, :100] + np.float32(0.001)

    def has_word(self, word: str) -> bool:
        return bool(self._wide.has_word(word))


def test_who_searches_while_it_flips_sees_one_generation_and_no_error(
    settings: Settings,
    index: Index,
    models_dir: Path,
    tmp_path: Path,
    prepare: Prepare,
    word_embedder: Any,
) -> None:
    pipelines = []
    for name, embedder in (("wide", word_embedder), ("narrow", Narrow(word_embedder))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"name": name}))
        save_file({"none": np.zeros(1, np.float32)}, folder / "model.safetensors")
        flags = {
            "data_dir": settings.data_dir,
            "models.dir": models_dir,
            "models.embedder": str(folder),
            "collection": "docs",
        }
        own = load(flags=flags, environ={}).settings
        pipelines.append(Pipeline(own, index, lambda e=embedder: e, lambda: None))  # type: ignore[misc,return-value,arg-type]
    prints = [fingerprint(pipeline.settings) for pipeline in pipelines]
    index.make_collection("docs", prints[0])
    ids: list[set[str]] = []
    for print_, pipeline in zip(prints, pipelines, strict=True):
        live = index.catalogue.collection("docs")
        assert live
        where = Collection(0, "docs", 0, print_)
        made = [prepare(where, pipeline.embedder(), s, t) for s, t in TEXTS.items()]
        ids.append({each.document.id for each in made})
    first = index.collection("docs", prints[0])
    index.add(first, [prepare(first, word_embedder, s, t) for s, t in TEXTS.items()])
    seen: list[int] = []
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            for which, pipeline in enumerate(pipelines):
                # Settings that are not those of the index are refused; that is no mix.
                with contextlib.suppress(IndexMismatch):
                    found = pipeline.search("pump pressure")
                    assert {each.chunk.document_id for each in found} == ids[which]
                    assert found[0].source == PUMP
                    seen.append(which)

    def rebuild() -> None:
        try:
            for turn in (1, 0, 1, 0):
                before = len(seen)
                live = index.catalogue.collection("docs")
                assert live
                embedder = pipelines[turn].embedder()
                index.flip(built(index, live, prepare, embedder, prints[turn]))
                while seen[before:].count(turn) < 3:
                    time.sleep(0.01)
        finally:
            ended.set()

    at_once(search, search, rebuild)
    assert set(seen) == {0, 1}
    assert len(list((index.data_dir / "caches").iterdir())) == 1


# Backup and restore


def test_a_restored_index_is_what_was_backed_up(
    settings: Settings,
    tmp_path: Path,
    fill: Fill,
    answers: Answers,
    prepare: Prepare,
    word_embedder: Any,
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        before = answers(index)
        index.ledger.keep_out("docs", "/out.txt", "hash")
        index.backup(tmp_path / "backup")
        index.add(docs, [prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")])
        index.remove(docs, [entry(index, docs, LEASE)])
        index.make_collection("later", "f1")
        begun = index.begin(docs, "f2")
        assert answers(index) != before
        index.restore(tmp_path / "backup")
        assert answers(index) == before
        assert [each.name for each in index.catalogue.collections()] == ["docs"]
        assert begun not in index.catalogue.building()
        assert index.differences(docs) == []
        assert [each.source for each in index.ledger.forgotten("docs")] == ["/out.txt"]
        assert len(list((settings.data_dir / "caches").iterdir())) == 1
    with Index(settings.data_dir) as index:
        assert answers(index) == before
        assert index.damaged == []


def test_what_was_deleted_since_the_backup_stays_deleted(
    settings: Settings, tmp_path: Path, prepare: Prepare
) -> None:
    embedder = DenseEmbedder()
    with Index(settings.data_dir) as index:
        docs = index.make_collection("docs", "f1")
        text, twin = secret("since", 20), secret("twin", 3)
        gone = prepare(docs, embedder, "/gone.txt", text)
        renamed = prepare(docs, embedder, "/older-name.txt", text)
        twins = [prepare(docs, embedder, f"/{name}.txt", twin) for name in ("one", "two")]
        index.add(docs, [gone, renamed, *twins, prepare(docs, embedder, "/kept.txt", "Kept.")])
        for each in (gone, *twins):
            index.ledger.record_feedback(
                collection="docs",
                question=each.document.source,
                answer={},
                thumb=1,
                origins=[Origin(each.document.source, each.document.sha256)],
            )
        index.backup(tmp_path / "backup")
        index.remove(docs, [entry(index, docs, "/older-name.txt")])
        forget = [entry(index, docs, source) for source in ("/gone.txt", "/one.txt")]
        index.remove(docs, forget, forget=forget, keep_out=forget)
        index.compact(docs)
        other = index.make_collection("other", "f1")
        index.ledger.keep_out("other", "/elsewhere.txt", "hash")
        assert other
        index.restore(tmp_path / "backup")
        assert sources(index, docs) == ["/kept.txt", "/two.txt"]
        assert [each["question"] for each in index.ledger.feedback()] == ["/two.txt"]
        out = {each.source for each in index.ledger.forgotten("docs")}
        assert out == {"/gone.txt", "/one.txt"}
        assert [each.source for each in index.ledger.forgotten("other")] == ["/elsewhere.txt"]
        assert index.differences(docs) == []
        assert not index.owes(docs)
        wanted = {k: v for k, v in needles(gone).items() if k not in ("path", "hash")}
        assert traces(settings.data_dir, wanted) == []


def test_what_a_backup_caught_before_it_was_shown_and_was_deleted_since_stays_deleted(
    settings: Settings, tmp_path: Path, fill: Fill, prepare: Prepare
) -> None:
    embedder = DenseEmbedder()
    with Index(settings.data_dir) as index:
        docs = index.make_collection("docs", "f1")
        index.add(docs, [prepare(docs, embedder, "/kept.txt", "Kept.")])
        late = prepare(docs, embedder, "/late.txt", secret("late", 20))
        index.catalogue.write_pending(docs, [late])
        index.backup(tmp_path / "backup")
        index.finish(docs)
        gone = [entry(index, docs, "/late.txt")]
        index.remove(docs, gone, forget=gone, keep_out=gone)
        index.compact(docs)
        index.restore(tmp_path / "backup")
        index.finish(docs)
        assert sources(index, docs) == ["/kept.txt"]
        assert index.differences(docs) == []
        assert not index.owes(docs)
        wanted = {k: v for k, v in needles(late).items() if k not in ("path", "hash")}
        assert traces(settings.data_dir, wanted) == []
    with Index(settings.data_dir) as index:
        assert sources(index, docs) == ["/kept.txt"]


def test_a_restore_without_room_leaves_the_old_state_answering(
    index: Index,
    tmp_path: Path,
    fill: Fill,
    answers: Answers,
    prepare: Prepare,
    word_embedder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = fill(index)
    index.backup(tmp_path / "backup")
    shutil.copy(tmp_path / "backup", tmp_path / "again")
    index.add(docs, [prepare(docs, word_embedder, PUMP, "The pump now has 6 bar.")])
    before, folder = answers(index), folder_of(index, docs)
    for owner_, method in ((VectorStore, "replace"), (Database, "replace_with")):
        shutil.copy(tmp_path / "again", tmp_path / "backup")
        with monkeypatch.context() as patch:
            patch.setattr(owner_, method, no_room)
            with pytest.raises(Unavailable, match="room"):
                index.restore(tmp_path / "backup")
        assert answers(index) == before
        assert index._pool.opened(docs).lasting
        assert list((index.data_dir / "caches").iterdir()) == [folder]
        assert index.differences(docs) == []


def no_room(*_: object) -> None:
    raise Unavailable("there is no room", "make some")


def test_a_damaged_backup_is_refused_by_name(
    index: Index, tmp_path: Path, fill: Fill, answers: Answers
) -> None:
    fill(index)
    before = answers(index)
    index.backup(tmp_path / "backup")
    content = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(content.replace(b"is 4 bar", b"is 5 bar"))
    with pytest.raises(IndexDamaged, match=f"backup is damaged: 1 documents .* {PUMP}"):
        index.restore(tmp_path / "backup")
    assert answers(index) == before


def test_who_searches_while_it_is_restored_sees_the_old_state_or_the_new(
    index: Index, tmp_path: Path, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    index.backup(tmp_path / "backup")
    index.add(docs, [prepare(docs, word_embedder, s, f"New {t}") for s, t in TEXTS.items()])
    vector = word_embedder.encode(["pump"])[0]
    seen: list[set[bool]] = []
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            with index.view():
                found = [*index.dense(docs, vector, 9), *index.lexical(docs, "the pump of", 9)]
            assert len({hit.chunk.id for hit in found}) == 3
            seen.append({hit.chunk.text.startswith("New") for hit in found})

    def restore() -> None:
        try:
            while len(seen) < 5:
                time.sleep(0.01)
            index.restore(tmp_path / "backup")
            before = len(seen)
            while len(seen) < before + 5:
                time.sleep(0.01)
        finally:
            ended.set()

    at_once(search, search, restore)
    assert seen[0] == {True}
    assert seen[-1] == {False}
    assert all(len(each) == 1 for each in seen)


# Threads


def test_threads_search_while_one_writes(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any
) -> None:
    """Each search sees the old pump or the new one, never both and never none."""
    docs = fill(index)
    seen: list[list[str]] = []
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            seen.append([hit.chunk.text for hit in index.lexical(docs, "pump", 10)])

    def write() -> None:
        try:
            for n in range(5):
                index.add(docs, [prepare(docs, word_embedder, PUMP, f"Pump version {n}.")])
            index.compact(docs)
        finally:
            ended.set()

    at_once(search, search, write)
    assert len(seen) > 5
    assert {len(texts) for texts in seen} == {1}


def test_nothing_changes_while_somebody_views(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: Any
) -> None:
    docs = fill(index)
    viewing, written = threading.Event(), threading.Event()

    def read() -> None:
        with index.view():
            before = both(index, docs, "pump"), sources(index, docs)
            viewing.set()
            assert not written.wait(0.5)
            assert (both(index, docs, "pump"), sources(index, docs)) == before
        assert written.wait(30)
        assert both(index, docs, "pump")[1] == ["Another pump."]

    def write() -> None:
        assert viewing.wait(30)
        index.add(docs, [prepare(docs, word_embedder, PUMP, "Another pump.")])
        written.set()

    at_once(read, write)


def test_opening_writing_searching_and_caring_at_once_ends(
    settings: Settings, fill: Fill, prepare: Prepare, word_embedder: Any, tmp_path: Path
) -> None:
    """Whatever meets: caches brought up by readers, writers, compactions, seals, backups."""
    with Index(settings.data_dir) as index:
        fill(index)
        for name in ("two", "three"):
            made = index.make_collection(name, "f1")
            index.add(made, [prepare(made, word_embedder, "/x.txt", f"A pump of {name}.")])
    (settings.data_dir / "seal.json").unlink()  # so that all are checked when they are opened
    with Index(settings.data_dir) as index:
        rows = index.catalogue.collections()

        def read() -> None:
            for _ in range(6):
                for each in rows:
                    with index.view():
                        assert len(index.lexical(each, "pump", 5)) == 1
                        assert index.dense(each, word_embedder.encode(["pump"])[0], 5)

        def write() -> None:
            for n in range(3):
                for each in rows:
                    source = PUMP if each.name == "docs" else "/x.txt"
                    index.add(each, [prepare(each, word_embedder, source, f"Pump number {n}.")])

        def care() -> None:
            for n, each in enumerate(rows):
                index.compact(each)
                index.seal()
                index.backup(tmp_path / f"backup{n}")
                assert index.differences(each) == []

        at_once(read, read, write, care, seconds=120)
        for each in rows:
            assert [hit.chunk.text for hit in index.lexical(each, "pump", 5)] == ["Pump number 2."]
            assert index.differences(each) == []
        assert len(list((settings.data_dir / "caches").iterdir())) == 3


def test_a_reader_that_makes_caches_anew_spares_those_being_filled(
    index: Index, fill: Fill, prepare: Prepare, word_embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = fill(index)
    other = index.make_collection("other", "f1")
    index.add(other, [prepare(other, word_embedder, "/x.txt", "Another pump.")])
    index._pool.forget(other)
    shutil.rmtree(folder_of(index, other))
    filling, ended = threading.Event(), threading.Event()
    plain = Caches.fill

    def slow(caches: Caches, catalogue: Any, collection: Collection) -> None:
        if collection == docs:
            filling.set()
            assert ended.wait(30)
        plain(caches, catalogue, collection)

    def read() -> None:
        assert filling.wait(30)
        assert len(index.lexical(other, "pump", 5)) == 1  # and sweeps what belongs to nobody
        ended.set()

    monkeypatch.setattr(Caches, "fill", slow)
    at_once(lambda: index.compact(docs), read)
    assert index.differences(docs) == []
    assert index.differences(other) == []


def test_a_closed_index_says_so(settings: Settings, fill: Fill) -> None:
    index = Index(settings.data_dir)
    docs = fill(index)
    index.close()
    with pytest.raises(Unavailable, match="is closed") as caught:
        index.lexical(docs, "pump", 5)
    assert not isinstance(caught.value, IndexDamaged)


# Names


def test_the_fingerprint_changes_with_chunker_and_embedder(
    settings: Settings, models_dir: Path, tmp_path: Path
) -> None:
    base = fingerprint(settings)
    flags = {"models.dir": models_dir, "ingest.chunk_tokens": 100}
    assert fingerprint(load(flags=flags, environ={}).settings) != base
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    real = models.locate("all-minilm-l6-v2", models_dir) / "model.safetensors"
    (own / "model.safetensors").symlink_to(real)
    flags = {"models.dir": models_dir, "models.embedder": str(own)}
    assert fingerprint(load(flags=flags, environ={}).settings) != base
    assert fingerprint(settings) == base


@pytest.mark.parametrize(
    ("title", "heading", "expected"),
    [
        ("", "", ""),
        ("Lease", "", "Lease"),
        ("", "Rent", "Rent"),
        ("Lease", "Rent > Due", "Lease > Rent > Due"),
        ("Lease", "Lease > Rent", "Lease > Rent"),
    ],
)
def test_where_a_chunk_stands(title: str, heading: str, expected: str) -> None:
    chunk = Chunk("c", "d", "Text.", 1, 1, 0, 5, heading)
    assert context(chunk, title) == expected
    assert indexed_text(chunk, title) == (f"{expected}\nText." if expected else "Text.")


# Scopes


def put(
    index: Index, prepare: Prepare, word_embedder: Any, texts: dict[str, str], mtime_ns: int = 1
) -> Collection:
    docs = index.make_collection("docs", "f1")
    ready = [prepare(docs, word_embedder, source, text) for source, text in texts.items()]
    index.add(docs, [dataclasses.replace(each, mtime_ns=mtime_ns) for each in ready])
    return docs


def texts_within(
    index: Index, docs: Collection, word_embedder: Any, query: str, limit: int, *scopes: Scope
) -> tuple[list[str], list[str]]:
    within = index.within(docs, scopes)
    dense = index.dense(docs, word_embedder.encode([query])[0], limit, within)
    lexical = index.lexical(docs, query, limit, within)
    return [hit.chunk.text for hit in dense], [hit.chunk.text for hit in lexical]


@pytest.mark.parametrize("few", [0, 10_000], ids=["Chroma sifted", "exact"])
@pytest.mark.parametrize("tenths", [1, 5, 9])
def test_a_scope_is_searched_as_if_there_were_nothing_else(
    index: Index,
    prepare: Prepare,
    word_embedder: Any,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    tenths: int,
) -> None:
    monkeypatch.setattr(index_module, "_FEW", few)
    monkeypatch.setattr(index_module, "_TIES", 1000)
    words = ["pump", "valve", "lease", "rent", "leave", "days", "pressure", "office"]
    texts = {
        f"/docs/{n % 10}/{n}.txt": f"{' '.join(words[: 1 + n % 8])} number{n}" for n in range(80)
    }
    docs = put(index, prepare, word_embedder, texts)
    scope = made(patterns=[f"/docs/{n}/" for n in range(tenths)])
    wanted = [text for source, text in texts.items() if int(source.split("/")[2]) < tenths]
    everything = texts_within(index, docs, word_embedder, "pump valve lease", 80)
    for found, of_all in zip(
        texts_within(index, docs, word_embedder, "pump valve lease", 6, scope),
        everything,
        strict=True,
    ):
        assert len(found) == 6
        assert set(found) <= set(wanted)
        # Texts that score the same come in any order.
        best = [text.rsplit(maxsplit=1)[0] for text in of_all if text in wanted][:6]
        assert sorted(text.rsplit(maxsplit=1)[0] for text in found) == sorted(best)


def test_a_scope_of_nothing_finds_nothing(index: Index, fill: Fill, word_embedder: Any) -> None:
    docs = fill(index)
    assert texts_within(index, docs, word_embedder, "pump", 5, made(types=["pdf"])) == ([], [])
    assert index.within(docs, ()) is None


def test_a_scope_follows_what_is_added_touched_and_removed(
    index: Index, prepare: Prepare, word_embedder: Any
) -> None:
    def found(scope: Scope) -> set[str]:
        dense, lexical = texts_within(index, docs, word_embedder, "pump", 5, scope)
        assert set(lexical) <= set(dense)
        return set(dense)

    new = made(after="2025-01-01")
    docs = put(index, prepare, word_embedder, {PUMP: "pump one"})
    assert (found(new), found(made(types=["txt"]))) == (set(), {"pump one"})
    put(index, prepare, word_embedder, {LEASE: "pump two"}, mtime_ns=1_750_000_000 * 10**9)
    assert (found(new), found(made(types=["txt"]))) == ({"pump two"}, {"pump one", "pump two"})
    index.catalogue.touch(entry(index, docs, PUMP).id, 1, 1_750_000_000 * 10**9)
    assert found(new) == {"pump one", "pump two"}
    index.remove(docs, [entry(index, docs, LEASE)])
    assert found(new) == {"pump one"}
    put(index, prepare, word_embedder, {PUMP: "pump three"}, mtime_ns=1_750_000_000 * 10**9)
    assert found(new) == {"pump three"}


def test_equal_texts_do_not_wall_a_scope_in(
    index: Index, prepare: Prepare, word_embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_FEW", 0)
    same = {f"/same/{n}.txt": "pump pump" for n in range(40)}
    docs = put(index, prepare, word_embedder, same | {PUMP: "The pump is old."})
    dense, lexical = texts_within(
        index, docs, word_embedder, "pump", 3, made(patterns=["!/same/1*"])
    )
    assert len(dense) == len(lexical) == 3
    only = texts_within(index, docs, word_embedder, "pump", 3, made(documents=["pump.txt"]))
    assert only == (["The pump is old."], ["The pump is old."])


def test_the_words_of_an_older_version_are_indexed_anew_and_the_vectors_kept(
    settings: Settings, fill: Fill, word_embedder: Any
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        folder = folder_of(index, docs)
    words = folder / LEXICAL
    shutil.rmtree(words)
    words.mkdir()
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("body", stored=False, tokenizer_name="raw", index_option="freq")
    tantivy.Index(builder.build(), path=str(words))
    seal = Seal(settings.data_dir)
    seal.write([CATALOGUE, f"caches/{folder.name}"])
    with Index(settings.data_dir) as index:
        scope = made(documents=["pump.txt"])
        found = texts_within(index, docs, word_embedder, "The pressure of the lease", 5, scope)
        assert found == ([TEXTS[PUMP]], [TEXTS[PUMP]])
        assert folder_of(index, docs) == folder
        assert index.differences(docs) == []
