import ctypes
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ingest.forgotten
from ingest.backup import backup
from ingest.delete import delete, undelete
from ingest.forgotten import Forgetting, forgotten
from ingest.traces import Look
from rag_bot.catalogue import Collection, Entry, Prepared
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index
from rag_bot.ledger import Origin
from tests.conftest import drafts_here
from tests.ingest.conftest import Docs, Entries, Go, write

TEXT = (
    "The merger with Ostrava Valves was agreed on 3 May.\n\nNobody outside the board knows the"
    " price of 14 million euros yet.\n\nThe “café” stays closed until the papers are signed."
)
_M_PERTURB = -6
SENTENCE = "Nobody outside the board knows the price of 14 million euros yet."


class Here:
    """The child process's work done in this one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any) -> "Here":
        self._done = work(*given)
        return self

    def result(self) -> Any:
        return self._done


@pytest.fixture
def secret(docs: Path, run: Go, monkeypatch: pytest.MonkeyPatch, in_process: None) -> Path:
    """A document in the index beside two others. No process is started."""
    monkeypatch.setattr(ingest.forgotten, "drafts", drafts_here)
    monkeypatch.setattr(ingest.forgotten, "ProcessPoolExecutor", Here)
    write(docs, secret=TEXT, pump="The pump has 4 bar.", secret_2="The lease ends in March.")
    run(docs)
    return docs / "secret.txt"


@pytest.fixture
def entry(entries: Entries, secret: Path) -> Entry:
    """The document as it was before any test deletes it."""
    return entries()["secret.txt"]


@pytest.fixture
def whole(index: Index, entry: Entry) -> Prepared:
    """All that the index held of it."""
    document = index.catalogue.document(entry.id)
    assert document
    chunks = tuple(each.chunk for each in index.catalogue.chunks_of(entry.id))
    vectors = index.catalogue.vectors_of(entry.id)
    return Prepared(document, chunks, vectors, entry.size, entry.mtime_ns, entry.media_type)


@pytest.fixture
def gone(
    index: Index, settings: Settings, collection: Docs, entry: Entry, whole: Prepared
) -> Prepared:
    """The document deleted, its file still there: what the index held of it before."""
    delete(index, collection(), [entry], settings)
    return whole


@pytest.fixture
def ask(index: Index, settings: Settings, word_embedder: Any) -> Callable[..., Forgetting]:
    def go(name: Any, **options: Any) -> Forgetting:
        embedder = options.pop("embedder", lambda: word_embedder)
        return forgotten(index, settings, str(name), "docs", embedder, **options)

    return go


Ask = Callable[..., Forgetting]


def found(told: Forgetting) -> dict[str, str]:
    """Where something was found, and how; the data directory's name left out."""
    return {each.place: each.detail for each in told.looked if each.found == "yes"}


def test_a_deleted_document_is_gone_with_real_processes(
    docs: Path, run: Go, index: Index, settings: Settings, entries: Entries, ask: Ask
) -> None:
    write(docs, secret=TEXT, pump="The pump has 4 bar.")
    run(docs)
    collection = index.catalogue.collection("docs")
    assert collection
    delete(index, collection, [entries()["secret.txt"]], settings)
    told = ask(docs / "secret.txt")
    assert (told.gone, told.live, told.remembered) == (True, False, True)
    assert told.path == str(docs / "secret.txt")
    places = {each.place: each for each in told.looked}
    assert places["looked for"].detail.startswith("its path, its SHA-256, ")
    assert "3 sentences, 1 vectors" in places["looked for"].detail
    assert {f"catalogue: {table}" for table in ("pages", "chunks", "feedback", "runs")} <= set(
        places
    )
    assert {each.found for each in told.looked} == {"no"}
    *_, verdict = told.lines()
    assert verdict == "No trace of it was found."


def test_a_live_document_is_not_deleted(secret: Path, ask: Ask) -> None:
    told = ask(secret)
    assert (told.live, told.gone) == (True, False)
    assert "not deleted" in told.verdict


