import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingest import sync, worker
from ingest.report import Progress, Report
from ingest.sync import ingest
from ingest.worker import Job, Recipe, draft
from rag_bot.catalogue import Entry
from rag_bot.config import Settings, load
from rag_bot.errors import DocumentError, UsageError
from rag_bot.index import Index


def never() -> Any:
    raise AssertionError("the embedder was loaded")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def write(folder: Path, **texts: str) -> None:
    """Text files, dated an hour ago: what was written just now may be written again."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(f"{path.name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        long_ago = time.time() - 3600
        os.utime(path, (long_ago, long_ago))


class Run(NamedTuple):
    """A report by file name, and everything else that a test looks at."""

    report: Report
    statuses: dict[str, str]
    progress: list[Progress]


@pytest.fixture
def run(index: Index, settings: Settings, word_embedder: Any) -> Callable[..., Run]:
    """Ingest paths into the collection `docs`; reads in this process unless told otherwise."""

    def go(*paths: Path, embedder: Any = lambda: word_embedder, **options: Any) -> Run:
        *progress, report = ingest(paths, index, embedder, settings, "docs", **options)
        assert isinstance(report, Report)
        assert all(isinstance(each, Progress) for each in progress)
        statuses = {Path(each.path).name: each.status for each in report.files}
        return Run(report, statuses, progress)

    return go


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own reading without its process, which takes seconds to start."""

    def drafts(jobs: list[Job], recipe: Recipe) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            try:
                yield job, draft(job, recipe, lambda _done, _total: None)
            except DocumentError as error:
                yield job, error

    monkeypatch.setattr(sync, "drafts", drafts)


@pytest.fixture
def entries(index: Index) -> Callable[[], dict[str, Entry]]:
    """What the collection holds, by file name."""

    def read() -> dict[str, Entry]:
        collection = index.catalogue.collection("docs")
        assert collection
        return {Path(e.source).name: e for e in index.catalogue.entries(collection)}

    return read


@pytest.fixture
def found(index: Index) -> Callable[[str], list[str]]:
    """The texts that a word finds."""

    def search(word: str) -> list[str]:
        collection = index.catalogue.collection("docs")
        assert collection
        return sorted(hit.chunk.text for hit in index.lexical(collection, word, 20))

    return search


Go = Callable[..., Run]
Search = Callable[[str], list[str]]
Entries = Callable[[], dict[str, Entry]]


