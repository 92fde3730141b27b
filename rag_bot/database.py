"""The one SQLite file that is the truth, its schema, and how an older one becomes today's."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rag_bot.errors import IndexDamaged, IndexMismatch, Unavailable

SCHEMA = 2

_DOCUMENTS = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE documents (
    id TEXT PRIMARY KEY,
    collection_id INTEGER NOT NULL REFERENCES collections(id),
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    title TEXT NOT NULL,
    headings TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'live')),
    indexed_at REAL NOT NULL,
    digest TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX documents_by_source ON documents (collection_id, source);
CREATE TABLE pages (
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    char_start INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (document_id, number)
) STRICT;
CREATE TABLE chunks (
    id TEXT PRIMARY KEY,
    document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    page_start INTEGER NOT NULL,
    page_end INTEGER NOT NULL,
    char_start INTEGER NOT NULL,
    char_end INTEGER NOT NULL,
    heading TEXT NOT NULL,
    vector BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document_id, ordinal);
CREATE TABLE leavings (
    collection_id INTEGER NOT NULL,
    chunk_id TEXT NOT NULL,
    PRIMARY KEY (collection_id, chunk_id)
) STRICT;
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    created_at REAL NOT NULL,
    collection TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    thumb INTEGER NOT NULL CHECK (thumb IN (-1, 1)),
    reason TEXT NOT NULL,
    correction TEXT NOT NULL
) STRICT;
"""

# A collection's row is one generation of it. `caches` names the folder of its two caches; `debt`
# counts the chunks that were taken out of them and still lie in their files.
_COLLECTIONS = """
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    live INTEGER NOT NULL,
    caches TEXT NOT NULL DEFAULT '',
    dimension INTEGER NOT NULL DEFAULT 0,
    debt INTEGER NOT NULL DEFAULT 0,
    purge_due INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, generation)
) STRICT;
CREATE UNIQUE INDEX one_live_generation ON collections (name) WHERE live;
"""

