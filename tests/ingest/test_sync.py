import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rag_bot
from ingest import worker
from ingest.delete import delete, undelete, uploads
from ingest.report import Report
from ingest.sync import Options, ingest
from rag_bot.caches import Caches
from rag_bot.config import Settings, load
from rag_bot.errors import DocumentError, Unavailable, UnreadableDocument, UsageError
from rag_bot.index import Index
from rag_bot.ledger import Origin
from tests.ingest.conftest import Content, Entries, Go, Search, content, write

PROGRAM = b"\x7fELF" + bytes(range(256)) * 4


def never(*_: Any) -> Any:
    raise AssertionError("it was read, or the embedder was loaded")


def test_a_life_of_a_folder_with_the_real_worker(
    docs: Path, run: Go, found: Search, entries: Entries, tmp_path: Path
) -> None:
    write(
        docs, pump="The pump has 4 bar.", lease="The lease ends.", deep__leave="28 days of leave."
    )
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\nbroken")
    (docs / "empty.txt").write_bytes(b"")
    (docs / "program").write_bytes(PROGRAM)
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
    refused = {Path(each.path).name: each for each in first.report.files if each.code}
    assert {name: each.code for name, each in refused.items()} == {
        "broken.pdf": "damaged",
        "empty.txt": "empty",
        "program": "unknown_type",
        ".hidden.txt": "hidden",
        "link.txt": "symlink",
    }
    assert all(each.reason and each.remedy for each in refused.values())
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
class TestChanges:
    """What happened to files since the last run."""

    @pytest.mark.usefixtures("settled")
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

    @pytest.mark.usefixtures("settled")
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

    @pytest.mark.usefixtures("settled")
    def test_a_change_that_leaves_size_and_date_as_they_were_is_seen(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        """As when an archive of the same date is unpacked over it, long after."""
        write(docs, a="zebra")
        status = (docs / "a.txt").stat()
        run(docs)
        run(docs)
        (docs / "a.txt").write_text("camel")
        os.utime(docs / "a.txt", ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert run(docs).statuses == {"a.txt": "indexed"}
        assert (found("zebra"), found("camel")) == ([], ["camel"])
        assert run(docs).statuses == {"a.txt": "unchanged"}

    def test_changed_text_replaces_the_old(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="The zebra costs 5.", b="Two.")
        run(docs)
        write(docs, a="The camel costs 6, or more.")
        assert run(docs).statuses == {"a.txt": "indexed", "b.txt": "unchanged"}
        assert found("zebra") == []
        assert found("camel") == ["The camel costs 6, or more."]

    def test_only_what_is_new_in_an_edited_file_is_embedded(
        self, docs: Path, run: Go, word_embedder: Any
    ) -> None:
        paragraphs = [f"Animal {n} is a zebra. " * 40 for n in range(4)]
        write(docs, a="\n\n".join(paragraphs))
        first = run(docs)
        before = len(word_embedder.seen)
        assert before == first.report.embedded == 4
        write(docs, a="\n\n".join([*paragraphs, "Only the camel is new."]))
        edited = run(docs)
        (new,) = word_embedder.seen[before:]
        assert "Only the camel is new." in new
        assert edited.report.embedded == 1

    @pytest.mark.usefixtures("settled")
    def test_swapped_contents_are_seen_though_size_and_date_tell_nothing(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, a="The zebra.", b="The camel.")
        run(docs)
        (docs / "a.txt").rename(docs / "c.txt")
        (docs / "b.txt").rename(docs / "a.txt")
        (docs / "c.txt").rename(docs / "b.txt")
        swapped = run(docs, embedder=never)
        assert swapped.statuses == {"a.txt": "indexed", "b.txt": "indexed"}
        assert _texts(index) == {"a.txt": "The camel.", "b.txt": "The zebra."}

    def test_a_renamed_file_is_found_under_its_new_name_only(
        self, docs: Path, run: Go, found: Search, entries: Entries
    ) -> None:
        write(docs, a="The zebra.", b="One.")
        run(docs)
        (docs / "a.txt").rename(docs / "z.txt")
        renamed = run(docs, embedder=never)
        assert renamed.statuses == {"z.txt": "moved", "b.txt": "unchanged", "a.txt": "removed"}
        (moved,) = (each for each in renamed.report.files if each.status == "moved")
        assert moved.moved_from == str(docs / "a.txt")
        assert renamed.report.complete
        assert found("zebra") == ["The zebra."]
        assert set(entries()) == {"b.txt", "z.txt"}

    def test_a_change_of_case_alone_is_a_renaming(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, readme="The zebra.", b="One.")
        run(docs)
        (docs / "readme.txt").rename(docs / "README.txt")
        assert run(docs, embedder=never).statuses["README.txt"] == "moved"
        assert set(entries()) == {"README.txt", "b.txt"}

    def test_a_folder_moved_into_another_embeds_nothing(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, old__a="The zebra.", old__b="The camel.", c="One.")
        run(docs)
        (docs / "deep").mkdir()
        (docs / "old").rename(docs / "deep" / "new")
        moved = run(docs, embedder=never)
        assert [each.status for each in moved.report.files].count("moved") == 2
        assert {s.removeprefix(str(docs)) for s in content(index).documents} == {
            "/c.txt", "/deep/new/a.txt", "/deep/new/b.txt",
        }  # fmt: skip

    def test_a_file_moved_to_another_root_is_moved_when_both_are_given(
        self, docs: Path, run: Go
    ) -> None:
        write(docs, a__x="The zebra.", a__y="One.", b__z="Two.")
        run(docs / "a", docs / "b")
        (docs / "a" / "x.txt").rename(docs / "b" / "x.txt")
        both = run(docs / "a", docs / "b", embedder=never)
        assert sorted((Path(e.path).parent.name, e.status) for e in both.report.files) == [
            ("a", "removed"), ("a", "unchanged"), ("b", "moved"), ("b", "unchanged"),
        ]  # fmt: skip

    def test_a_copy_into_another_root_is_new_and_embeds_nothing(self, docs: Path, run: Go) -> None:
        write(docs, a__x="The zebra.", b__z="Two.")
        run(docs / "a", docs / "b")
        write(docs, b__x="The zebra.")
        copied = run(docs / "b", embedder=never)
        assert copied.statuses == {"x.txt": "indexed", "z.txt": "unchanged"}

    def test_twins_both_answer_and_go_one_by_one(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="The zebra.", b="The zebra.", c="One.", d="Two.")
        first = run(docs)
        assert first.report.embedded == 3
        assert found("zebra") == ["The zebra."] * 2
        (docs / "a.txt").unlink()
        run(docs)
        assert found("zebra") == ["The zebra."]
        (docs / "b.txt").unlink()
        run(docs)
        assert found("zebra") == []

    @pytest.mark.parametrize("renamed", ["a", "b"])
    def test_either_of_two_twins_can_be_renamed(
        self, docs: Path, run: Go, found: Search, renamed: str
    ) -> None:
        write(docs, a="The zebra.", b="The zebra.")
        run(docs)
        (docs / f"{renamed}.txt").rename(docs / "z.txt")
        assert run(docs, embedder=never).statuses["z.txt"] == "moved"
        assert found("zebra") == ["The zebra."] * 2

    def test_a_file_that_becomes_a_folder_and_a_folder_that_becomes_a_file(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, a="The zebra.", b__c="The camel.", d="One.", e="Two.")
        run(docs)
        (docs / "a.txt").unlink()
        write(docs / "a.txt", inner="The llama.")
        (docs / "b" / "c.txt").unlink()
        (docs / "b").rmdir()
        (docs / "b").write_text("The yak.")
        assert run(docs, allow_removal=True).report.complete
        assert _texts(index) == {
            "inner.txt": "The llama.", "b": "The yak.", "d.txt": "One.", "e.txt": "Two.",
        }  # fmt: skip

    def test_names_that_are_not_utf_8_have_a_life_like_others(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        strange = Path(os.fsdecode(os.fsencode(docs) + b"/m\xfcll.txt"))
        strange.write_text("The zebra.")
        write(docs, b="One.", c="Two.")
        assert run(docs).statuses["m\\xfcll.txt"] == "indexed"
        assert run(docs, embedder=never).statuses["m\\xfcll.txt"] == "unchanged"
        strange.write_text("The camel.")
        assert run(docs).statuses["m\\xfcll.txt"] == "indexed"
        strange.unlink()
        assert run(docs).statuses["m\\xfcll.txt"] == "removed"
        assert set(entries()) == {"b.txt", "c.txt"}

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
        (docs / "a.txt").write_bytes(PROGRAM)
        again = run(docs)
        assert again.statuses["a.txt"] == "skipped"
        assert len(again.report.files) == 3
        assert found("zebra") == []

    def test_what_it_was_is_kept_where_nothing_is_to_be_removed(
        self, docs: Path, run: Go, found: Search
    ) -> None:
        write(docs, a="The zebra.", b="One.", c="Two.")
        run(docs)
        (docs / "a.txt").write_bytes(PROGRAM)
        assert run(docs, delete=False).statuses["a.txt"] == "skipped"
        assert found("zebra") == ["The zebra."]

    def test_a_folder_that_cannot_be_listed_keeps_its_documents(
        self, docs: Path, run: Go, entries: Entries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", locked__d="Four.")
        run(docs)
        monkeypatch.setattr(os, "scandir", _refusing("locked"))
        (docs / "a.txt").unlink()
        again = run(docs)
        assert again.statuses == {
            "a.txt": "removed",
            "b.txt": "unchanged",
            "c.txt": "unchanged",
            "locked": "failed",
        }
        assert set(entries()) == {"b.txt", "c.txt", "d.txt"}

    def test_after_a_life_it_equals_a_clean_build(
        self, docs: Path, run: Go, index: Index, clean: Callable[[], Content]
    ) -> None:
        lines = "\n\n".join(f"Paragraph {n} is about zebras and their prices." for n in range(60))
        write(docs, a=lines, b="The camel.", sub__c="Three.", sub__d="Four.", e="The camel.")
        run(docs)
        write(docs, a=lines + "\n\nAnd a llama.", new=lines)
        (docs / "b.txt").rename(docs / "z.txt")
        (docs / "sub").rename(docs / "bus")
        (docs / "e.txt").unlink()
        (docs / "note.md").write_text("# Refunds\n\nWithin 14 days.\n")
        assert run(docs).report.complete
        write(docs, a=lines)
        assert run(docs).report.complete
        assert content(index).differences(clean()) == []
        assert len(content(index).documents) == 6


@pytest.fixture
def clean(docs: Path, settings: Settings, tmp_path: Path, word_embedder: Any) -> Any:
    """What an index made from nothing holds of the folder."""

    def build() -> Content:
        with Index(tmp_path / "clean") as fresh:
            list(ingest([docs], fresh, lambda: word_embedder, settings, "docs"))
            return content(fresh)

    return build


def _texts(index: Index) -> dict[str, str]:
    return {
        Path(source).name: " ".join(text for _, _, text in texts)
        for source, (_, _, texts) in content(index).documents.items()
    }


@pytest.mark.usefixtures("in_process")
class TestReach:
    """Removal reaches only as far as the roots that were given, and asks where it is much."""

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
            f"2 of 4 documents from {docs} would go, gone from disk or no longer wanted,"
            " and none was removed; if that is right, add --allow-removal",
        )
        assert not held.report.complete
        assert len(entries()) == 4
        allowed = run(docs, allow_removal=True)
        assert [s for s in allowed.statuses.values() if s == "removed"] == ["removed"] * 2
        assert set(entries()) == {"c.txt", "d.txt"}
        assert allowed.report.complete

    def test_a_third_counts_for_each_root(self, docs: Path, run: Go, entries: Entries) -> None:
        write(docs, a__1="One.", a__2="Two.", b__3="3.", b__4="4.", b__5="5.", b__6="6.")
        roots = (docs / "a", docs / "b")
        run(*roots)
        (docs / "a" / "1.txt").unlink()
        (docs / "b" / "3.txt").unlink()
        held = run(*roots)
        (warning,) = held.report.warnings
        assert warning.startswith(f"1 of 2 documents from {docs / 'a'} would go")
        assert set(entries()) == {"1.txt", "2.txt", "4.txt", "5.txt", "6.txt"}

    def test_renamed_files_do_not_count(self, docs: Path, run: Go, entries: Entries) -> None:
        write(docs, a="One.", b="Two.", c="Three.")
        run(docs)
        for name in "abc":
            (docs / f"{name}.txt").rename(docs / f"new {name}.txt")
        assert run(docs, embedder=never).report.complete
        assert set(entries()) == {"new a.txt", "new b.txt", "new c.txt"}

    def test_files_that_all_turned_into_rubbish_are_not_removed_unless_allowed(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        """As after a visit of ransomware."""
        write(docs, a="One.", b="Two.", c="Three.")
        run(docs)
        for name in "abc":
            (docs / f"{name}.txt").write_bytes(PROGRAM + name.encode())
        for _ in range(2):
            held = run(docs)
            assert set(held.statuses.values()) == {"skipped"}
            assert held.report.warnings[0].startswith("3 of 3 documents from ")
            assert len(entries()) == 3
        assert run(docs, allow_removal=True).report.complete
        assert entries() == {}

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

    def test_a_vanished_folder_loses_nothing_unless_allowed(
        self, docs: Path, run: Go, entries: Entries, index: Index
    ) -> None:
        write(docs, a__1="One.", a__2="Two.", b="Three.")
        run(docs / "a" / "1.txt")
        run(docs / "a")
        run(docs / "b.txt")
        for file in (docs / "a").iterdir():
            file.unlink()
        (docs / "a").rmdir()
        held = run(docs / "a")
        assert held.report.warnings[0].startswith(f"{docs / 'a'} is not there: 2 of 2 documents ")
        assert len(entries()) == 3
        assert run(docs / "a", allow_removal=True).report.complete
        assert set(entries()) == {"b.txt"}
        assert [root.path for root in index.ledger.roots("docs")] == [str(docs / "b.txt")]
        with pytest.raises(UsageError, match="no file or folder at"):
            run(docs / "a", allow_removal=True)

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

    def test_another_folder_touches_nothing(self, docs: Path, run: Go, entries: Entries) -> None:
        write(docs, a__1="One.", b__2="Two.")
        run(docs / "a")
        (docs / "a" / "1.txt").unlink()
        run(docs / "b", allow_removal=True)
        assert set(entries()) == {"1.txt", "2.txt"}

    def test_uploads_are_a_root_of_their_own(
        self, docs: Path, run: Go, entries: Entries, settings: Settings
    ) -> None:
        """Even where our data lie in the folder that is ingested."""
        inside = settings.model_copy(update={"data_dir": docs / "state"})
        write(docs, a="One.", b="Two.", c="Three.")
        write(uploads(inside) / "docs", given="Given.")
        run(uploads(inside) / "docs", settings=inside)
        assert run(docs, settings=inside, allow_removal=True).report.complete
        assert set(entries()) == {"a.txt", "b.txt", "c.txt", "given.txt"}
        (uploads(inside) / "docs" / "given.txt").unlink()
        run(docs, settings=inside, allow_removal=True)
        assert "given.txt" in entries()
        run(uploads(inside) / "docs", settings=inside, allow_removal=True)
        assert set(entries()) == {"a.txt", "b.txt", "c.txt"}

    def test_what_is_gone_can_be_kept(
        self, docs: Path, run: Go, entries: Entries, index: Index
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", d="Four.")
        run(docs)
        (docs / "a.txt").unlink()
        (docs / "b.txt").rename(docs / "z.txt")
        write(docs, c="Changed.")
        kept = run(docs, delete=False)
        assert kept.statuses == {"c.txt": "indexed", "d.txt": "unchanged", "z.txt": "moved"}
        assert kept.report.complete
        assert set(entries()) == {"a.txt", "b.txt", "c.txt", "d.txt", "z.txt"}

    def test_roots_that_overlap_count_each_file_once(self, docs: Path, run: Go) -> None:
        write(docs, a="One.", sub__b="Two.")
        both = run(docs, docs / "sub", docs / "a.txt", docs)
        assert sorted(Path(each.path).name for each in both.report.files) == ["a.txt", "b.txt"]

    def test_a_folder_decides_for_those_within_it(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.", b="Two.", sub__c="Three.", sub__d="Four.")
        run(docs)
        (docs / "sub" / "c.txt").unlink()
        assert run(docs / "sub", docs).report.complete
        assert set(entries()) == {"a.txt", "b.txt", "d.txt"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_what_one_root_leaves_out_another_may_be(
        self, docs: Path, run: Go, entries: Entries, order: int
    ) -> None:
        write(docs, a="One.")
        (docs / ".hidden.txt").write_text("Two.")
        run(*(docs, docs / ".hidden.txt")[::order])
        assert set(entries()) == {"a.txt", ".hidden.txt"}

    def test_roots_are_remembered_and_a_wider_one_swallows_those_within(
        self, docs: Path, run: Go, index: Index, settings: Settings
    ) -> None:
        def roots() -> list[tuple[str, tuple[str, ...]]]:
            return [(each.path, each.exclude) for each in index.ledger.roots("docs")]

        write(docs, a__1="One.", b__2="Two.", bc__3="Three.")
        run(docs / "b")
        run(docs / "bc", exclude=("*.tmp",))
        run(docs / "a" / "1.txt")
        assert roots() == [
            (str(docs / "a" / "1.txt"), ()),
            (str(docs / "b"), ()),
            (str(docs / "bc"), ("*.tmp",)),
        ]
        run(docs / "b" / "2.txt")
        assert len(roots()) == 3
        run(docs / "a", docs)
        assert roots() == [(str(docs), ())]
        run(docs, docs / "a")
        assert roots() == [(str(docs), ())]
        write(uploads(settings) / "docs", given="Given.")
        run(uploads(settings) / "docs")
        assert roots() == [(str(docs), ())]

    def test_a_folder_with_nothing_in_it_is_a_usage_error(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        with pytest.raises(UsageError, match="nothing to index in"):
            run(docs)
        assert index.catalogue.collections() == []

    def test_a_path_that_is_not_there_is_a_usage_error(self, docs: Path, run: Go) -> None:
        with pytest.raises(UsageError, match="no file or folder at"):
            run(docs / "gone")

    def test_our_own_data_is_not_indexed_wherever_it_lies(
        self, docs: Path, index: Index, settings: Settings, word_embedder: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        write(docs, a="One.", state__inner="catalogue zebra")
        monkeypatch.chdir(docs)
        relative = settings.model_copy(update={"data_dir": Path("state")})
        *_, report = ingest([docs], index, lambda: word_embedder, relative, "docs")
        assert isinstance(report, Report)
        assert [(Path(e.path).name, e.code) for e in report.files if e.status != "indexed"] == [
            ("state", "own_data")
        ]


@pytest.mark.usefixtures("in_process")
class TestPatterns:
    def test_included_and_excluded_files(self, docs: Path, run: Go, entries: Entries) -> None:
        write(docs, a="One.", drafts__b="Two.", c="Three.", keep="Four.")
        (docs / "d.md").write_text("Five.")
        first = run(docs, include=("*.txt",), exclude=("drafts/", "c.*"))
        assert {Path(e.path).name: e.code for e in first.report.files} == {
            "a.txt": "", "c.txt": "excluded", "d.md": "not_included",
            "drafts": "excluded", "keep.txt": "",
        }  # fmt: skip
        assert set(entries()) == {"a.txt", "keep.txt"}

    def test_the_settings_patterns_count_as_well(
        self, docs: Path, run: Go, entries: Entries, settings: Settings
    ) -> None:
        chosen = settings.ingest.model_copy(update={"exclude": ("a.*",)})
        write(docs, a="One.", b="Two.", c="Three.")
        run(docs, settings=settings.model_copy(update={"ingest": chosen}), exclude=("b.*",))
        assert set(entries()) == {"c.txt"}

    def test_what_is_excluded_from_now_on_leaves_the_index(
        self, docs: Path, run: Go, entries: Entries, found: Search
    ) -> None:
        write(docs, a="The zebra.", b="Two.", c="Three.")
        run(docs)
        again = run(docs, exclude=("a.txt",))
        assert [(Path(e.path).name, e.status) for e in again.report.files] == [
            ("a.txt", "skipped"), ("b.txt", "unchanged"), ("c.txt", "unchanged"),
            ("a.txt", "removed"),
        ]  # fmt: skip
        assert found("zebra") == []
        run(docs)
        assert set(entries()) == {"a.txt", "b.txt", "c.txt"}

    def test_to_exclude_more_than_a_third_has_to_be_allowed(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.", drafts__b="Two.", drafts__c="Three.")
        run(docs)
        assert len(run(docs, exclude=("drafts",)).report.warnings) == 1
        assert len(entries()) == 3
        run(docs, exclude=("drafts",), allow_removal=True)
        assert set(entries()) == {"a.txt"}

    def test_a_pattern_that_is_none_changes_nothing(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, a="One.")
        run(docs)
        with pytest.raises(UsageError, match="not a pattern"):
            run(docs, exclude=("a[",))
        assert set(entries()) == {"a.txt"}


class Scenario(NamedTuple):
    """What a folder was, what happened, and how it is ingested then."""

    before: dict[str, str]
    happens: Callable[[Path], None]
    options: dict[str, Any] = {}  # noqa: RUF012


def _edit(docs: Path) -> None:
    write(docs, a="Changed.", new="New.", also_new="New.")


def _rename(docs: Path) -> None:
    (docs / "a.txt").rename(docs / "z.txt")
    write(docs, sub__y="New.")


def _swap(docs: Path) -> None:
    write(docs, a="Two.", b="One.")


def _lose_one(docs: Path) -> None:
    (docs / "a.txt").unlink()


def _lose_two(docs: Path) -> None:
    (docs / "a.txt").unlink()
    (docs / "b.txt").unlink()


def _lose_a_twin_while_the_other_changes(docs: Path) -> None:
    (docs / "a.txt").unlink()
    write(docs, b="Something else.")


def _date(docs: Path) -> None:
    os.utime(docs / "a.txt")


def _grow(docs: Path) -> None:
    (docs / "a.txt").write_text("x" * 1_000_001)


FOUR = {"a": "One.", "b": "Two.", "c": "Three.", "d": "Four."}
SCENARIOS = {
    "from nothing": Scenario({}, _edit),
    "edited": Scenario(FOUR, _edit),
    "renamed": Scenario(FOUR, _rename),
    "swapped": Scenario(FOUR, _swap),
    "one lost": Scenario(FOUR, _lose_one),
    "too many lost": Scenario(FOUR, _lose_two),
    "many lost, allowed": Scenario(FOUR, _lose_two, {"allow_removal": True}),
    "many lost, kept": Scenario(FOUR, _lose_two, {"delete": False}),
    "a twin lost and the other changed": Scenario(
        {"a": "Same.", "b": "Same."}, _lose_a_twin_while_the_other_changes
    ),
    "a new date": Scenario(FOUR, _date),
    "too large": Scenario(FOUR, _grow),
    "excluded": Scenario(FOUR, _date, {"exclude": ("b.txt",)}),
    "mostly excluded": Scenario(FOUR, _date, {"include": ("b.txt",)}),
}


def _state(index: Index) -> dict[str, Any]:
    """Every byte on disk and every row: reading alone may touch the log's shared memory."""
    files = (each for each in index.data_dir.rglob("*") if each.is_file())
    state: dict[str, Any] = {
        str(file): file.read_bytes() for file in files if not file.name.endswith("-shm")
    }
    with sqlite3.connect(index.data_dir / "catalogue.sqlite") as rows:
        return state | {"rows": list(rows.iterdump())}


@pytest.mark.usefixtures("in_process", "settled")
class TestDryRun:
    @pytest.mark.parametrize("name", SCENARIOS)
    def test_foresees_what_the_real_run_does_and_changes_nothing(
        self, docs: Path, run: Go, index: Index, settings: Settings, name: str
    ) -> None:
        smaller = settings.ingest.model_copy(update={"max_file_mb": 1})
        settings = settings.model_copy(update={"ingest": smaller})
        before, happens, options = SCENARIOS[name]
        write(docs, **before)
        if before:
            run(docs, settings=settings)
        happens(docs)
        state = _state(index)
        foreseen = run(docs, settings=settings, embedder=never, dry_run=True, **options).report
        assert _state(index) == state
        real = run(docs, settings=settings, **options).report
        assert foreseen.dry_run
        assert _ends(foreseen) == _ends(real)
        assert foreseen.warnings == real.warnings

    def test_foresees_what_stays_out(
        self, docs: Path, run: Go, index: Index, settings: Settings
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", d="Four.")
        run(docs)
        _delete(index, settings, docs / "a.txt")
        (docs / "a.txt").rename(docs / "z.txt")
        write(docs, b="One.")
        foreseen = run(docs, dry_run=True, embedder=never).report
        assert _ends(foreseen) == _ends(run(docs).report)

    def test_is_not_on_record(self, docs: Path, run: Go, index: Index) -> None:
        write(docs, a="One.")
        run(docs, dry_run=True)
        assert index.ledger.runs() == []

    def test_counts_like_a_real_run(self, docs: Path, run: Go) -> None:
        write(docs, a="One.", b="Two.")
        foreseen = run(docs, dry_run=True)
        assert [(each.done, each.total) for each in foreseen.progress] == [(1, 2), (2, 2)]
        data = foreseen.report.as_json()
        assert (data["dry_run"], data["found"], data["indexed"]) == (True, 2, 2)


def _ends(report: Report) -> list[tuple[str, str, str, str]]:
    return sorted((each.path, each.status, each.code, each.moved_from) for each in report.files)


def _delete(index: Index, settings: Settings, *paths: Path) -> None:
    collection = index.catalogue.collection("docs")
    assert collection
    wanted = [e for e in index.catalogue.entries(collection) if Path(e.source) in paths]
    assert len(wanted) == len(paths)
    delete(index, collection, wanted, settings)


@pytest.mark.usefixtures("in_process", "settled")
class TestRejections:
    """Files that were found unfit are remembered, and not read again."""

    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of the files that are read."""
        seen: list[str] = []
        real = worker._read

        def read(path: Path, limit: int) -> Any:
            seen.append(path.name)
            return real(path, limit)

        monkeypatch.setattr(worker, "_read", read)
        return seen

    def unfit(self, docs: Path) -> None:
        write(docs, fine="One.")
        (docs / "broken.pdf").write_bytes(b"%PDF-1.7\nbroken")
        (docs / "empty.txt").write_bytes(b"")
        (docs / "program").write_bytes(PROGRAM)

    def test_are_not_read_again_and_told_in_the_same_words(
        self, docs: Path, run: Go, reads: list[str]
    ) -> None:
        self.unfit(docs)
        first = run(docs)
        reads.clear()
        again = run(docs)
        assert reads == []
        refused = [each for each in first.report.files if each.code]
        assert len(refused) == 3
        assert refused == [each for each in again.report.files if each.code]

    def test_are_read_again_when_they_change(
        self, docs: Path, run: Go, reads: list[str], index: Index
    ) -> None:
        self.unfit(docs)
        run(docs)
        reads.clear()
        write(docs, empty="No longer.")
        assert run(docs).statuses["empty.txt"] == "indexed"
        assert reads == ["empty.txt"]
        assert {Path(s).name for s in index.ledger.rejections("docs")} == {"broken.pdf", "program"}

    def test_are_read_again_by_another_version_or_with_another_limit(
        self, docs: Path, run: Go, reads: list[str], settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        self.unfit(docs)
        run(docs)
        larger = settings.ingest.model_copy(update={"max_file_mb": 201})
        reads.clear()
        run(docs, settings=settings.model_copy(update={"ingest": larger}))
        assert sorted(reads) == ["broken.pdf", "empty.txt", "program"]
        monkeypatch.setattr(rag_bot, "__version__", "99")
        reads.clear()
        run(docs)
        assert sorted(reads) == ["broken.pdf", "empty.txt", "program"]

    @pytest.mark.parametrize("code", ["changed", "timeout", "crashed", "unreadable"])
    def test_are_read_again_when_it_may_have_been_chance(
        self, docs: Path, run: Go, reads: list[str], index: Index, code: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        write(docs, a="One.")
        with monkeypatch.context() as patch:
            patch.setattr(worker, "_read", _raising(UnreadableDocument(code, "no", "again")))
            assert run(docs).statuses == {"a.txt": "failed"}
        assert index.ledger.rejections("docs") == {}
        assert run(docs).statuses == {"a.txt": "indexed"}

    def test_that_fail_by_chance_later_are_not_told_in_the_old_words(
        self, docs: Path, run: Go, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.unfit(docs)
        run(docs)
        (docs / "empty.txt").write_bytes(b"\0")
        with monkeypatch.context() as patch:
            patch.setattr(worker, "_read", _raising(UnreadableDocument("timeout", "no")))
            run(docs)
        assert str(docs / "empty.txt") not in index.ledger.rejections("docs")

    def test_are_read_again_when_they_were_written_just_before(
        self, docs: Path, run: Go, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ingest.sync._RACY_NS", 2_000_000_000)
        self.unfit(docs)
        run(docs)
        assert index.ledger.rejections("docs") == {}

    def test_are_forgotten_with_their_files(self, docs: Path, run: Go, index: Index) -> None:
        self.unfit(docs)
        run(docs)
        (docs / "broken.pdf").unlink()
        run(docs, exclude=("program",))
        assert {Path(s).name for s in index.ledger.rejections("docs")} == {"empty.txt"}

    def test_are_forgotten_when_what_was_indexed_comes_back(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, a="One.", b="Two.")
        run(docs)
        (docs / "a.txt").rename(docs.parent / "aside")
        (docs / "a.txt").write_bytes(b"%PDF-1.7\nbroken")
        assert run(docs).statuses["a.txt"] == "failed"
        (docs.parent / "aside").rename(docs / "a.txt")
        assert run(docs, embedder=never).statuses["a.txt"] == "unchanged"
        assert index.ledger.rejections("docs") == {}

    def test_below_a_folder_that_cannot_be_listed_stay_known(
        self, docs: Path, run: Go, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.unfit(docs / "locked")
        write(docs, a="One.")
        run(docs)
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", _refusing("locked"))
            run(docs)
        assert len(index.ledger.rejections("docs")) == 3


def _raising(error: DocumentError) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def _refusing(name: str) -> Callable[[Any], Any]:
    real = os.scandir

    def scandir(path: Any) -> Any:
        # shutil lists open folders, by number.
        if not isinstance(path, int) and Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return real(path)

    return scandir


class TestKeptOut:
    """What `delete` took out while its file is still there."""

    @pytest.fixture(autouse=True)
    def deleted(
        self, in_process: None, settled: None, docs: Path, run: Go, index: Index, settings: Settings
    ) -> None:
        write(docs, a="The zebra.", b="Two.", c="Three.")
        run(docs)
        _delete(index, settings, docs / "a.txt")

    def test_stays_out(self, docs: Path, run: Go, found: Search) -> None:
        again = run(docs, embedder=never)
        (kept_out,) = (each for each in again.report.files if each.status != "unchanged")
        assert (Path(kept_out.path).name, kept_out.code) == ("a.txt", "deleted")
        assert "undelete" in kept_out.remedy
        assert again.report.complete
        assert found("zebra") == []

    def test_stays_out_under_another_name(
        self, docs: Path, run: Go, found: Search, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (docs / "a.txt").rename(docs / "z.txt")
        assert run(docs, embedder=never).statuses["z.txt"] == "skipped"
        monkeypatch.setattr(worker, "_read", never)
        assert run(docs, embedder=never).statuses["z.txt"] == "skipped"
        assert found("zebra") == []

    def test_stays_out_when_it_is_edited(self, docs: Path, run: Go, found: Search) -> None:
        write(docs, a="The zebra, edited.")
        assert run(docs, embedder=never).statuses["a.txt"] == "skipped"
        assert found("zebra") == []

    def test_comes_back_when_it_is_undeleted(
        self, docs: Path, run: Go, found: Search, index: Index
    ) -> None:
        (docs / "a.txt").rename(docs / "z.txt")
        run(docs)
        undelete(index, "docs", ["a.txt"])
        assert run(docs).statuses["z.txt"] == "indexed"
        assert found("zebra") == ["The zebra."]

    def test_a_document_that_takes_on_its_content_goes(
        self, docs: Path, run: Go, entries: Entries
    ) -> None:
        write(docs, b="The zebra.")
        assert run(docs, allow_removal=True).statuses["b.txt"] == "skipped"
        assert set(entries()) == {"c.txt"}

    def test_a_twin_that_lives_can_be_renamed(
        self, docs: Path, run: Go, found: Search, index: Index, settings: Settings
    ) -> None:
        write(docs, twin="Two.")
        run(docs)
        _delete(index, settings, docs / "b.txt")
        (docs / "twin.txt").rename(docs / "renamed.txt")
        again = run(docs, embedder=never)
        assert again.statuses["renamed.txt"] == "moved"
        assert again.statuses["b.txt"] == "skipped"
        assert found("two") == ["Two."]

    def test_goes_again_where_it_lives_all_the_same(
        self, docs: Path, run: Go, entries: Entries, index: Index
    ) -> None:
        """Nothing should bring it about. But what was deleted must not answer."""
        index.ledger.keep_out("docs", str(docs / "b.txt"), "0" * 64)
        run(docs, allow_removal=True)
        assert set(entries()) == {"c.txt"}


@pytest.mark.usefixtures("in_process")
class TestRuns:
    """Each run is on record, however it ended, and the next one works."""

    def test_what_was_embedded_is_what_is_searched(
        self, docs: Path, run: Go, word_embedder: Any
    ) -> None:
        (docs / "a.md").write_text("# Refunds\n\nWithin 14 days.\n")
        run(docs)
        assert any("Refunds" in t and "Within 14 days." in t for t in word_embedder.seen)

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
        assert run(docs, settings=load(flags=flags, environ={}).settings).report.embedded == 7
        collection = index.catalogue.collection("docs")
        assert collection
        for n in range(7):
            text = f"Only animal{n} lives here."
            (hit,) = index.dense(collection, word_embedder.encode([text])[0], 1)
            assert hit.chunk.text == text
            assert found(f"animal{n}") == [text]

    def test_counts_and_failures_are_on_record_and_nothing_else(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", d="Four.")
        (docs / "empty.txt").write_bytes(b"")
        run(docs)
        (docs / "a.txt").unlink()
        (docs / "empty.txt").unlink()
        run(docs)
        second, first = index.ledger.runs()
        assert (first.kind, first.collection, first.outcome) == ("ingest", "docs", "in part")
        assert (first.report["indexed"], first.report["failed"]) == (4, 1)
        assert [Path(each["path"]).name for each in first.report["files"]] == ["empty.txt"]
        assert (second.outcome, second.report["removed"], second.report["unchanged"]) == (
            "done", 1, 3,
        )  # fmt: skip
        assert second.report["files"] == []
        assert second.ended_at is not None
        assert first.started_at <= second.started_at <= second.ended_at <= time.time()

    def test_a_consumer_that_stops_at_the_report_has_seen_it_all(
        self, docs: Path, index: Index, settings: Settings, word_embedder: Any
    ) -> None:
        write(docs, a="One.")
        events = ingest([docs], index, lambda: word_embedder, settings, "docs", kind="schedule")
        for event in events:
            if isinstance(event, Report):
                break
        (record,) = index.ledger.runs()
        assert (record.kind, record.outcome) == ("schedule", "done")

    def test_a_failure_while_embedding_leaves_the_old_state(
        self, docs: Path, run: Go, found: Search, index: Index
    ) -> None:
        write(docs, a="The zebra.")
        run(docs)
        write(docs, a="The camel is new.")
        with pytest.raises(MemoryError):
            run(docs, embedder=lambda: (_ for _ in ()).throw(MemoryError()))
        failed, _ = index.ledger.runs()
        assert (failed.outcome, failed.report) == ("failed", {"error": "MemoryError"})
        assert found("zebra") == ["The zebra."]
        assert found("camel") == []
        assert run(docs).statuses == {"a.txt": "indexed"}
        assert (found("zebra"), found("camel")) == ([], ["The camel is new."])

    def test_an_error_of_ours_is_on_record_with_its_remedy(
        self, docs: Path, run: Go, index: Index
    ) -> None:
        write(docs, a="One.")

        def broken() -> Any:
            raise Unavailable("the model is gone", "pull it")

        with pytest.raises(Unavailable):
            run(docs, embedder=broken)
        (failed,) = index.ledger.runs()
        assert (failed.outcome, failed.report) == (
            "failed", {"error": "the model is gone (pull it)"},
        )  # fmt: skip
        assert failed.ended_at is not None

    def test_a_run_that_is_stopped_halfway_is_continued_by_the_next(
        self, docs: Path, run: Go, index: Index, settings: Settings, word_embedder: Any,
        clean: Callable[[], Content],
    ) -> None:  # fmt: skip
        small = settings.ingest.model_copy(update={"batch_chunks": 1})
        settings = settings.model_copy(update={"ingest": small})
        write(docs, a="One.", b="Two.", c="Three.")
        events = ingest([docs], index, lambda: word_embedder, settings, "docs")
        next(events)
        events.close()  # type: ignore[attr-defined]
        (stopped,) = index.ledger.runs()
        assert (stopped.outcome, stopped.report) == ("failed", {"error": "stopped before its end"})
        word_embedder.seen.clear()
        again = run(docs)
        assert again.statuses == {"a.txt": "unchanged", "b.txt": "indexed", "c.txt": "indexed"}
        assert len(word_embedder.seen) == 2
        assert content(index).differences(clean()) == []

    def test_a_batch_whose_caches_failed_comes_to_light_before_the_next_run_looks(
        self, docs: Path, run: Go, entries: Entries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its file went in the meantime: nothing else would take it out again."""
        write(docs, a="One.", b="Two.", c="Three.")
        run(docs)
        write(docs, d="The zebra.")
        with monkeypatch.context() as patch:
            patch.setattr(Caches, "replace", _full_disk)
            with pytest.raises(OSError, match="No space"):
                run(docs)
        assert set(entries()) == {"a.txt", "b.txt", "c.txt"}
        (docs / "d.txt").unlink()
        assert run(docs).statuses["d.txt"] == "removed"
        assert set(entries()) == {"a.txt", "b.txt", "c.txt"}

    def test_what_was_made_of_a_document_goes_with_it_but_not_when_it_is_renamed(
        self, docs: Path, run: Go, index: Index, entries: Entries
    ) -> None:
        write(docs, a="One.", b="Two.", c="Three.", d="Four.")
        run(docs)
        for name in ("a.txt", "b.txt"):
            entry = entries()[name]
            origin = Origin(entry.source, entry.sha256)
            index.ledger.record_lineage("adapter", f"of {name}", "docs", [origin])
        (docs / "a.txt").rename(docs / "z.txt")
        (docs / "b.txt").unlink()
        assert run(docs).report.complete
        marked = {each.item: each.marked for each in index.ledger.made()}
        assert marked == {"of a.txt": False, "of b.txt": True}

    def test_options_that_nobody_gave_are_the_careful_ones(self) -> None:
        assert Options() == Options(allow_removal=False, delete=True, dry_run=False)


def _full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")
