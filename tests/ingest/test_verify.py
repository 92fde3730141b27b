import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.delete import delete, undelete
from ingest.rebuild import rebuild
from ingest.repair import repair
from ingest.report import Progress, Report
from ingest.verify import Finding, verify
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index
from rag_bot.ledger import Origin
from tests.ingest.conftest import Docs, Entries, Go, Search, content, write

pytestmark = pytest.mark.usefixtures("in_process")
OLD = (1e9, 1e9)


@pytest.fixture
def filled(docs: Path, run: Go) -> Path:
    """A folder of four documents, in the index."""
    write(docs, pump="The pump has 4 bar.", lease="The lease ends in March.")
    write(docs, sub__leave="28 days of leave.", sub__fee="The fee is 5 euros.")
    run(docs)
    return docs


@pytest.fixture
def check(index: Index, settings: Settings) -> Callable[..., list[Finding]]:
    def go(name: str | None = None, settings: Settings = settings) -> list[Finding]:
        return list(verify(index, settings, name))

    return go


@pytest.fixture
def mend(index: Index, settings: Settings, word_embedder: Any) -> Callable[..., Report]:
    def go(name: str | None = None, settings: Settings = settings) -> Report:
        *progress, report = repair(index, lambda: word_embedder, settings, name)
        assert all(isinstance(each, Progress) for each in progress)
        assert isinstance(report, Report)
        return report

    return go


Check = Callable[..., list[Finding]]
Mend = Callable[..., Report]


def short(findings: list[Finding]) -> list[tuple[str, str]]:
    """Place and file name of each."""
    return sorted((each.place, Path(each.path).name) for each in findings)


@pytest.mark.usefixtures("settled")
def test_an_index_that_equals_its_folder_has_no_differences(
    filled: Path, run: Go, index: Index, check: Check, mend: Mend
) -> None:
    (filled / "broken.pdf").write_bytes(b"%PDF-1.7\n")
    (filled / "program").write_bytes(b"\x7fELF" + bytes(range(256)) * 4)
    (filled / ".hidden.txt").write_text("hidden")
    for name in ("broken.pdf", "program"):
        os.utime(filled / name, OLD)
    run(filled)
    before = content(index)
    assert check() == check("docs") == []
    report = mend()
    assert (report.warnings, report.embedded) == ((), 0)
    assert {each.status for each in report.files} == {"unchanged", "skipped", "failed"}
    assert content(index).differences(before) == []


def test_an_index_without_a_collection_has_no_differences(check: Check, mend: Mend) -> None:
    assert check() == []
    assert mend().files == ()
    for go in (check, mend):
        with pytest.raises(UsageError, match="no collection 'docs'"):
            go("docs")


# Folders


def test_what_changed_in_a_folder_is_told_and_mended(
    filled: Path, check: Check, mend: Mend, entries: Entries, found: Search
) -> None:
    write(filled, new="A new pump.", pump="The pump has 7 bar.")
    (filled / "sub/fee.txt").unlink()
    os.utime(filled / "lease.txt", OLD)
    findings = check()
    assert {(Path(each.path).name, each.detail) for each in findings} == {
        ("new.txt", "is not in the index: it is new, or could not be read"),
        ("pump.txt", "has changed since it was indexed"),
        ("fee.txt", "is gone or left out, and its text still answers"),
    }
    assert {(each.collection, each.place) for each in findings} == {("docs", "folder")}
    assert all("ingest repair" in each.remedy for each in findings)
    report = mend()
    statuses = {Path(each.path).name: each.status for each in report.files}
    assert statuses == {
        "new.txt": "indexed",
        "pump.txt": "indexed",
        "fee.txt": "removed",
        "lease.txt": "unchanged",
        "leave.txt": "unchanged",
    }
    assert report.complete
    assert check() == []
    assert set(entries()) == {"pump.txt", "lease.txt", "leave.txt", "new.txt"}
    assert found("pump") == ["A new pump.", "The pump has 7 bar."]


def test_a_change_with_the_same_size_and_date_is_seen_if_it_came_right_after(
    docs: Path, run: Go, check: Check
) -> None:
    file = docs / "a.txt"
    file.write_text("The pump has 4 bar.")
    run(docs)
    written = file.stat()
    file.write_text("The pump has 5 bar.")
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert short(check()) == [("folder", "a.txt")]


