import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from chromadb.api.shared_system_client import SharedSystemClient

from rag_bot import models
from rag_bot.catalogue import Collection, Prepared
from rag_bot.config import Settings, load
from rag_bot.errors import IndexBusy, IndexMismatch, Unavailable, UsageError
from rag_bot.index import Index, Owner, context, fingerprint, indexed_text, owner
from rag_bot.types import Chunk

Prepare = Callable[..., Prepared]
TEXTS = {
    "/docs/pump.txt": "The pump pressure is 4 bar.",
    "/docs/leave.txt": "Employees have 28 days of leave.",
    "/docs/lease.txt": "The office lease ends in March.",
}


@pytest.fixture
def fill(prepare: Prepare, word_embedder: object) -> Callable[[Index], Collection]:
    """Put three documents into a collection `docs`."""

    def into(index: Index) -> Collection:
        docs = index.make_collection("docs", "f1")
        index.add(docs, [prepare(docs, word_embedder, s, t) for s, t in TEXTS.items()])
        return docs

    return into


@pytest.fixture
def both(word_embedder: object) -> Callable[[Index, Collection, str], list[list[str]]]:
    """The texts that dense and lexical retrieval find for a query, best first."""

    def find(index: Index, docs: Collection, query: str) -> list[list[str]]:
        vector = word_embedder.encode([query])[0]
        found = (index.dense(docs, vector, 10), index.lexical(docs, query, 10))
        return [[hit.chunk.text for hit in hits] for hits in found]

    return find


Fill = Callable[[Index], Collection]
Both = Callable[[Index, Collection, str], list[list[str]]]


def forget_chroma() -> None:
    """As a new process would: Chroma keeps its stores open by path."""
    SharedSystemClient.clear_system_cache()


def test_what_was_added_is_found_by_both_retrievers(index: Index, fill: Fill, both: Both) -> None:
    docs = fill(index)
    dense, lexical = both(index, docs, "pump pressure")
    assert dense[0] == lexical[0] == TEXTS["/docs/pump.txt"]
    assert len(dense) == 3
    assert len(lexical) == 1


def test_scores_say_which_retriever_gave_them(
    index: Index, fill: Fill, word_embedder: object
) -> None:
    docs = fill(index)
    vector = word_embedder.encode([TEXTS["/docs/pump.txt"]])[0]
    (hit,) = index.dense(docs, vector, 1)
    assert (hit.retriever, hit.score) == ("dense", pytest.approx(1, abs=1e-3))
    assert {hit.retriever for hit in index.lexical(docs, "pump", 5)} == {"lexical"}


def test_an_index_opened_again_answers_the_same(settings: Settings, fill: Fill, both: Both) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        before = both(index, docs, "days of leave")
    with Index(settings.data_dir) as index:
        assert both(index, index.collection("docs", "f1"), "days of leave") == before


