import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chromadb.api.shared_system_client import SharedSystemClient

import ingest.salvage
from ingest.backup import left_behind
from ingest.repair import repair
from ingest.report import Report
from ingest.salvage import Salvaged, salvage
from ingest.sync import ingest as sync
from ingest.verify import verify
from rag_bot.catalogue import Prepared
from rag_bot.config import Settings
from rag_bot.errors import IndexBusy, IndexDamaged, IndexMismatch, UsageError
from rag_bot.index import Index
from tests.conftest import WordEmbedder
from tests.ingest.conftest import Content, content, write

PAGE = 4096
COUNT = 30


class Closed(NamedTuple):
    """An index put away, and what it holds."""

    folder: Path
    held: Content


@pytest.fixture(scope="module")
def closed(prepare: Callable[..., Prepared], tmp_path_factory: pytest.TempPathFactory) -> Closed:
    """Documents in a closed index, and a deleted one that is kept out."""
    folder = tmp_path_factory.mktemp("whole")
    with Index(folder) as index:
        docs = index.make_collection("docs", "f1")
        made = [
            prepare(docs, WordEmbedder(), f"/docs/{n}.txt", *(sentences(n, p) for p in range(3)))
            for n in range(COUNT + 1)
        ]
        index.add(docs, made)
        gone = [e for e in index.catalogue.entries(docs) if e.source == f"/docs/{COUNT}.txt"]
        index.remove(docs, gone, forget=gone, keep_out=gone)
        index.compact(docs)
        index.ledger.record_feedback(collection="docs", question="q", answer={}, thumb=1)
        held = content(index)
    assert len(held.documents) == COUNT
    return Closed(folder, held)


@pytest.fixture
def whole(closed: Closed, settings: Settings) -> Content:
    """A copy of it in the test's own data directory."""
    shutil.copytree(closed.folder, settings.data_dir)
    return closed.held


def sentences(document: int, page: int) -> str:
    return " ".join(f"Word{document * 7 + page * i} of page {page} is {i}." for i in range(40))


@pytest.fixture
def file(settings: Settings) -> Path:
    return settings.data_dir / "catalogue.sqlite"


def spoil(file: Path, *pages: int) -> None:
    """Overwrite pages of a database, counted from 0, with other bytes."""
    data = bytearray(file.read_bytes())
    for page in pages:
        data[page * PAGE : (page + 1) * PAGE] = random.Random(page).randbytes(PAGE)
    file.write_bytes(data)


def pages_of(file: Path, name: str) -> list[int]:
    """The pages on which a table or an index lies, the root first."""
    db = sqlite3.connect(file)
    rows = db.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY pageno", (name,))
    found = [number - 1 for (number,) in rows]
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    db.close()
    return sorted(found, key=lambda page: page != root - 1)


def refused(settings: Settings) -> None:
    SharedSystemClient.clear_system_cache()
    with pytest.raises(IndexDamaged, match="ingest repair"):
        Index(settings.data_dir).close()


def opened(settings: Settings, whole: Content, saved: Salvaged) -> Content:
    """What the index holds after it was saved, after checking that nothing in it is wrong."""
    SharedSystemClient.clear_system_cache()
    with Index(settings.data_dir) as index:
        assert index.damaged == []
        (docs,) = index.catalogue.collections() or [None]
        held = content(index)
        assert docs is None or index.differences(docs) == []
        assert index.catalogue.building() == []
        for source in held.documents:
            word = held.documents[source][2][0][2].split()[0]
            assert any(hit.chunk.text.startswith(word) for hit in index.lexical(docs, word, 50))
    assert saved.documents == len(held.documents)
    kept = Content({s: whole.documents[s] for s in held.documents}, held.vectors)
    assert held.differences(kept) == []
    assert all(held.vectors[i].tobytes() == whole.vectors[i].tobytes() for i in held.vectors)
    assert set(saved.lost).isdisjoint(held.documents)
    return held


