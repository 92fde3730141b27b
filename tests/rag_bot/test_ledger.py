import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_bot.catalogue import Catalogue
from rag_bot.database import Database
from rag_bot.ledger import KEPT_RUNS, Ledger, Made, Origin, Rejection, Root

A, B, TWIN = Origin("/a.txt", "hash-a"), Origin("/b.txt", "hash-b"), Origin("/twin.txt", "hash-a")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "c.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def rejection(source: str, code: str = "encrypted") -> Rejection:
    return Rejection(source, 10, 20, "0.1/100", "failed", code, "is encrypted", "open it")


def feedback(ledger: Ledger, question: str, *origins: Origin, collection: str = "docs") -> None:
    ledger.record_feedback(
        collection=collection,
        question=question,
        answer={"text": "ä"},
        thumb=1,
        origins=origins,
    )


def questions(ledger: Ledger) -> list[str]:
    return [each["question"] for each in ledger.feedback()]


# Runs


def test_a_run_is_running_until_it_has_ended(ledger: Ledger) -> None:
    run = ledger.begin_run("docs", "ingest")
    (begun,) = ledger.runs()
    assert (begun.id, begun.collection, begun.kind) == (run, "docs", "ingest")
    assert (begun.outcome, begun.ended_at, begun.report) == ("running", None, {})
    ledger.end_run(run, "in part", {"indexed": 3, "files": [{"path": "/ä.txt"}]})
    (ended,) = ledger.runs()
    assert ended.outcome == "in part"
    assert ended.report == {"indexed": 3, "files": [{"path": "/ä.txt"}]}
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at


def test_a_run_that_was_killed_has_failed_when_the_next_begins(ledger: Ledger) -> None:
    ledger.begin_run("docs", "ingest")
    ledger.begin_run("other", "repair")
    assert [each.outcome for each in ledger.runs()] == ["running", "failed"]


def test_the_last_runs_come_first_and_old_ones_are_dropped(ledger: Ledger) -> None:
    for n in range(KEPT_RUNS + 5):
        ledger.end_run(ledger.begin_run("docs", "ingest"), "done", {"n": n})
    assert [each.report["n"] for each in ledger.runs(2)] == [KEPT_RUNS + 4, KEPT_RUNS + 3]
    assert len(ledger.runs(10_000)) == KEPT_RUNS


# Roots


def test_a_root_is_kept_with_its_last_patterns(ledger: Ledger) -> None:
    ledger.remember_root("docs", Root("/z", (), (), 1.0))
    ledger.remember_root("docs", Root("/a", ("*.md",), ("old/", "*.ä"), 2.0))
    ledger.remember_root("docs", Root("/z", (), ("tmp",), 3.0))
    ledger.remember_root("other", Root("/o", (), (), 4.0))
    assert ledger.roots("docs") == [
        Root("/a", ("*.md",), ("old/", "*.ä"), 2.0),
        Root("/z", (), ("tmp",), 3.0),
    ]
    ledger.forget_root("docs", "/a")
    ledger.forget_root("docs", "/nowhere")
    assert [each.path for each in ledger.roots("docs")] == ["/z"]
    assert [each.path for each in ledger.roots("other")] == ["/o"]


# Rejections


def test_a_rejection_is_kept_until_the_file_is_accepted(ledger: Ledger) -> None:
    ledger.reject("docs", [rejection("/b.pdf"), rejection("/a.pdf", "empty")])
    ledger.reject("docs", [rejection("/b.pdf", "damaged")])
    ledger.reject("other", [rejection("/a.pdf")])
    assert ledger.rejections("docs") == {
        "/a.pdf": rejection("/a.pdf", "empty"),
        "/b.pdf": rejection("/b.pdf", "damaged"),
    }
    ledger.accept("docs", ["/a.pdf", "/nobody"])
    assert list(ledger.rejections("docs")) == ["/b.pdf"]
    assert list(ledger.rejections("other")) == ["/a.pdf"]


# Deletions


def test_a_deleted_document_stays_out_until_it_is_let_in(ledger: Ledger) -> None:
    ledger.keep_out("docs", "/b.txt", "hash-b")
    ledger.keep_out("docs", "/a.txt", "hash-a")
    ledger.keep_out("docs", "/a.txt", "hash-a2")
    ledger.keep_out("other", "/a.txt", "hash-o")
    found = [(each.source, each.sha256) for each in ledger.forgotten("docs")]
    assert found == [("/a.txt", "hash-a2"), ("/b.txt", "hash-b")]
    ledger.let_in("docs", "/a.txt")
    assert [each.source for each in ledger.forgotten("docs")] == ["/b.txt"]
    assert [each.source for each in ledger.forgotten("other")] == ["/a.txt"]