def test_a_life_of_a_folder_with_the_real_worker(
    docs: Path, run: Go, found: Search, entries: Entries, tmp_path: Path
) -> None:
    write(
        docs, pump="The pump has 4 bar.", lease="The lease ends.", deep__leave="28 days of leave."
    )
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\nbroken")
    (docs / "empty.txt").write_bytes(b"")
    (docs / "program").write_bytes(b"\x7fELF" + bytes(range(256)) * 4)
    (docs / ".hidden.txt").write_text("hidden zebra")
    (tmp_path / "secret.txt").write_text("secret zebra")
    (docs / "link.txt").symlink_to(tmp_path / "secret.txt")
    first = run(docs)
    assert first.statuses == {
        "pump.txt": "indexed",
        "lease.txt": "indexed",
        "leave.txt": "indexed",
        "broken.pdf": "failed",
        "empty.txt": "failed",
        "program": "skipped",
        ".hidden.txt": "skipped",
        "link.txt": "skipped",
    }
    reasons = {Path(each.path).name: each.reason for each in first.report.files}
    assert reasons["broken.pdf"].startswith("damaged: ")
    assert reasons["empty.txt"].startswith("empty: the file is empty")
    assert reasons["program"].startswith("unknown_type: ")
    assert first.report.embedded == 3
    assert not first.report.complete
    assert [each.done for each in first.progress] == list(range(1, 9))
    assert {each.total for each in first.progress} == {8}
    assert (first.progress[-1].pages, first.progress[-1].chunks) == (3, 3)
    assert found("zebra") == []
    assert found("pump") == ["The pump has 4 bar."]
    assert set(entries()) == {"pump.txt", "lease.txt", "leave.txt"}
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("in_process")
class TestSync:
    """The same with the worker's reading done here."""

    def test_an_unchanged_folder_is_not_read_nor_embedded(
        self, docs: Path, run: Go, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(docs, a="One.", b="Two.")
        run(docs)
        monkeypatch.setattr(worker, "_read", never)
        again = run(docs, embedder=never)
        assert again.statuses == {"a.txt": "unchanged", "b.txt": "unchanged"}
        assert again.report.embedded == 0
        assert again.report.complete

    def test_a_new_date_alone_embeds_nothing(self, docs: Path, run: Go, entries: Entries) -> None:
        write(docs, a="One.")
        run(docs)
        before = entries()["a.txt"]
        os.utime(docs / "a.txt", ns=(7, 7_000_000_000))
        assert run(docs, embedder=never).statuses == {"a.txt": "unchanged"}
        after = entries()["a.txt"]
        assert after.mtime_ns == 7_000_000_000
        assert (after.id, after.sha256) == (before.id, before.sha256)

    def test_a_change_of_the_same_size_and_date_right_after_indexing_is_seen(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        (docs / "a.txt").write_text("zebra")
        date = (docs / "a.txt").stat().st_mtime_ns
        run(docs)
        (docs / "a.txt").write_text("camel")
        os.utime(docs / "a.txt", ns=(date, date))
        assert run(docs).statuses == {"a.txt": "indexed"}
        assert (found("zebra"), found("camel")) == ([], ["camel"])

    def test_changed_text_replaces_the_old(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="The zebra costs 5.", b="Two.")
        run(docs)
        write(docs, a="The camel costs 6.")
        os.utime(docs / "a.txt")
        assert run(docs).statuses == {"a.txt": "indexed", "b.txt": "unchanged"}
        assert found("zebra") == []
        assert found("camel") == ["The camel costs 6."]

    def test_a_file_gone_is_removed(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="zebra", b="camel", c="llama")
        run(docs)
        (docs / "a.txt").unlink()
        assert run(docs, embedder=never).statuses == {
            "a.txt": "removed",
            "b.txt": "unchanged",
            "c.txt": "unchanged",
        }
        assert found("zebra") == []
        assert run(docs).statuses == {"b.txt": "unchanged", "c.txt": "unchanged"}

    def test_more_than_a_third_gone_is_not_removed_unless_allowed(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", d="Four.")
        run(docs)
        (docs / "a.txt").unlink()
        (docs / "b.txt").unlink()
        held = run(docs)
        assert held.report.warnings == (
            "2 of 4 documents are gone from disk, and none was removed;"
            " if that is right, add --allow-removal",
        )
        assert not held.report.complete
        assert len(entries()) == 4
        allowed = run(docs, allow_removal=True)
        assert [s for s in allowed.statuses.values() if s == "removed"] == ["removed"] * 2
        assert set(entries()) == {"c.txt", "d.txt"}
        assert allowed.report.complete

    def test_an_emptied_folder_loses_nothing_unless_allowed(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        """As when a network share is not mounted."""
        write(docs, a="One.")
        run(docs)
        (docs / "a.txt").unlink()
        assert len(run(docs).report.warnings) == 1
        assert set(entries()) == {"a.txt"}
        run(docs, allow_removal=True)
        assert entries() == {}

    def test_one_file_never_removes_its_neighbours(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.")
        run(docs)
        (docs / "b.txt").unlink()
        assert run(docs / "a.txt", allow_removal=True).statuses == {"a.txt": "unchanged"}
        assert set(entries()) == {"a.txt", "b.txt", "c.txt"}

    def test_a_folder_within_touches_only_its_own(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.", sub__b="Two.", sub__c="Three.", subway__d="Four.")
        run(docs)
        for path in ("a.txt", "sub/b.txt", "subway/d.txt"):
            (docs / path).unlink()
        again = run(docs / "sub", allow_removal=True)
        assert again.statuses == {"b.txt": "removed", "c.txt": "unchanged"}
        assert set(entries()) == {"a.txt", "c.txt", "d.txt"}

    def test_roots_that_overlap_count_each_file_once(self, docs: Path, run: Go) -> None:
        write(docs, a="One.", sub__b="Two.")
        both = run(docs, docs / "sub", docs / "a.txt")
        assert sorted(Path(each.path).name for each in both.report.files) == ["a.txt", "b.txt"]

    def test_twins_both_answer_and_go_one_by_one(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="The zebra.", b="The zebra.", c="One.", d="Two.")
        run(docs)
        assert found("zebra") == ["The zebra."] * 2
        (docs / "a.txt").unlink()
        run(docs)
        assert found("zebra") == ["The zebra."]
        (docs / "b.txt").unlink()
        run(docs)
        assert found("zebra") == []

    def test_a_renamed_file_is_found_under_its_new_name_only(
        self, docs: Path, run: Go, found: Search, entries: Entries
    ) -> None:
        write(docs, a="The zebra.", b="One.", c="Two.")
        run(docs)
        (docs / "a.txt").rename(docs / "z.txt")
        assert run(docs).statuses == {
            "z.txt": "indexed",
            "b.txt": "unchanged",
            "c.txt": "unchanged",
            "a.txt": "removed",
        }
        assert found("zebra") == ["The zebra."]
        assert set(entries()) == {"b.txt", "c.txt", "z.txt"}

    def test_a_file_that_became_unreadable_keeps_its_old_text(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        write(docs, a="The zebra.", b="One.", c="Two.")
        run(docs)
        (docs / "a.txt").write_bytes(b"%PDF-1.7\nbroken")
        again = run(docs)
        assert again.statuses["a.txt"] == "failed"
        assert found("zebra") == ["The zebra."]

    def test_a_file_that_became_no_document_is_gone(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        write(docs, a="The zebra.", b="One.", c="Two.")
        run(docs)
        (docs / "a.txt").write_bytes(b"\x7fELF" + bytes(range(256)) * 4)
        assert run(docs).statuses["a.txt"] == "skipped"
        assert found("zebra") == []

    def test_a_folder_that_cannot_be_listed_keeps_its_documents(
        self, docs: Path, run: Go, entries: Entries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", locked__d="Four.")
        run(docs)
        real = os.scandir

        def scandir(path: Any) -> Any:
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        (docs / "a.txt").unlink()
        again = run(docs)
        assert again.statuses == {
            "a.txt": "removed",
            "b.txt": "unchanged",
            "c.txt": "unchanged",
            "locked": "failed",
        }
        assert set(entries()) == {"b.txt", "c.txt", "d.txt"}

    def test_a_folder_with_nothing_in_it_is_a_usage_error(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        with pytest.raises(UsageError, match="nothing to index in"):
            run(docs)
        assert index.catalogue.collections() == []

    def test_a_path_that_is_not_there_is_a_usage_error(self, docs: Path, run: Go) -> None:
        with pytest.raises(UsageError, match="no file or folder at"):
            run(docs / "gone")

    def test_batches_do_not_mix_documents_up(
        self, docs: Path, run: Go, settings: Settings, found: Search, index: Index,
        word_embedder: Any,
    ) -> None:  # fmt: skip
        flags = {
            "data_dir": settings.data_dir,
            "models.dir": settings.models.dir,
            "ingest.batch_chunks": 2,
        }
        write(docs, **{f"f{n}": f"Only animal{n} lives here." for n in range(7)})
        small = load(flags=flags, environ={}).settings
        *_, report = ingest([docs], index, lambda: word_embedder, small, "docs")
        assert report.embedded == 7
        collection = index.catalogue.collection("docs")
        for n in range(7):
            text = f"Only animal{n} lives here."
            (hit,) = index.dense(collection, word_embedder.encode([text])[0], 1)
            assert hit.chunk.text == text
            assert found(f"animal{n}") == [text]

    def test_what_is_embedded_is_what_is_searched(
        self, docs: Path, run: Go, word_embedder: Any
    ) -> None:
        (docs / "a.md").write_text("# Refunds\n\nWithin 14 days.\n")
        run(docs)
        assert any("Refunds" in t and "Within 14 days." in t for t in word_embedder.seen)

    def test_our_own_data_is_not_indexed_wherever_it_lies(
        self, docs: Path, index: Index, settings: Settings, word_embedder: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        write(docs, a="One.", state__inner="catalogue zebra")
        monkeypatch.chdir(docs)
        relative = settings.model_copy(update={"data_dir": Path("state")})
        *_, report = ingest([docs], index, lambda: word_embedder, relative, "docs")
        assert [(Path(e.path).name, e.status) for e in report.files if e.status != "indexed"] == [
            ("state", "skipped")
        ]

    def test_every_run_is_on_record(self, docs: Path, run: Go, index: Index) -> None:
        write(docs, a="One.")
        run(docs)
        run(docs)
        rows = index.catalogue._all("SELECT report FROM runs ORDER BY id")
        assert ['"indexed": 1' in row[0] for row in rows] == [True, False]

    def test_a_failure_while_embedding_leaves_the_old_state(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        write(docs, a="The zebra.")
        run(docs)
        write(docs, a="The camel.")
        os.utime(docs / "a.txt")
        with pytest.raises(MemoryError):
            run(docs, embedder=lambda: (_ for _ in ()).throw(MemoryError()))
        assert found("zebra") == ["The zebra."]
        assert found("camel") == []
        assert run(docs).statuses == {"a.txt": "indexed"}
        assert (found("zebra"), found("camel")) == ([], ["The camel."])