def test_nothing_is_found_after_a_deletion_however_it_is_asked_for(
    gone: Prepared, secret: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secret.parent)
    for name in (secret, "secret.txt", "./secret.txt", gone.document.sha256):
        told = ask(name)
        assert (found(told), told.gone, told.path) == ({}, True, str(secret))
        assert not any(part in line for line in told.lines() for part in ("merger", "14 million"))
    told = ask(gone.document.id)
    assert (found(told), told.path) == ({}, "")


def test_after_its_file_went_too_the_path_is_looked_for(
    secret: Path, index: Index, run: Go, ask: Ask
) -> None:
    secret.unlink()
    run(secret.parent, allow_removal=True)
    told = ask(secret)
    assert (found(told), told.gone, told.remembered) == ({}, True, False)
    unsearched = {each.place for each in told.looked if each.found == "not searched"}
    assert unsearched == {"ids", "text"}
    assert ask(secret, text=[SENTENCE]).gone


def test_a_deletion_that_is_not_complete_is_seen_in_every_place(
    secret: Path, entry: Entry, index: Index, collection: Docs, ask: Ask
) -> None:
    index.remove(collection(), [entry], forget=[entry], keep_out=[entry])
    told = ask(secret)
    assert not told.gone
    where = "\n".join(found(told))
    assert "caches of 'docs'" in where
    assert "chroma.sqlite3" in where
    assert "catalogue.sqlite-wal" in where
    assert "ingest repair" in told.verdict
    index.compact(collection())
    assert ask(secret).gone


# Traces planted


def pending(index: Index, docs: Collection, whole: Prepared) -> None:
    index.catalogue.write_pending(docs, [whole])


def rebuilding(index: Index, docs: Collection, whole: Prepared) -> None:
    index.add(index.begin(docs, "other"), [whole])


def leaving(index: Index, docs: Collection, whole: Prepared) -> None:
    index.catalogue.write_pending(docs, [whole])
    index.catalogue.take_away(docs, [whole.document.id])


def judged(index: Index, _: Collection, __: Prepared) -> None:
    answer = {"text": f"It says: {SENTENCE}"}
    index.ledger.record_feedback(collection="docs", question="?", answer=answer, thumb=1)


def judged_with_marks(index: Index, _: Collection, __: Prepared) -> None:
    answer = {"text": "The “café” stays closed until the papers are signed."}
    index.ledger.record_feedback(collection="docs", question="?", answer=answer, thumb=1)


def reported(index: Index, _: Collection, whole: Prepared) -> None:
    run = index.ledger.begin_run("docs", "ingest")
    index.ledger.end_run(run, "done", {"files": [{"path": whole.document.source}]})


def learnt(index: Index, _: Collection, whole: Prepared) -> None:
    origin = Origin(whole.document.source, whole.document.sha256)
    index.ledger.record_lineage("example", "e1", "docs", [origin])


@pytest.mark.parametrize(
    ("plant", "table", "how"),
    [
        (pending, "documents", "its path, its SHA-256, 1 ids"),
        (pending, "pages", "1 ids, 3 sentences"),
        (pending, "chunks", "2 ids, 1 vectors"),
        (rebuilding, "pages", "1 ids, 3 sentences"),
        (leaving, "leavings", "1 ids"),
        (judged, "feedback", "1 sentences"),
        (judged_with_marks, "feedback", "1 sentences"),
        (reported, "runs", "its path"),
        (learnt, "lineage", "its path, its SHA-256"),
    ],
)
def test_a_trace_in_a_table_is_found(
    gone: Prepared,
    secret: Path,
    index: Index,
    collection: Docs,
    ask: Ask,
    plant: Callable[[Index, Collection, Prepared], None],
    table: str,
    how: str,
) -> None:
    plant(index, collection(), gone)
    told = ask(secret)
    assert found(told)[f"catalogue: {table}"] == how
    assert not told.gone