def test_a_dropped_collection_leaves_no_records(ledger: Ledger) -> None:
    for name in ("docs", "other"):
        ledger.remember_root(name, Root("/r", (), (), 1.0))
        ledger.reject(name, [rejection("/a.pdf")])
        ledger.keep_out(name, "/b.txt", "hash-b")
    ledger.forget_collection("docs")
    assert (ledger.roots("docs"), ledger.rejections("docs"), ledger.forgotten("docs")) == (
        [],
        {},
        [],
    )
    assert len(ledger.roots("other")) == len(ledger.rejections("other")) == 1
    assert len(ledger.forgotten("other")) == 1


def test_feedback_goes_with_any_of_its_documents(ledger: Ledger) -> None:
    feedback(ledger, "of a?", A)
    feedback(ledger, "of both?", B, A)
    feedback(ledger, "of b?", B)
    feedback(ledger, "of none?")
    feedback(ledger, "elsewhere?", A, collection="other")
    ledger.erase("docs", A, twin_lives=False)
    assert questions(ledger) == ["of b?", "of none?", "elsewhere?"]
    assert [each.item for each in ledger.made()] == ["3", "5"]  # and no lineage of what went
    assert ledger.origins("feedback", "3") == [B]


def test_what_came_from_a_living_twin_stays(ledger: Ledger) -> None:
    feedback(ledger, "of a?", A)
    feedback(ledger, "of its twin?", TWIN)
    ledger.record_lineage("example", "e1", "docs", [TWIN])
    ledger.erase("docs", A, twin_lives=True)
    assert questions(ledger) == ["of its twin?"]
    assert ledger.made(marked=True) == []
    ledger.erase("docs", TWIN, twin_lives=False)
    assert questions(ledger) == []
    assert ledger.made(marked=True) == [Made("example", "e1", "", True)]


def test_what_came_from_an_older_path_of_the_content_goes_when_no_twin_lives(
    ledger: Ledger,
) -> None:
    feedback(ledger, "before it was renamed?", TWIN)
    ledger.erase("docs", A, twin_lives=False)
    assert questions(ledger) == []


def test_rows_made_from_a_deleted_document_are_marked_and_lose_its_name(
    ledger: Ledger, database: Database
) -> None:
    ledger.record_lineage("example", "e1", "docs", [A, B], "/rows.jsonl")
    ledger.record_lineage("evaluation", "g1", "docs", [B], "/runs.jsonl")
    ledger.record_lineage("adapter", "m1", "docs", [A, A])
    ledger.erase("docs", A, twin_lives=False)
    assert ledger.made(marked=True) == [
        Made("adapter", "m1", "", True),
        Made("example", "e1", "/rows.jsonl", True),
    ]
    assert ledger.made(marked=False) == [Made("evaluation", "g1", "/runs.jsonl", False)]
    assert len(ledger.made()) == 3
    assert ledger.origins("example", "e1") == [B]
    assert ledger.origins("adapter", "m1") == []
    held = database.all("SELECT source, sha256 FROM lineage")
    assert "/a.txt" not in {row[0] for row in held}
    assert "hash-a" not in {row[1] for row in held}
    ledger.forget_made(ledger.made(marked=True))
    assert [each.item for each in ledger.made()] == ["g1"]


def test_what_was_made_in_the_name_of_a_collection_that_lacks_the_document_is_marked_too(
    ledger: Ledger, database: Database
) -> None:
    """Ingested into `work`, trained on under the default name, deleted from `work`."""
    ledger.record_lineage("adapter", "x", "default", [A, B])
    ledger.record_lineage("adapter", "y", "full", [A, B])
    full = Catalogue(database).create_collection("full", "f")
    with database.transaction() as db:
        db.execute(
            "INSERT INTO documents (id, collection_id, source, sha256, size, mtime_ns, media_type,"
            " title, headings, state, indexed_at)"
            " VALUES ('1', ?, ?, ?, 1, 1, '', '', '', 'live', 0)",
            (full.id, *A),
        )
    assert ledger.held() == {A}
    ledger.erase("work", A, twin_lives=False)
    assert [each.item for each in ledger.made(marked=True)] == ["x"]
    ledger.erase("full", A, twin_lives=False)
    assert [each.item for each in ledger.made(marked=True)] == ["x", "y"]
    assert ledger.origins("adapter", "y") == [B]


def test_marked_rows_are_not_marked_by_other_deletions_without_a_hash(ledger: Ledger) -> None:
    """A blanked name must not fit a document whose hash is not known."""
    ledger.record_lineage("example", "e1", "docs", [A])
    ledger.record_lineage("example", "e2", "docs", [Origin("/old.txt", "")])
    ledger.erase("docs", A, twin_lives=False)
    ledger.erase("docs", Origin("/unknown.txt", ""), twin_lives=False)
    assert [(each.item, each.marked) for each in ledger.made()] == [("e1", True), ("e2", False)]