_LEDGER = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    kind TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    outcome TEXT NOT NULL,
    report TEXT NOT NULL
) STRICT;
CREATE TABLE roots (
    collection TEXT NOT NULL,
    path TEXT NOT NULL,
    include TEXT NOT NULL,
    exclude TEXT NOT NULL,
    synced_at REAL NOT NULL,
    PRIMARY KEY (collection, path)
) STRICT;
CREATE TABLE rejected (
    collection TEXT NOT NULL,
    source TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    judged_by TEXT NOT NULL,
    status TEXT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    remedy TEXT NOT NULL,
    PRIMARY KEY (collection, source)
) STRICT;
CREATE TABLE forgotten (
    collection TEXT NOT NULL,
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    forgotten_at REAL NOT NULL,
    PRIMARY KEY (collection, source)
) STRICT;
CREATE TABLE lineage (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    item TEXT NOT NULL,
    location TEXT NOT NULL,
    collection TEXT NOT NULL,
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    marked_at REAL
) STRICT;
CREATE INDEX lineage_by_source ON lineage (collection, source);
CREATE INDEX lineage_by_sha256 ON lineage (collection, sha256);
CREATE TABLE backups (
    path TEXT PRIMARY KEY,
    made_at REAL NOT NULL
) STRICT;
"""


class Database:
    """One connection, used by any thread under one lock: every operation is short.

    Raises Unavailable when the file can't be opened or written, IndexDamaged when it is not what
    SQLite wrote, IndexMismatch when a newer version made it. An older schema is brought up to
    date, in one transaction.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._aside = 0
        self._counts = True
        self._alone = False
        try:
            uri = path.absolute().as_uri()
            if read_only:
                self._connect(f"{uri}?mode=ro")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._prepare(uri)
                self._migrate()
            self._db.execute("PRAGMA foreign_keys = ON")
            found = self._schema()
        except (sqlite3.Error, OSError, IndexDamaged) as error:
            if hasattr(self, "_db"):
                self._db.close()
            if isinstance(error, IndexDamaged):
                raise
            raise self._failure(error, "opened") from None
        if found != SCHEMA:
            self._db.close()
            raise IndexMismatch(
                f"{path} has schema {found}, this version reads {SCHEMA}",
                "it was made by a newer rag-bot: update this one"
                if found > SCHEMA
                else "`ingest verify` brings it up to date",
            )

    def close(self) -> None:
        """Close the connection; the file is whole at every moment anyway."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self, *, aside: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on return. One inside another is part of the outer one.

        `aside` says that it changes nothing that is searched: `changes` doesn't count it.
        """
        with self._lock:
            if self._depth:
                self._counts |= not aside
                yield self._db
                return
            self._counts = not aside
            try:
                before = self._db.total_changes
                self._db.execute("BEGIN IMMEDIATE")
                self._depth += 1
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                finally:
                    self._depth -= 1
                    if not self._counts:
                        self._aside += self._db.total_changes - before
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                raise self._failure(error, "written") from error

    def all(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock:
            try:
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self._failure(error, "read") from error

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """A query's first row, or None."""
        rows = self.all(sql, parameters)
        return rows[0] if rows else None

    def changes(self) -> int:
        """How many rows were changed since it was opened, but for those changed `aside`.

        `replace_with` does not count. Raises Unavailable on a closed database.
        """
        with self._lock:
            try:
                return self._db.total_changes - self._aside
            except sqlite3.Error as error:
                raise self._failure(error, "read") from error

    def sound(self) -> None:
        """Check the structure of the whole file, and its tables against their indexes.

        Raises IndexDamaged.
        """
        (said, *_) = self.one("PRAGMA integrity_check(1)")
        if said != "ok":
            raise self._failure(sqlite3.DatabaseError(said.splitlines()[-1]), "read")

    def settle(self) -> bool:
        """Bring everything into the main file and empty the log beside it.

        Returns whether that succeeded: somebody who reads may hold it up.
        """
        with self._lock:
            return not self.one("PRAGMA wal_checkpoint(TRUNCATE)")[0]

    def rewrite(self) -> None:
        """Write the file anew, without the bytes of anything deleted, while others read.

        `secure_delete` does not reach what SQLite moved from page to page before: of 60 deletions
        6 left ids, vectors or words behind. Takes as much room again. `settle` comes after it.
        """
        try:
            with self._beside() as db:
                db.execute("VACUUM")
        except sqlite3.Error as error:
            raise self._failure(error, "written") from error

    def copy_to(self, path: Path) -> None:
        """Write a whole and compact copy, without anything deleted, while others read and write.

        Durable on return. Raises Unavailable, and leaves nothing of a copy that failed.
        """
        try:
            with self._beside() as db:
                db.execute("VACUUM INTO ?", (str(path),))
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        except (sqlite3.Error, OSError) as error:
            path.unlink(missing_ok=True)
            failure = self._failure(error, "read")
            if isinstance(failure, IndexDamaged):
                raise failure from error
            raise Unavailable(
                f"the copy {path} can't be written: {error}", "make room, or choose another"
            ) from error

    def replace_with(self, path: Path) -> None:
        """Take over the content of another database file, all of it or nothing."""
        with self._lock:
            source = sqlite3.connect(path)
            try:
                source.backup(self._db)
            except sqlite3.Error as error:
                raise self._failure(error, "written") from error
            finally:
                source.close()

    @contextmanager
    def _beside(self) -> Iterator[sqlite3.Connection]:
        """A second connection: what takes long on it keeps nobody from reading."""
        if self._alone:
            with self._lock:
                yield self._db
            return
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_MS / 1000, isolation_level=None)
        with closing(connection) as db:
            yield db

    def _connect(self, uri: str) -> None:
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._db.isolation_level = None
        # Text that is no UTF-8 any more is damage: its document's digest says so.
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self._db.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")

    def _prepare(self, uri: str) -> None:
        # secure_delete: what is deleted is overwritten with zeros, not only unlinked.
        modes = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
        try:
            self._connect(uri)
            self._db.executescript(modes)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE:
                raise
            # A full disk has no room for the 32 KB that connections share. One that keeps all
            # others out has them in memory.
            self._db.close()
            self._alone = True
            self._connect(uri)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.executescript(modes)

    def _schema(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if row is None or not str(row[0]).isdecimal():
            raise self._failure(sqlite3.DatabaseError("it does not say its schema"), "read")
        return int(row[0])

    def _migrate(self) -> None:
        # A table can only be made anew while nothing minds what refers to it.
        self._db.execute("PRAGMA foreign_keys = OFF")
        with self.transaction() as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
                # Tables may only be made in a new file, not in what is left of one.
                if db.execute("PRAGMA page_count").fetchone()[0] > 1:
                    raise self._failure(sqlite3.DatabaseError("its tables are not there"), "read")
                _execute(db, _DOCUMENTS + _COLLECTIONS + _LEDGER)
                db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
                return
            while (step := _MIGRATIONS.get(self._schema())) is not None:
                step(db)

    def _failure(self, error: Exception, what: str) -> Unavailable:
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            return Unavailable(f"the catalogue {self.path} is closed", "open the index again")
        # What SQLite finds malformed has no class of its own. That a table is missing
        # (SQLITE_ERROR) can only be damage too: they are made together.
        code = getattr(error, "sqlite_errorcode", None)
        if type(error) is sqlite3.DatabaseError or code == sqlite3.SQLITE_ERROR:
            return IndexDamaged(
                f"the catalogue {self.path} is damaged and can't be {what}: {error}",
                "`ingest repair` saves what is whole and reads the rest again; after it"
                " `ingest restore FILE` can take over a backup",
            )
        return Unavailable(
            f"the catalogue {self.path} can't be {what}: {error}",
            "check that its disk has room and is writable",
        )


_PATIENCE_MS = 60_000
"""So long a write waits for `rewrite`, the one operation that takes long."""


def _execute(db: sqlite3.Connection, script: str) -> None:
    """Like `executescript`, which would end the transaction."""
    for statement in script.split(";\n"):
        db.execute(statement)


def _from_1(db: sqlite3.Connection) -> None:
    # The order that SQLite's manual gives ("Making Other Kinds Of Table Schema Changes"): renaming
    # the old table first would take the references of the others along.
    table, index = _COLLECTIONS.split(";\n")[:2]
    db.execute(table.replace("TABLE collections", "TABLE new_collections"))
    db.execute(
        "INSERT INTO new_collections (id, name, generation, fingerprint, live)"
        " SELECT id, name, generation, fingerprint, 1 FROM collections"
    )
    db.execute("DROP TABLE collections")
    db.execute("ALTER TABLE new_collections RENAME TO collections")
    db.execute(index)
    db.execute("ALTER TABLE documents ADD COLUMN digest TEXT NOT NULL DEFAULT ''")
    db.execute("DROP TABLE runs")  # reports of before, which named every file
    _execute(db, _LEDGER)
    # Feedback goes with the documents that were shown for it.
    db.execute(
        "INSERT INTO lineage (kind, item, location, collection, source, sha256)"
        " SELECT DISTINCT 'feedback', feedback.id, '', collection,"
        " json_extract(shown.value, '$.source'), coalesce(sha256, '')"
        " FROM feedback, json_each(answer, '$.sources') AS shown"
        " LEFT JOIN documents ON documents.id = json_extract(shown.value, '$.chunk.document_id')"
    )
    db.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")


_MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1}
