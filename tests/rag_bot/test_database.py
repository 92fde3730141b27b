import contextlib
import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_bot.catalogue import Catalogue
from rag_bot.database import SCHEMA, Database
from rag_bot.errors import IndexDamaged, IndexMismatch, Unavailable
from rag_bot.ledger import Ledger, Origin


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "c.sqlite")
    yield opened
    opened.close()


def note(database: Database, path: str) -> None:
    with database.transaction() as db:
        db.execute("INSERT INTO backups VALUES (?, 0)", (path,))


def noted(database: Database) -> list[str]:
    return [row[0] for row in database.all("SELECT path FROM backups ORDER BY path")]


# Transactions


def test_a_transaction_inside_another_is_part_of_it(database: Database) -> None:
    with database.transaction():
        note(database, "inner")
        assert noted(database) == ["inner"]
        with contextlib.closing(sqlite3.connect(database.path)) as beside:
            assert beside.execute("SELECT count(*) FROM backups").fetchone() == (0,)
    with contextlib.closing(sqlite3.connect(database.path)) as beside:
        assert beside.execute("SELECT count(*) FROM backups").fetchone() == (1,)


def test_an_error_undoes_all_of_it_the_inner_ones_too(database: Database) -> None:
    def fail() -> None:
        with database.transaction():
            note(database, "outer")
            note(database, "inner")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert noted(database) == []
    note(database, "after")
    assert noted(database) == ["after"]


def test_an_error_of_sqlite_undoes_all_of_it(database: Database) -> None:
    def twice() -> None:
        with database.transaction():
            note(database, "one")
            note(database, "one")

    with pytest.raises(sqlite3.IntegrityError):
        twice()
    assert noted(database) == []


def test_what_is_written_aside_does_not_count_as_a_change(database: Database) -> None:
    before = database.changes()
    with database.transaction(aside=True), database.transaction(aside=True) as db:
        db.execute("INSERT INTO backups VALUES ('a', 0)")
    Ledger(database).begin_run("default", "sync")
    assert noted(database) == ["a"]
    assert database.changes() == before
    with database.transaction(aside=True):
        note(database, "b")  # but if anything inside counts, all of it does
    assert database.changes() == before + 1
    note(database, "c")
    assert database.changes() == before + 2


def test_what_was_committed_is_there_when_opened_again(database: Database) -> None:
    note(database, "kept")
    database.close()
    with contextlib.closing(Database(database.path)) as again:
        assert noted(again) == ["kept"]


def test_threads_share_one_connection(database: Database) -> None:
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for i in range(20):
                with database.transaction():
                    note(database, f"{thread}-{i}-a")
                    assert f"{thread}-{i}-a" in noted(database)
                    note(database, f"{thread}-{i}-b")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(noted(database)) == 160


def test_a_closed_database_says_that_it_is_closed_and_not_damaged(database: Database) -> None:
    database.close()
    for use in (lambda: noted(database), lambda: note(database, "late"), database.changes):
        with pytest.raises(Unavailable, match="is closed") as caught:
            use()
        assert not isinstance(caught.value, IndexDamaged)


# A full disk


