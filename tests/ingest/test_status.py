from pathlib import Path

import pytest

from ingest import schedule
from ingest.delete import delete
from ingest.status import Status, status
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.errors import IndexMismatch
from rag_bot.index import CATALOGUE, Index
from tests.ingest.conftest import Entries, Go, write

pytestmark = pytest.mark.usefixtures("in_process", "settled")


def test_of_a_folder_without_an_index_there_is_nothing_and_nothing_is_made(
    tmp_path: Path,
) -> None:
    assert status(tmp_path / "none") == Status(None, [], [], [])
    assert not (tmp_path / "none").exists()


def test_says_what_each_collection_holds_and_lacks(
    docs: Path, run: Go, index: Index, settings: Settings, entries: Entries
) -> None:
    write(docs, a="One.", b="Two.\n\n" + "Three is a long story. " * 100, c="Three.")
    (docs / "empty.txt").write_bytes(b"")
    run(docs, exclude=("*.tmp",))
    collection = index.catalogue.collection("docs")
    assert collection
    delete(index, collection, [entries()["a.txt"]], settings)
    index.catalogue.begin_generation(collection, "another")
    told = status(settings.data_dir)
    (its,) = told.collections
    assert (its.collection, its.documents, its.kept_out, its.rebuilding) == (
        collection, 2, 1, True,
    )  # fmt: skip
    assert its.chunks == sum(entry.chunks for entry in entries().values()) > 2
    assert [(root.path, root.exclude) for root in its.roots] == [(str(docs), ("*.tmp",))]
    assert [(Path(each.source).name, each.code) for each in its.rejections] == [
        ("empty.txt", "empty")
    ]
    assert (its.debt.chunks, its.debt.due) == (0, False)


def test_names_the_last_runs_newest_first(docs: Path, run: Go, settings: Settings) -> None:
    write(docs, a="One.")
    for _ in range(3):
        run(docs)
    told = status(settings.data_dir, runs=2)
    assert [each.report["unchanged"] for each in told.runs] == [1, 1]
    assert told.runs[0].id > told.runs[1].id


def test_is_told_beside_the_owner_who_is_named_and_not_disturbed(
    docs: Path, run: Go, index: Index, settings: Settings, entries: Entries
) -> None:
    write(docs, a="One.")
    run(docs)
    index.announce("http://127.0.0.1:7860")
    told = status(settings.data_dir)
    assert told.owner
    assert told.owner.url == "http://127.0.0.1:7860"
    write(docs, b="Two.")
    run(docs)
    assert set(entries()) == {"a.txt", "b.txt"}


def test_changes_nothing_where_nobody_has_it_open(docs: Path, run: Go, index: Index) -> None:
    write(docs, a="One.")
    run(docs)
    index.close()
    before = {f: f.read_bytes() for f in index.data_dir.rglob("*") if f.is_file()}
    told = status(index.data_dir)
    assert (told.owner, told.collections[0].documents) == (None, 1)
    after = {f: f.read_bytes() for f in index.data_dir.rglob("*") if f.is_file()}
    # Reading makes SQLite's log and its index, and leaves them empty.
    assert {f: b for f, b in after.items() if f in before} == before
    assert {f.name for f in after.keys() - before.keys()} <= {
        f"{CATALOGUE}-shm", f"{CATALOGUE}-wal",
    }  # fmt: skip


def test_a_catalogue_of_another_version_is_named(tmp_path: Path) -> None:
    made = Database(tmp_path / CATALOGUE)
    with made.transaction() as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    made.close()
    with pytest.raises(IndexMismatch, match="has schema 99"):
        status(tmp_path)


def test_names_the_schedules(docs: Path, tmp_path: Path) -> None:
    every = schedule.Schedule("docs", (docs,), schedule.parse_every("30m"))
    schedule.run(every, lambda: schedule.Outcome("ok", ""), tmp_path, stop=lambda: True)
    (told,) = status(tmp_path).schedules
    assert (told.collection, told.paths, told.live) == ("docs", (str(docs),), False)