def test_reports_and_rejections_lose_a_deleted_documents_name(ledger: Ledger) -> None:
    files = [{"path": "/a.txt", "reason": "changed"}, {"path": "/b.txt", "reason": "empty"}]
    ledger.end_run(ledger.begin_run("docs", "ingest"), "in part", {"files": files, "failed": 2})
    ledger.end_run(ledger.begin_run("docs", "ingest"), "failed", {"error": "stopped"})
    ledger.begin_run("docs", "ingest")
    ledger.reject("docs", [rejection("/a.txt"), rejection("/b.txt")])
    ledger.erase("docs", A, twin_lives=False)
    assert [each.report for each in ledger.runs()] == [
        {},
        {"error": "stopped"},
        {"files": files[1:], "failed": 2},
    ]
    assert list(ledger.rejections("docs")) == ["/b.txt"]


def test_warnings_that_name_a_deleted_document_go(ledger: Ledger) -> None:
    named, other = "/a.txt is not there: 1 of 1 documents would go", "2 of 4 documents would go"
    report = {"files": [], "warnings": [named, other], "failed": 0}
    ledger.end_run(ledger.begin_run("docs", "ingest"), "in part", report)
    ledger.erase("docs", A, twin_lives=False)
    assert [each.report for each in ledger.runs()] == [{**report, "warnings": [other]}]


# Renaming


def test_what_was_made_from_a_renamed_document_goes_with_its_later_versions(
    ledger: Ledger,
) -> None:
    feedback(ledger, "of a?", A)
    feedback(ledger, "of b?", B)
    feedback(ledger, "elsewhere?", A, collection="other")
    ledger.record_lineage("example", "e1", "docs", [A], "/rows.jsonl")
    ledger.rename("docs", {"/a.txt": "/new.txt", "/nobody.txt": "/else.txt"})
    assert ledger.origins("feedback", "1") == [Origin("/new.txt", "hash-a")]
    assert ledger.origins("feedback", "3") == [A]
    ledger.erase("docs", Origin("/new.txt", "hash-edited"), twin_lives=False)
    assert questions(ledger) == ["of b?", "elsewhere?"]
    assert ledger.made(marked=True) == [Made("example", "e1", "/rows.jsonl", True)]


def test_reports_name_a_renamed_document_by_its_new_path(ledger: Ledger) -> None:
    files = [{"path": "/a.txt", "reason": "empty"}, {"path": "/b.txt", "reason": "empty"}]
    for name in ("docs", "other"):
        ledger.end_run(ledger.begin_run(name, "ingest"), "in part", {"files": files, "failed": 2})
    ledger.begin_run("docs", "ingest")
    ledger.rename("docs", {"/a.txt": "/new.txt"})
    named = [[each["path"] for each in run.report.get("files", ())] for run in ledger.runs()]
    assert named == [[], ["/a.txt", "/b.txt"], ["/new.txt", "/b.txt"]]
    assert ledger.runs()[2].report["failed"] == 2


# Feedback


def test_feedback_comes_back_in_order(ledger: Ledger) -> None:
    for thumb, question in ((1, "first?"), (-1, "second?")):
        ledger.record_feedback(
            collection="docs",
            question=question,
            answer={"text": "ä"},
            thumb=thumb,
            reason="r",
            correction="better",
        )
    found = ledger.feedback()
    assert [(f["question"], f["thumb"], f["answer"]) for f in found] == [
        ("first?", 1, {"text": "ä"}),
        ("second?", -1, {"text": "ä"}),
    ]
    assert {(f["reason"], f["correction"], f["collection"]) for f in found} == {
        ("r", "better", "docs")
    }


def test_a_thumb_is_up_or_down(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ledger.record_feedback(collection="docs", question="q", answer={}, thumb=2, origins=[A])
    assert ledger.feedback() == []
    assert ledger.made() == []  # no lineage of what was not kept


# Backups


def test_backups_are_named_once(ledger: Ledger) -> None:
    for path in ("/disk/b", "/disk/a", "/disk/b"):
        ledger.record_backup(path)
    assert ledger.backups() == ["/disk/a", "/disk/b"]


def test_the_records_are_there_when_opened_again(ledger: Ledger, database: Database) -> None:
    feedback(ledger, "kept?", A)
    ledger.keep_out("docs", "/a.txt", "hash-a")
    ledger.remember_root("docs", Root("/r", (), (), 1.5))
    database.close()
    again = Database(database.path)
    assert questions(Ledger(again)) == ["kept?"]
    assert Ledger(again).forgotten("docs")[0].source == "/a.txt"
    assert Ledger(again).roots("docs") == [Root("/r", (), (), 1.5)]
    again.close()