def full_disk(database: Database) -> None:
    (pages,) = database.one("PRAGMA page_count")
    database.one(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_named_and_undone(database: Database) -> None:
    note(database, "before")
    full_disk(database)
    with pytest.raises(Unavailable, match=r"c\.sqlite can't be written: .*full") as caught:
        note(database, "x" * 100_000)
    assert not isinstance(caught.value, IndexDamaged)
    assert "has room" in caught.value.remedy
    assert noted(database) == ["before"]
    database.one("PRAGMA max_page_count = 1000000")
    note(database, "after")
    assert noted(database) == ["after", "before"]


def test_a_full_disk_in_an_inner_transaction_undoes_the_outer_one(database: Database) -> None:
    full_disk(database)

    def fail() -> None:
        with database.transaction():
            note(database, "small")
            note(database, "x" * 100_000)

    with pytest.raises(Unavailable, match="full"):
        fail()
    assert noted(database) == []


# Beside a writer


def test_a_reader_sees_what_is_committed_and_writes_nothing(database: Database) -> None:
    note(database, "one")
    with contextlib.closing(Database(database.path, read_only=True)) as reader:
        assert noted(reader) == ["one"]
        with database.transaction():
            note(database, "two")
            assert noted(reader) == ["one"]
        assert noted(reader) == ["one", "two"]
        with pytest.raises(Unavailable, match="readonly"):
            note(reader, "three")


def test_a_reader_changes_no_file(database: Database) -> None:
    note(database, "one")
    database.close()
    before = database.path.read_bytes()
    with contextlib.closing(Database(database.path, read_only=True)) as reader:
        assert noted(reader) == ["one"]
    assert database.path.read_bytes() == before


def test_nothing_to_read_is_unavailable_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"none\.sqlite can't be opened"):
        Database(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()


def test_settling_empties_the_log_unless_someone_reads(database: Database) -> None:
    note(database, "one")
    log = database.path.with_name("c.sqlite-wal")
    assert log.stat().st_size > 0
    with contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM backups").fetchall()
        note(database, "two")
        database.one("PRAGMA busy_timeout = 100")
        assert not database.settle()
        reader.execute("COMMIT")
    assert database.settle()
    assert log.stat().st_size == 0
    assert noted(database) == ["one", "two"]


# Damage


def test_a_file_that_is_no_database_is_damaged_by_name(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(IndexDamaged, match=r"c\.sqlite is damaged and can't be opened") as caught:
        Database(tmp_path / "c.sqlite")
    assert "`ingest repair`" in caught.value.remedy


def test_someone_elses_database_gets_no_tables_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(IndexDamaged):
        Database(file)
    with contextlib.closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


@pytest.mark.parametrize("said", ["", "two", "-2", "²"])
def test_a_schema_that_is_no_number_is_damage(database: Database, said: str) -> None:
    database.close()
    with contextlib.closing(sqlite3.connect(database.path)) as db, db:
        db.execute("UPDATE meta SET value = ?", (said,))
    with pytest.raises(IndexDamaged):
        Database(database.path)


def test_a_missing_table_is_damage(database: Database) -> None:
    with database.transaction() as db:
        db.execute("DROP TABLE backups")
    with pytest.raises(IndexDamaged):
        noted(database)


def test_a_sound_file_is_sound_and_a_torn_one_is_not(database: Database) -> None:
    for n in range(300):
        note(database, f"{n:05} " + "x" * 100)
    assert database.settle()
    database.sound()
    database.close()
    content = bytearray(database.path.read_bytes())
    page = content.index(b"00250 xxx") // 4096 * 4096
    content[page : page + 8] = bytes(8)
    database.path.write_bytes(content)
    with (
        contextlib.closing(Database(database.path)) as torn,
        pytest.raises(IndexDamaged, match=r"c\.sqlite is damaged"),
    ):
        torn.sound()


def test_an_index_that_disagrees_with_its_table_is_noticed(database: Database) -> None:
    """One letter of a key: the structure is whole, and a search for the key finds nothing."""
    note(database, "only-in-the-index")
    assert database.settle()
    database.close()
    content = database.path.read_bytes()
    assert content.count(b"only-in-the-index") == 2  # the row, and the index of its key
    database.path.write_bytes(content.replace(b"only-in-the-index", b"only-in-the-indey", 1))
    with contextlib.closing(Database(database.path)) as torn, pytest.raises(IndexDamaged):
        torn.sound()


def test_text_that_is_no_text_any_more_can_still_be_read(database: Database) -> None:
    """So that the damaged document can be named, and taken out."""
    note(database, "Münster")
    assert database.settle()
    database.close()
    content = database.path.read_bytes()
    database.path.write_bytes(content.replace("Mü".encode(), b"M\xff\xff"))
    with contextlib.closing(Database(database.path)) as torn:
        assert noted(torn) == ["M��nster"]


# Copies


def test_a_copy_is_whole_compact_and_made_while_a_transaction_is_open(
    database: Database, tmp_path: Path
) -> None:
    for n in range(100):
        note(database, f"{n} " + "x" * 1000)
    with database.transaction() as db:
        db.execute("DELETE FROM backups WHERE path NOT LIKE '7 %'")
    assert database.settle()
    with database.transaction():
        note(database, "not yet")
        database.copy_to(tmp_path / "copy")
    with contextlib.closing(Database(tmp_path / "copy")) as copy:
        assert [path[:2] for path in noted(copy)] == ["7 "]
    assert (tmp_path / "copy").stat().st_size < database.path.stat().st_size - 90_000
    assert b"8 xxxx" not in (tmp_path / "copy").read_bytes()


def test_others_read_while_a_copy_is_made(database: Database, tmp_path: Path) -> None:
    with database.transaction() as db:
        db.executemany("INSERT INTO backups VALUES (?, 0)", ((f"{n:9}" * 50,) for n in range(2000)))
    begun, ended = threading.Event(), threading.Event()
    plain = database._beside

    def stand_still() -> None:
        begun.set()
        ended.wait(20)

    @contextlib.contextmanager
    def slow() -> Iterator[sqlite3.Connection]:
        with plain() as connection:
            connection.set_progress_handler(stand_still, 1000)
            yield connection

    database._beside = slow  # type: ignore[method-assign]
    copying = threading.Thread(target=database.copy_to, args=(tmp_path / "copy",))
    copying.start()
    assert begun.wait(20)
    assert len(noted(database)) == 2000  # while the copy stands still
    note(database, "written meanwhile")
    assert not ended.is_set()
    ended.set()
    copying.join(60)
    with contextlib.closing(Database(tmp_path / "copy")) as copy:
        assert len(noted(copy)) == 2000


def test_a_copy_that_cannot_be_written_names_the_place_and_leaves_nothing(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="none/copy can't be written") as caught:
        database.copy_to(tmp_path / "none" / "copy")
    assert not isinstance(caught.value, IndexDamaged)
    (tmp_path / "there").write_text("something else")
    with pytest.raises(Unavailable):
        database.copy_to(tmp_path / "there")


def test_the_content_of_another_file_is_taken_over(database: Database, tmp_path: Path) -> None:
    note(database, "old " + "x" * 50_000)
    with contextlib.closing(Database(tmp_path / "other")) as other:
        note(other, "new")
    with contextlib.closing(Database(database.path, read_only=True)) as reader:
        database.replace_with(tmp_path / "other")
        assert noted(database) == noted(reader) == ["new"]
    note(database, "newer")
    database.close()
    with contextlib.closing(Database(database.path)) as again:
        again.sound()
        assert noted(again) == ["new", "newer"]


def test_a_file_that_cannot_be_taken_over_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    note(database, "old")
    (tmp_path / "other").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexDamaged):
        database.replace_with(tmp_path / "other")
    assert noted(database) == ["old"]
    with contextlib.closing(Database(tmp_path / "big")) as big:
        note(big, "x" * 500_000)
    full_disk(database)
    with pytest.raises(Unavailable, match="full"):
        database.replace_with(tmp_path / "big")
    assert noted(database) == ["old"]
    database.sound()


@pytest.mark.parametrize("seed", [30, 45, 128])
def test_rewriting_takes_out_what_deleting_leaves(database: Database, seed: int) -> None:
    """With these seeds SQLite 3.40 leaves three or four names in the gaps of its pages."""
    chance = random.Random(seed)
    names = [f"{chance.randrange(16**16):016x}" * chance.choice([1, 3, 9]) for _ in range(600)]
    for start in range(0, len(names), 50):
        with database.transaction():
            for name in names[start : start + 50]:
                note(database, name)
    kept, gone = set(names), set()
    for _ in range(6):
        some = chance.sample(sorted(kept), 60)
        kept, gone = kept - set(some), gone | set(some)
        with database.transaction() as db:
            db.executemany("DELETE FROM backups WHERE path = ?", ((name,) for name in some))
    database.rewrite()
    assert database.settle()
    content = b"".join(file.read_bytes() for file in database.path.parent.iterdir())
    assert not [name for name in gone if name[:16].encode() in content]
    assert all(name.encode() in content for name in kept)
    assert noted(database) == sorted(kept)


def test_rewriting_waits_for_a_writer_and_a_writer_for_it(database: Database) -> None:
    note(database, "one")
    with database.transaction():
        rewriting = threading.Thread(target=database.rewrite)
        rewriting.start()
        note(database, "two")
    note(database, "three")
    rewriting.join(30)
    assert not rewriting.is_alive()
    assert noted(database) == ["one", "three", "two"]


# Older schemas

ANSWER = {
    "text": "The secret is 42.",
    "sources": [
        {"source": "/docs/ä.txt", "chunk": {"document_id": "d1"}},
        {"source": "/docs/ä.txt", "chunk": {"document_id": "d1"}},
        {"source": "/docs/gone.txt", "chunk": {"document_id": "d0"}},
    ],
}


@pytest.fixture
def old(tmp_path: Path, schema_1: str) -> Path:
    """A file of schema 1 with a document in each state, feedback and a run."""
    file = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.executescript("PRAGMA journal_mode = WAL;" + schema_1)
        db.execute("INSERT INTO collections VALUES (7, 'docs', 1, 'f1')")
        for number, state in ((1, "live"), (2, "pending")):
            row = (f"d{number}", 7, "/docs/ä.txt", f"hash{number}", 1, 2, "text/plain", "T", "[]")
            db.execute(f"INSERT INTO documents VALUES ({'?, ' * 9} ?, 3.5)", (*row, state))
            db.execute("INSERT INTO pages VALUES (?, 1, 0, 'Päge')", (f"d{number}",))
            values = (f"c{number}", f"d{number}", bytes(8))
            db.execute("INSERT INTO chunks VALUES (?, ?, 0, 1, 1, 0, 4, '', ?)", values)
        db.execute("INSERT INTO leavings VALUES (7, 'c0')")
        db.execute('INSERT INTO runs VALUES (1, 2.5, \'{"files": ["/docs/ä.txt"]}\')')
        feedback = (1.5, "docs", "q?", json.dumps(ANSWER), 1, "", "")
        db.execute("INSERT INTO feedback VALUES (1, ?, ?, ?, ?, ?, ?, ?)", feedback)
        feedback = (1.6, "docs", "r?", json.dumps({"text": "short"}), -1, "", "")
        db.execute("INSERT INTO feedback VALUES (2, ?, ?, ?, ?, ?, ?, ?)", feedback)
    return file


def rows(file: Path) -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(file)) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}