def test_removed_documents_are_found_no_more_and_leave_the_caches(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    docs = fill(index)
    gone = prepare(docs, word_embedder, "/docs/pump.txt", TEXTS["/docs/pump.txt"])
    index.remove(docs, [gone.document.id])
    dense, lexical = both(index, docs, "pump pressure")
    assert TEXTS["/docs/pump.txt"] not in dense
    assert lexical == []
    caches = index._open(docs)
    assert len(caches.vectors) == len(caches.lexical) == 2
    assert index.catalogue.leavings(docs) == []


def test_a_removed_document_can_come_back(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    docs = fill(index)
    before = both(index, docs, "pump")
    each = prepare(docs, word_embedder, "/docs/pump.txt", TEXTS["/docs/pump.txt"])
    index.remove(docs, [each.document.id])
    index.add(docs, [each])
    assert both(index, docs, "pump")[1] == before[1] == [TEXTS["/docs/pump.txt"]]


def test_a_new_version_replaces_the_old(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    docs = fill(index)
    index.add(docs, [prepare(docs, word_embedder, "/docs/pump.txt", "The pump now has 6 bar.")])
    assert both(index, docs, "pump")[1] == ["The pump now has 6 bar."]
    assert "The pump pressure is 4 bar." not in both(index, docs, "pump pressure 4 bar")[0]


@pytest.mark.parametrize("lost", ["chroma", "lexical"])
def test_a_lost_cache_is_rebuilt_from_the_catalogue(
    settings: Settings, fill: Fill, word_embedder: object, lost: str
) -> None:
    def found(index: Index, docs: Collection) -> list[dict[str, float]]:
        """For each text, every chunk's id and score, dense and lexical."""
        vectors = word_embedder.encode(list(TEXTS.values()))
        return [
            {
                f"{hit.retriever} {hit.chunk.id}": round(hit.score, 4)
                for hit in [*index.dense(docs, vector, 9), *index.lexical(docs, text, 9)]
            }
            for vector, text in zip(vectors, TEXTS.values(), strict=True)
        ]

    with Index(settings.data_dir) as index:
        docs = fill(index)
        before = found(index, docs)
    forget_chroma()
    shutil.rmtree(settings.data_dir / lost)
    with Index(settings.data_dir) as index:
        assert found(index, docs) == before
        assert len(before) == 3


def test_a_cache_with_too_much_is_rebuilt(settings: Settings, fill: Fill, both: Both) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        index._open(docs).lexical.replace(["stranger"], ["pump pump pump"])
    with Index(settings.data_dir) as index:
        assert both(index, docs, "pump")[1] == [TEXTS["/docs/pump.txt"]]
        assert len(index._open(docs).lexical) == 3


def test_what_the_catalogue_does_not_list_is_never_shown(
    index: Index, fill: Fill, both: Both, word_embedder: object
) -> None:
    docs = fill(index)
    caches = index._open(docs)
    caches.lexical.replace(["stranger"], ["pump pump pump"])
    caches.vectors.replace(["stranger"], word_embedder.encode(["pump pump pump"]))
    dense, lexical = both(index, docs, "pump")
    assert lexical == [TEXTS["/docs/pump.txt"]]
    assert set(dense) == set(TEXTS.values())


def test_a_document_cut_off_before_it_went_live_is_finished_on_reopening(
    settings: Settings, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        new = prepare(docs, word_embedder, "/docs/pump.txt", "The pump now has 6 bar.")
        index.catalogue.write_pending(docs, [new])
        assert both(index, docs, "pump")[1] == [TEXTS["/docs/pump.txt"]]  # not before it is whole
    with Index(settings.data_dir) as index:
        assert both(index, docs, "pump")[1] == ["The pump now has 6 bar."]
        assert index.catalogue.pending(docs) == []
        assert len(index._open(docs).vectors) == 3


def test_leavings_of_a_cut_off_removal_are_swept_on_reopening(
    settings: Settings, fill: Fill, both: Both
) -> None:
    with Index(settings.data_dir) as index:
        docs = fill(index)
        entry = next(e for e in index.catalogue.entries(docs) if e.source == "/docs/pump.txt")
        index.catalogue.take_away(docs, [entry.id])
        assert both(index, docs, "pump")[1] == []
    with Index(settings.data_dir) as index:
        caches = index._open(docs)
        assert len(caches.vectors) == len(caches.lexical) == 2
        assert index.catalogue.leavings(docs) == []


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


def test_collections_are_searched_apart(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    docs = fill(index)
    other = index.make_collection("other", "f1")
    index.add(other, [prepare(other, word_embedder, "/x.txt", "Another pump entirely.")])
    assert both(index, other, "pump") == [["Another pump entirely."]] * 2
    assert "Another pump entirely." not in both(index, docs, "pump")[0]


def test_a_dropped_collection_can_be_made_anew(index: Index, fill: Fill, both: Both) -> None:
    docs = fill(index)
    index.remove(docs, [entry.id for entry in index.catalogue.entries(docs)])
    index.drop(docs)
    assert index.catalogue.collection("docs") is None
    again = index.make_collection("docs", "f2")
    assert both(index, again, "pump") == [[], []]


def test_threads_search_while_one_writes(
    index: Index, fill: Fill, both: Both, prepare: Prepare, word_embedder: object
) -> None:
    """Each search sees the old pump or the new one, never both and never none."""
    docs = fill(index)
    seen: list[list[str]] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            seen.append([hit.chunk.text for hit in index.lexical(docs, "pump", 10)])

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(5):
        index.add(docs, [prepare(docs, word_embedder, "/docs/pump.txt", f"Pump version {n}.")])
    stop.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 5
    assert {len(texts) for texts in seen} == {1}


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