def test_each_folder_is_compared_and_mended_with_its_own_patterns(
    docs: Path, run: Go, check: Check, mend: Mend, entries: Entries, settings: Settings
) -> None:
    write(docs, a__one="One.", a__draft="A draft.", b__two="Two.", b__draft="Kept.")
    run(docs / "a", exclude=("draft*",))
    run(docs / "b", include=("*.txt",))
    (docs / "b/c.md").write_text("# Not included")
    assert check() == []
    write(docs, a__three="Three.", a__draft_2="Another draft.", b__four="Four.")
    assert short(check()) == [("folder", "four.txt"), ("folder", "three.txt")]
    section = settings.ingest.model_copy(update={"exclude": ("*.txt",)})
    mend(settings=settings.model_copy(update={"ingest": section}))
    assert set(entries()) == {"one.txt", "two.txt", "draft.txt", "three.txt", "four.txt"}
    assert check() == []


def test_a_vanished_folder_is_one_difference_and_is_not_mended_by_removal(
    filled: Path, check: Check, mend: Mend, entries: Entries
) -> None:
    away = filled.rename(filled.with_name("away"))
    (finding,) = check()
    assert (finding.place, finding.path) == ("folder", str(filled))
    assert finding.detail == "is not there, and 4 documents from it still answer"
    assert "--allow-removal" in finding.remedy
    report = mend()
    assert not report.complete
    assert any("allow-removal" in each for each in report.warnings)
    assert "1 differences are left: `ingest verify` names them" in report.warnings
    assert len(entries()) == 4
    away.rename(filled)
    assert check() == []


def test_a_folder_that_lost_more_than_a_third_is_left_to_a_person(
    filled: Path, check: Check, mend: Mend, entries: Entries
) -> None:
    shutil.rmtree(filled / "sub")
    assert short(check()) == [("folder", "fee.txt"), ("folder", "leave.txt")]
    report = mend()
    assert not report.complete
    assert len(entries()) == 4


def test_a_folder_around_our_own_data_does_not_reach_into_it(
    tmp_path: Path, filled: Path, run: Go, settings: Settings, check: Check, mend: Mend
) -> None:
    uploads = settings.data_dir / "uploads/docs"
    write(uploads, minutes="The minutes of June.")
    run(uploads)
    run(tmp_path)
    assert check() == []
    assert mend().complete
    assert check() == []


def test_a_document_whose_folder_is_not_on_record_is_compared_by_itself(
    filled: Path, index: Index, check: Check
) -> None:
    index.ledger.forget_root("docs", str(filled))
    assert check() == []
    write(filled, pump="The pump has 7 bar.", new="Nobody asked for this one.")
    (filled / "lease.txt").unlink()
    assert short(check()) == [("folder", "lease.txt"), ("folder", "pump.txt")]


@pytest.mark.usefixtures("settled")
def test_a_refused_file_is_a_difference_once_it_changes(
    filled: Path, run: Go, check: Check, mend: Mend, entries: Entries
) -> None:
    write(filled, empty="")
    run(filled)
    assert check() == []
    write(filled, empty="Now it has text.")
    assert short(check()) == [("folder", "empty.txt")]
    mend()
    assert "empty.txt" in entries()