def test_schema_1_is_brought_up_to_date_with_all_it_held(old: Path) -> None:
    with contextlib.closing(Database(old)) as database:
        catalogue = Catalogue(database)
        (docs,) = catalogue.collections()
        assert (docs.id, docs.name, docs.fingerprint) == (7, "docs", "f1")
        (entry,) = catalogue.entries(docs)
        assert (entry.source, entry.sha256, entry.indexed_at) == ("/docs/ä.txt", "hash1", 3.5)
        document = catalogue.document("d1")
        assert document
        assert document.text == "Päge"
        assert catalogue.pending(docs) == ["d2"]
        assert catalogue.leavings(docs) == ["c0"]
        assert [each["question"] for each in Ledger(database).feedback()] == ["q?", "r?"]
        assert Ledger(database).runs() == []  # they named every file
        catalogue.sign()
        assert catalogue.damaged(docs) == []
        catalogue.take_away(docs, ["d1"])
        assert database.all("SELECT document_id FROM pages") == [("d2",)]  # references hold
        assert database.all("PRAGMA foreign_key_check") == []
        database.sound()
    with contextlib.closing(Database(old)) as again:  # nothing is left to do
        assert again.one("SELECT value FROM meta") == (str(SCHEMA),)


def test_old_feedback_goes_with_the_documents_that_were_shown(old: Path) -> None:
    with contextlib.closing(Database(old)) as database:
        ledger = Ledger(database)
        found = {Origin("/docs/ä.txt", "hash1"), Origin("/docs/gone.txt", "")}
        assert set(ledger.origins("feedback", "1")) == found
        assert ledger.origins("feedback", "2") == []
        ledger.erase("docs", Origin("/docs/ä.txt", "hash1"), twin_lives=False)
        assert [each["question"] for each in ledger.feedback()] == ["r?"]