def test_a_damaged_page_of_text_costs_its_documents_alone(
    whole: Content, settings: Settings, file: Path
) -> None:
    leaves = pages_of(file, "pages")[1:]
    spoil(file, leaves[3], leaves[12])
    refused(settings)
    saved = salvage(settings.data_dir)
    held = opened(settings, whole, saved)
    assert COUNT - 8 <= len(held.documents) < COUNT
    assert set(saved.lost) | set(held.documents) == set(whole.documents)
    assert saved.gaps == ("pages",)
    assert Path(saved.kept).read_bytes()[: PAGE // 2] != b""
    assert file.with_name(Path(saved.kept).name).exists()
    said = "\n".join(saved.lines())
    assert f"{saved.documents} documents were saved" in said
    assert f"lost until it is read again: {saved.lost[0]}" in said


@pytest.mark.parametrize(
    "name", ["sqlite_autoindex_pages_1", "chunks_by_document", "documents_by_source"]
)
def test_damage_to_an_index_of_sqlite_costs_nothing(
    whole: Content, settings: Settings, file: Path, name: str
) -> None:
    spoil(file, *pages_of(file, name))
    refused(settings)
    saved = salvage(settings.data_dir)
    assert opened(settings, whole, saved).documents == whole.documents
    assert (saved.lost, saved.gaps) == ((), ())


def test_a_damaged_root_of_a_table_costs_the_table(
    whole: Content, settings: Settings, file: Path
) -> None:
    spoil(file, pages_of(file, "pages")[0])
    saved = salvage(settings.data_dir)
    assert opened(settings, whole, saved).documents == {}
    assert set(saved.lost) == set(whole.documents)
    assert "nothing in the damaged catalogue could be read" in next(saved.lines())


def test_documents_whose_paths_are_lost_are_counted(
    whole: Content, settings: Settings, file: Path
) -> None:
    spoil(file, pages_of(file, "documents")[1])
    saved = salvage(settings.data_dir)
    held = opened(settings, whole, saved)
    assert 0 < len(held.documents) < COUNT
    assert saved.nameless == COUNT - len(held.documents)
    assert f"lost with their paths: {saved.nameless} documents" in "\n".join(saved.lines())


def test_a_lost_collection_costs_its_documents_and_names_them(
    whole: Content, settings: Settings, file: Path
) -> None:
    spoil(file, *pages_of(file, "collections"))
    saved = salvage(settings.data_dir)
    assert opened(settings, whole, saved).documents == {}
    assert set(saved.lost) == set(whole.documents)


def test_records_are_saved_and_lost_ones_named(
    whole: Content, settings: Settings, file: Path
) -> None:
    spoil(file, *pages_of(file, "roots"), pages_of(file, "pages")[1])
    saved = salvage(settings.data_dir)
    assert "roots" in saved.gaps
    with Index(settings.data_dir) as index:
        assert [each["question"] for each in index.ledger.feedback()] == ["q"]
        assert [each.source for each in index.ledger.forgotten("docs")] == [f"/docs/{COUNT}.txt"]
    assert "may come back" not in "\n".join(saved.lines())


def test_lost_deletions_are_said_aloud(whole: Content, settings: Settings, file: Path) -> None:
    spoil(file, *pages_of(file, "forgotten"))
    saved = salvage(settings.data_dir)
    assert saved.gaps == ("forgotten",)
    assert "deleted documents whose files are still there may come back" in "\n".join(saved.lines())


def test_a_file_that_is_no_database_any_more_is_kept_and_said_to_be_lost(
    whole: Content, settings: Settings, file: Path
) -> None:
    spoil(file, 0)
    broken = file.read_bytes()
    refused(settings)
    saved = salvage(settings.data_dir)
    assert saved.documents == 0
    assert Path(saved.kept).read_bytes() == broken
    assert opened(settings, whole, saved).documents == {}
    assert "nothing in the damaged catalogue could be read" in next(saved.lines())


def test_a_cut_file_is_saved_as_far_as_it_goes(
    whole: Content, settings: Settings, file: Path
) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3 // PAGE * PAGE])
    refused(settings)
    saved = salvage(settings.data_dir)
    opened(settings, whole, saved)
    assert saved.gaps


def test_any_damaged_page_leaves_an_index_without_a_wrong_document(
    whole: Content, settings: Settings, file: Path
) -> None:
    good = file.read_bytes()
    for page in random.Random(1).sample(range(1, len(good) // PAGE), 6):
        file.write_bytes(good)
        spoil(file, page)
        opened(settings, whole, salvage(settings.data_dir))


def test_what_is_only_in_the_log_is_saved_too(
    whole: Content, settings: Settings, file: Path
) -> None:
    log = file.with_name(file.name + "-wal")
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("INSERT INTO backups VALUES ('/late', 1)")
    late = log.read_bytes()
    db.close()
    spoil(file, pages_of(file, "pages")[2])
    log.write_bytes(late)
    saved = salvage(settings.data_dir)
    with Index(settings.data_dir) as index:
        assert index.ledger.backups() == ["/late"]
    assert 0 < saved.documents < COUNT


@pytest.mark.parametrize("step", ["_copied", "_swap", "os.replace"])
def test_killed_at_a_step_it_can_be_done_again(
    whole: Content,
    settings: Settings,
    file: Path,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    spoil(file, pages_of(file, "pages")[4])
    with monkeypatch.context() as patched:
        if step == "_copied":
            patched.setattr(ingest.salvage, "_swap", killed)
            real = ingest.salvage._copied
            patched.setattr(ingest.salvage, "_copied", lambda *a: (real(*a), killed()))
        else:
            patched.setattr(f"ingest.salvage.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            salvage(settings.data_dir)
    refused(settings)
    saved = salvage(settings.data_dir)
    assert 0 < len(opened(settings, whole, saved).documents) < COUNT
    assert left_behind(settings.data_dir) is None


def test_a_whole_catalogue_is_saved_wholly(whole: Content, settings: Settings, file: Path) -> None:
    saved = salvage(settings.data_dir)
    assert opened(settings, whole, saved).documents == whole.documents
    assert (saved.documents, saved.lost, saved.gaps, saved.nameless) == (COUNT, (), (), 0)


def test_a_catalogue_of_another_version_is_left_alone(
    whole: Content, settings: Settings, file: Path
) -> None:
    with sqlite3.connect(file) as db:
        db.execute("UPDATE meta SET value = '99'")
    db.close()
    before = file.read_bytes()
    with pytest.raises(IndexMismatch, match="schema 99"):
        salvage(settings.data_dir)
    assert file.read_bytes() == before
    assert left_behind(settings.data_dir) is None


def test_an_open_index_is_left_alone(index: Index, settings: Settings) -> None:
    with pytest.raises(IndexBusy):
        salvage(settings.data_dir)


def test_without_a_catalogue_there_is_nothing_to_save(settings: Settings) -> None:
    with pytest.raises(UsageError, match="there is no catalogue"):
        salvage(settings.data_dir)


@pytest.mark.usefixtures("in_process")
def test_a_repair_reads_again_what_could_not_be_saved(
    docs: Path, settings: Settings, file: Path
) -> None:
    write(docs, **{f"d{n}": "\n\n".join(sentences(n, p) for p in range(3)) for n in range(12)})
    with Index(settings.data_dir) as index:
        list(sync([docs], index, WordEmbedder, settings, "docs"))  # type: ignore[arg-type]
        before = content(index)
    leaves = pages_of(file, "pages")[1:]
    spoil(file, leaves[2], *pages_of(file, "sqlite_autoindex_documents_1"))
    saved = salvage(settings.data_dir)
    assert 0 < len(saved.lost) < 12
    SharedSystemClient.clear_system_cache()
    with Index(settings.data_dir) as index:
        assert {each.path for each in verify(index, settings)} == set(saved.lost)
        *_, report = repair(index, WordEmbedder, settings)  # type: ignore[arg-type]
        assert isinstance(report, Report)
        assert report.complete
        assert content(index).differences(before) == []
        assert list(verify(index, settings)) == []