FILES: dict[str, tuple[str, Callable[[Prepared], bytes], str]] = {
    "a log": ("logs/a.log", lambda it: f"read {it.document.source}\n".encode(), "its path"),
    "a schedule": (
        "schedules/a.json",
        lambda it: json.dumps(it.document.source).encode(),
        "its path",
    ),
    "an id": ("caches/x/y.bin", lambda it: b"..." + it.chunks[0].id.encode(), "1 ids"),
    "a hash": ("seal.old", lambda it: it.document.sha256.encode(), "its SHA-256"),
    "a text": ("page.txt", lambda it: it.document.text.encode(), "3 sentences"),
    "a vector of the catalogue": (
        "left.db",
        lambda it: b"odd" + it.vectors[0].astype("<f2").tobytes(),
        "1 vectors",
    ),
    "a vector of Chroma": (
        "data_level0.bin",
        lambda it: bytes(10_000_001) + it.vectors[0].tobytes(),
        "1 vectors",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_trace_in_a_file_is_found(
    gone: Prepared, secret: Path, settings: Settings, ask: Ask, name: str
) -> None:
    path, made, how = FILES[name]
    file = settings.data_dir / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(made(gone))
    told = ask(secret)
    assert found(told) == {f"file {file}": how}
    assert not told.gone
    file.unlink()
    assert ask(secret).gone or path.startswith("caches")


def test_a_new_vector_index_holds_nothing_of_what_the_process_had_in_memory(
    secret: Path, entry: Entry, index: Index, settings: Settings, collection: Docs
) -> None:
    # glibc fills what it hands out with this byte: what is written of it unused can be seen.
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_PERTURB, 0x5A)
    try:
        delete(index, collection(), [entry], settings)
    finally:
        libc.mallopt(_M_PERTURB, 0)
    (room,) = settings.data_dir.rglob("data_level0.bin")
    assert set(room.read_bytes()) == {0}


def test_a_part_of_a_text_without_sentences_is_found(
    docs: Path,
    secret: Path,
    run: Go,
    entries: Entries,
    index: Index,
    collection: Docs,
    settings: Settings,
    ask: Ask,
) -> None:
    text = " ".join(f"row {number} of {number * number}" for number in range(2000))
    write(docs, table=text)
    run(docs)
    delete(index, collection(), [entries()["table.txt"]], settings)
    assert ask("table.txt").gone
    file = settings.data_dir / "part.bin"
    file.write_bytes(text[20_000:21_000].encode())
    assert list(found(ask("table.txt"))) == [f"file {file}"]


def test_an_old_catalogue_that_lies_about_is_found(
    entry: Entry, secret: Path, index: Index, settings: Settings, collection: Docs, ask: Ask
) -> None:
    index.seal()
    kept = settings.data_dir / "catalogue.sqlite.damaged-20260101"
    shutil.copy(settings.data_dir / "catalogue.sqlite", kept)
    delete(index, collection(), [entry], settings)
    assert set(found(ask(secret))) == {f"file {kept}"}


def test_rows_made_from_it_elsewhere_are_found(
    gone: Prepared, secret: Path, index: Index, tmp_path: Path, ask: Ask
) -> None:
    rows = tmp_path / "training.jsonl"
    rows.write_text(json.dumps({"id": "e1", "answer": SENTENCE}) + "\n")
    origin = Origin("/docs/other.txt", "0" * 64)
    index.ledger.record_lineage("example", "e1", "docs", [origin], location=str(rows))
    assert found(ask(secret)) == {f"file {rows}": "1 sentences"}


def test_what_was_made_from_a_deleted_document_is_named(
    secret: Path, entry: Entry, index: Index, settings: Settings, collection: Docs, ask: Ask
) -> None:
    origin = Origin(entry.source, entry.sha256)
    index.ledger.record_lineage("adapter", "a7", "docs", [origin])
    delete(index, collection(), [entry], settings)
    told = ask(secret)
    assert [each.place for each in told.looked if each.found == "unsure"] == ["adapter a7"]
    assert not told.gone
    assert "can't be told" in told.verdict


def test_replaced_chunks_in_the_caches_files_leave_it_open(
    gone: Prepared, secret: Path, run: Go, index: Index, collection: Docs, ask: Ask
) -> None:
    write(secret.parent, pump="The pump has 6 bar.", **{f"more{n}": f"Text {n}" for n in range(9)})
    run(secret.parent)
    (look,) = [each for each in ask(secret).looked if each.found == "unsure"]
    assert look.detail.startswith("1 chunks of replaced documents")
    index.compact(collection())
    assert ask(secret).gone


def test_a_cache_folder_that_belongs_to_nobody_leaves_it_open(
    gone: Prepared, secret: Path, settings: Settings, ask: Ask
) -> None:
    (settings.data_dir / "caches/c9-old/lexical").mkdir(parents=True)
    (look,) = [each for each in ask(secret).looked if each.found == "unsure"]
    assert look.place.endswith("caches/c9-old")


def test_an_upload_that_stayed_is_found_by_what_is_in_it(
    gone: Prepared, secret: Path, settings: Settings, ask: Ask
) -> None:
    copy = settings.data_dir / "uploads/docs/renamed.txt"
    copy.parent.mkdir(parents=True)
    shutil.copy(secret, copy)
    told = found(ask(secret))
    assert told[f"uploads: {copy}"] == "the file itself"
    assert told[f"file {copy}"] == "3 sentences"


def test_backups_that_hold_it_are_named(
    secret: Path,
    entry: Entry,
    index: Index,
    settings: Settings,
    collection: Docs,
    tmp_path: Path,
    ask: Ask,
) -> None:
    old, new, away = (tmp_path / f"{name}.backup" for name in ("old", "new", "away"))
    backup(index, settings, old)
    backup(index, settings, away)
    away.unlink()
    delete(index, collection(), [entry], settings)
    backup(index, settings, new)
    told = ask(secret)
    places = {each.place: each.found for each in told.looked if each.place.startswith("backup")}
    assert places == {f"backup {old}": "yes", f"backup {new}": "no"}
    assert not told.gone
    assert "still in a backup" in told.verdict
    Path(f"{new}.partial").write_bytes(b"cut off")
    assert [each.place for each in ask(secret).looked if each.found == "unsure"] == [
        f"backup {new}.partial"
    ]
    Path(f"{new}.partial").unlink()
    backup(index, settings, old, overwrite=True)
    assert ask(secret).gone
    old.write_bytes(b"no archive")
    (look,) = [each for each in ask(secret).looked if each.found == "unsure"]
    assert look.place == f"backup {old}"


def test_after_an_undelete_the_path_counts_as_a_trace(
    gone: Prepared, secret: Path, index: Index, ask: Ask
) -> None:
    assert ask(secret).remembered
    undelete(index, "docs", [str(secret)])
    told = ask(secret)
    assert not told.remembered
    assert {Path(place).name for place in found(told)} <= {
        "catalogue.sqlite",
        "catalogue.sqlite-wal",
    }
    assert not told.gone
    index.seal()
    assert ask(secret).gone


def test_a_document_renamed_and_then_edited_leaves_nothing_under_any_name(
    secret: Path,
    entry: Entry,
    run: Go,
    entries: Entries,
    index: Index,
    settings: Settings,
    collection: Docs,
    tmp_path: Path,
    ask: Ask,
) -> None:
    origin = [Origin(entry.source, entry.sha256)]
    rows = tmp_path / "training.jsonl"
    rows.write_text(json.dumps({"id": "e1", "answer": SENTENCE}) + "\n")
    index.ledger.record_lineage("example", "e1", "docs", origin, location=str(rows))
    index.ledger.record_feedback(
        collection="docs", question="?", answer={"text": SENTENCE}, thumb=1, origins=origin
    )
    failed = {"files": [{"path": entry.source}]}
    index.ledger.end_run(index.ledger.begin_run("docs", "ingest"), "in part", failed)
    renamed = secret.with_name("plan.txt")
    secret.rename(renamed)
    run(secret.parent)
    write(secret.parent, plan="The plan was changed in all its points.")
    run(secret.parent)
    assert len(index.ledger.feedback()) == 1
    assert rows.read_text()
    delete(index, collection(), [entries()["plan.txt"]], settings)
    assert index.ledger.feedback() == []
    assert index.ledger.made() == []
    assert rows.read_text() == ""
    for name in (secret, renamed):
        told = ask(name, text=[SENTENCE])
        assert (found(told), told.gone) == ({}, True)


def test_what_came_from_a_twin_that_went_goes_with_the_other(
    docs: Path,
    secret: Path,
    entry: Entry,
    run: Go,
    entries: Entries,
    index: Index,
    settings: Settings,
    collection: Docs,
) -> None:
    twin = docs / "twin.txt"
    shutil.copy2(secret, twin)
    run(docs)
    index.ledger.record_feedback(
        collection="docs",
        question="?",
        answer={"text": SENTENCE},
        thumb=1,
        origins=[Origin(entry.source, entry.sha256)],
    )
    secret.unlink()
    run(docs)
    assert len(index.ledger.feedback()) == 1  # its content is still there
    write(docs, twin="Something else.")
    run(docs)
    delete(index, collection(), [entries()["twin.txt"]], settings)
    assert index.ledger.feedback() == []


def test_a_warning_that_named_it_is_no_trace(
    secret: Path,
    entry: Entry,
    run: Go,
    index: Index,
    settings: Settings,
    collection: Docs,
    ask: Ask,
) -> None:
    secret.unlink()
    (warning,) = run(secret).report.warnings
    assert str(secret) in warning
    delete(index, collection(), [entry], settings)
    told = ask(secret)
    assert (found(told), told.gone) == ({}, True)


# What explains a trace


def test_of_two_twins_the_other_explains_text_and_vectors(
    secret: Path,
    entry: Entry,
    run: Go,
    index: Index,
    settings: Settings,
    collection: Docs,
    ask: Ask,
    prepare: Callable[..., Prepared],
    word_embedder: Any,
) -> None:
    shutil.copy2(secret, secret.with_name("twin.txt"))
    run(secret.parent)
    whole = index.catalogue.document(entry.id)
    delete(index, collection(), [entry], settings)
    told = ask(secret)
    assert (found(told), told.gone) == ({}, True)
    (shared,) = [each for each in told.looked if each.found == "not searched"]
    assert shared.detail == "3 sentences, 1 vectors that live documents have as well"
    (settings.data_dir / "a.log").write_text(entry.id)
    assert not ask(secret).gone
    assert whole
    assert ask(entry.sha256).path == str(secret)


def test_a_sentence_that_live_documents_have_too_is_left_out(
    gone: Prepared, secret: Path, run: Go, index: Index, collection: Docs, ask: Ask
) -> None:
    write(secret.parent, quote=f"She wrote: {SENTENCE}")
    run(secret.parent)
    told = ask(secret)
    assert (found(told), told.gone) == ({}, True)
    (shared,) = [each for each in told.looked if each.found == "not searched"]
    assert shared.detail == "1 sentences that live documents have as well"


def test_a_longer_path_of_another_document_is_not_taken_for_its_own(
    docs: Path, secret: Path, run: Go, entries: Entries, ask: Ask
) -> None:
    for name in ("secret.txt.txt", "very secret.txt"):
        (docs / name).write_text("Something else stands in here.")
        os.utime(docs / name, (1e9, 1e9))
    run(docs)
    secret.unlink()
    run(docs)
    assert f"{secret}.txt" in {entry.source for entry in entries().values()}
    told = ask(secret)
    assert (found(told), told.gone) == ({}, True)


# Asking


def test_a_name_that_fits_two_documents_is_refused(secret: Path, run: Go, ask: Ask) -> None:
    write(secret.parent, sub__secret="Another one.")
    run(secret.parent)
    with pytest.raises(UsageError, match="2 documents are called"):
        ask("secret.txt")


def test_folders_and_short_phrases_are_refused(gone: Prepared, secret: Path, ask: Ask) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        ask(secret.parent)
    with pytest.raises(UsageError, match="too short"):
        ask(secret, text=["the"])


def test_without_the_embedder_its_vectors_are_left_out(
    gone: Prepared, secret: Path, ask: Ask
) -> None:
    (first, *_) = ask(secret, embedder=None).looked
    assert first == Look("looked for", "no", "its path, its SHA-256, 2001 ids, 3 sentences")


def test_without_a_model_what_needs_none_is_searched(
    gone: Prepared, secret: Path, index: Index, settings: Settings, tmp_path: Path
) -> None:
    models = settings.models.model_copy(update={"dir": tmp_path})
    bare = settings.model_copy(update={"models": models})
    (settings.data_dir / "a.log").write_text(gone.document.id)
    told = forgotten(index, bare, str(secret), "docs")
    assert found(told) == {f"file {settings.data_dir / 'a.log'}": "1 ids"}