def test_a_migration_is_whole_or_not_at_all(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(old)
    plain = Database.transaction
    left = -1

    def check(*_: object) -> int:
        """SQLite asks at every step of a statement that it prepares."""
        nonlocal left
        left -= 1
        return sqlite3.SQLITE_OK if left else sqlite3.SQLITE_DENY

    @contextlib.contextmanager
    def watched(database: Database) -> Iterator[sqlite3.Connection]:
        with plain(database) as db:
            db.set_authorizer(check)
            yield db

    monkeypatch.setattr(Database, "transaction", watched)
    copy = old.with_name("copy.sqlite")
    shutil.copy(old, copy)
    Database(copy).close()
    steps = -1 - left
    assert steps > 100
    for last in range(1, steps, steps // 12):
        left = last
        with pytest.raises(Unavailable):
            Database(old)
        assert rows(old) == before
    left = -1
    with contextlib.closing(Database(old)) as database:
        assert len(Catalogue(database).collections()) == 1


def test_a_newer_schema_is_refused_with_the_way_out(database: Database) -> None:
    database.close()
    with contextlib.closing(sqlite3.connect(database.path)) as db, db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    before = database.path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(IndexMismatch, match="has schema 99, this version reads 2") as caught:
            Database(database.path, read_only=read_only)
        assert "update" in caught.value.remedy
    assert database.path.read_bytes() == before


def test_a_reader_brings_nothing_up_to_date_and_says_what_does(old: Path) -> None:
    before = rows(old)
    with pytest.raises(IndexMismatch, match="has schema 1") as caught:
        Database(old, read_only=True)
    assert "`ingest verify`" in caught.value.remedy
    assert rows(old) == before