def test_an_unreadable_folder_is_told_and_what_is_below_is_not_gone(
    filled: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    (finding,) = check()
    assert (finding.path, finding.remedy) == (str(filled / "sub"), "check its permissions")


def test_uploads_are_a_folder_of_their_own(
    filled: Path, run: Go, settings: Settings, check: Check, mend: Mend, entries: Entries
) -> None:
    uploads = settings.data_dir / "uploads"
    write(uploads / "docs", minutes="The minutes of June.", budget="900 euros.", plan="A plan.")
    run(uploads / "docs")
    assert check() == []
    (uploads / "docs/budget.txt").unlink()
    write(uploads, docs__late="Came late.", other__stray="In no collection.")
    assert short(check()) == [("folder", "budget.txt"), ("folder", "late.txt"), ("folder", "other")]
    assert short(check("docs")) == [("folder", "budget.txt"), ("folder", "late.txt")]
    assert mend("docs").complete
    assert "late.txt" in entries()
    assert "budget.txt" not in entries()
    (stray,) = check()
    assert f"ingest {uploads / 'other'} --collection other" in stray.remedy


# The index itself


def test_a_document_that_is_not_as_it_was_written_is_told_and_read_again(
    filled: Path, index: Index, check: Check, mend: Mend, found: Search
) -> None:
    before = content(index)
    with index._database.transaction() as db:
        db.execute("UPDATE pages SET text = 'The pump has 9 bar.' WHERE text LIKE '%pump%'")
    assert ("catalogue", "pump.txt") in short(check())
    report = mend()
    assert report.complete
    assert content(index).differences(before) == []
    assert found("pump") == ["The pump has 4 bar."]
    assert check() == []


def test_vectors_that_are_missing_or_too_many_are_told_and_mended(
    filled: Path, index: Index, check: Check, mend: Mend, collection: Docs, entries: Entries
) -> None:
    caches = index._pool.opened(collection())
    (chunk,) = index.catalogue.chunks_of(entries()["pump.txt"].id)
    caches.vectors.remove([chunk.chunk.id])  # type: ignore[union-attr]
    (finding,) = check()
    assert finding.place == "vectors"
    assert finding.detail == "1 of 4 vectors are missing"
    assert mend().complete
    assert check() == []


def test_texts_that_are_missing_or_too_many_are_told_and_mended(
    filled: Path, index: Index, check: Check, mend: Mend, collection: Docs, entries: Entries
) -> None:
    caches = index._pool.opened(collection())
    (chunk,) = index.catalogue.chunks_of(entries()["pump.txt"].id)
    caches.lexical.remove([chunk.chunk.id])
    caches.lexical.replace(["stray"], ["stray"], ["A stray text."])
    assert [(each.place, each.detail) for each in check()] == [
        ("lexical", "1 of 4 texts are missing"),
        ("lexical", "1 of 4 texts too many"),
    ]
    assert mend().complete
    assert check() == []


def test_a_damaged_catalogue_is_told_and_not_read_further(
    filled: Path, index: Index, settings: Settings, check: Check
) -> None:
    write(filled, **{f"more{n}": f"Text number {n}." * 200 for n in range(40)})
    index.seal()
    file = settings.data_dir / "catalogue.sqlite"
    with file.open("r+b") as stream:
        stream.seek(4096 * 3)
        stream.write(bytes(4096 * 6))
    (finding, *_) = check()
    assert (finding.place, finding.collection) == ("catalogue", "")
    assert "is damaged" in finding.detail
    assert "ingest repair" in finding.remedy


def test_documents_found_damaged_on_opening_stay_a_difference_until_they_are_read(
    filled: Path, settings: Settings, index: Index, word_embedder: Any
) -> None:
    with index._database.transaction() as db:
        db.execute("UPDATE pages SET text = 'The pump has 9 bar.' WHERE text LIKE '%pump%'")
    index.close()
    (settings.data_dir / "seal.json").unlink()
    with Index(settings.data_dir) as opened:
        assert opened.damaged == [str(filled / "pump.txt")]
        assert ("catalogue", "pump.txt") in short(list(verify(opened, settings)))
        list(repair(opened, lambda: word_embedder, settings))
        assert list(verify(opened, settings)) == []


# Settings, rebuilds, deletions


@pytest.fixture
def other(settings: Settings) -> Settings:
    """Settings with smaller chunks."""
    smaller = settings.ingest.model_copy(update={"chunk_tokens": 40})
    return settings.model_copy(update={"ingest": smaller})


def test_other_settings_are_told_and_left_to_a_person(
    filled: Path, check: Check, mend: Mend, other: Settings, index: Index
) -> None:
    before = content(index)
    (finding,) = check(settings=other)
    assert (finding.place, finding.remedy) == (
        "settings",
        "`ingest rebuild --collection docs` makes it anew",
    )
    report = mend(settings=other)
    assert not report.complete
    assert "ingest rebuild" in report.warnings[0]
    assert content(index).differences(before) == []


def test_a_rebuild_that_was_cut_off_is_told_and_ended(
    filled: Path,
    check: Check,
    mend: Mend,
    other: Settings,
    index: Index,
    word_embedder: Any,
    collection: Docs,
) -> None:
    running = rebuild(index, lambda: word_embedder, other, "docs")
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert [each.place for each in check(settings=other)] == ["settings", "rebuild"]
    report = mend(settings=other)
    assert report.complete
    assert check(settings=other) == []
    assert collection().generation == 2


def test_a_rebuild_begun_for_settings_that_are_no_more_is_dropped(
    filled: Path, check: Check, mend: Mend, other: Settings, index: Index, word_embedder: Any
) -> None:
    running = rebuild(index, lambda: word_embedder, other, "docs")
    next(running)
    running.close()  # type: ignore[attr-defined]
    (finding,) = check()
    assert (finding.place, finding.remedy) == (
        "rebuild",
        "`ingest rebuild --collection docs` goes on with it",
    )
    assert mend().complete
    assert index.catalogue.building() == []
    assert check() == []


def test_without_the_model_the_folders_are_still_compared(
    filled: Path, check: Check, mend: Mend, settings: Settings, tmp_path: Path
) -> None:
    models = settings.models.model_copy(update={"dir": tmp_path})
    bare = settings.model_copy(update={"models": models})
    write(filled, new="A new one.")
    assert short(check(settings=bare)) == [("folder", "new.txt"), ("settings", "")]
    report = mend(settings=bare)
    assert "the folders were not compared" in report.warnings[0]


def test_a_deletion_that_is_owed_is_told_and_ended(
    filled: Path, check: Check, mend: Mend, index: Index, collection: Docs, entries: Entries
) -> None:
    entry = entries()["pump.txt"]
    index.remove(collection(), [entry], forget=[entry], keep_out=[entry])
    (finding,) = check()
    assert (finding.place, finding.path) == ("deletion", "")
    assert mend().complete
    assert index.catalogue.debt(collection()) == (0, False)
    assert check() == []
    assert "pump.txt" not in entries()


def test_a_deleted_document_and_its_copies_are_no_differences(
    filled: Path,
    check: Check,
    mend: Mend,
    index: Index,
    settings: Settings,
    collection: Docs,
    entries: Entries,
) -> None:
    delete(index, collection(), [entries()["pump.txt"]], settings)
    shutil.copy2(filled / "pump.txt", filled / "copy.txt")
    assert check() == []
    assert mend().complete
    assert set(entries()) == {"lease.txt", "leave.txt", "fee.txt"}
    assert check() == []
    undelete(index, "docs", ["pump.txt"])
    assert short(check()) == [("folder", "copy.txt"), ("folder", "pump.txt")]


def test_a_deleted_document_that_is_back_is_told_and_deleted_again(
    filled: Path,
    check: Check,
    mend: Mend,
    index: Index,
    collection: Docs,
    entries: Entries,
    found: Search,
) -> None:
    entry = entries()["pump.txt"]
    index.ledger.keep_out("docs", entry.source, entry.sha256)
    assert ("deletion", "pump.txt") in short(check())
    assert mend().complete
    assert found("pump") == []
    assert check() == []
    assert [each.source for each in index.ledger.forgotten("docs")] == [entry.source]


def test_replaced_chunks_are_cleared_by_a_repair(
    filled: Path, run: Go, mend: Mend, index: Index, collection: Docs
) -> None:
    write(filled, **{f"more{n}": f"Text {n}." for n in range(9)}, pump="The pump has 7 bar.")
    run(filled)
    assert index.catalogue.debt(collection()).chunks == 1
    assert mend().complete
    assert index.catalogue.debt(collection()).chunks == 0


def test_what_was_made_from_deleted_documents_is_told(
    filled: Path,
    check: Check,
    mend: Mend,
    index: Index,
    collection: Docs,
    entries: Entries,
    tmp_path: Path,
) -> None:
    entry = entries()["pump.txt"]
    origin = Origin(entry.source, entry.sha256)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "e1"}\n')
    index.ledger.record_lineage("example", "e1", "docs", [origin], location=str(rows))
    index.ledger.record_lineage("adapter", "a1", "docs", [origin])
    index.remove(collection(), [entry], forget=[entry], keep_out=[entry])
    index.compact(collection())
    assert [each.detail for each in check()] == [
        "adapter 'a1' was made from a document that was deleted",
        "example 'e1' was made from a document that was deleted",
    ]
    report = mend()
    assert rows.read_text() == ""
    assert not report.complete
    assert [each.remedy for each in check()] == ["train it anew, or remove it"]


def test_what_a_killed_run_left_is_told_and_cleared(
    filled: Path, settings: Settings, check: Check, mend: Mend
) -> None:
    (settings.data_dir / "scratch").mkdir()
    (settings.data_dir / "scratch/catalogue.sqlite").write_text("left")
    (finding,) = check()
    assert finding.path == str(settings.data_dir / "scratch")
    assert mend().complete
    assert check() == []
    assert not (settings.data_dir / "scratch").exists()
