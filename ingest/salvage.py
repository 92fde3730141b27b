"""Saving what is whole of a catalogue that SQLite can't read any more."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from ingest.backup import scratch
from rag_bot.catalogue import Catalogue
from rag_bot.database import SCHEMA, Database
from rag_bot.errors import IndexMismatch, UsageError
from rag_bot.index import CATALOGUE, busy

_TABLES = (
    *("collections", "documents", "pages", "chunks"),  # each refers to the one before
    *("feedback", "runs", "roots", "rejected", "forgotten", "lineage", "backups"),
)
_BEYOND = 100_000
"""Rows tried behind the last one that could be read, where the number of rows can't be."""
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of a damaged catalogue, which is kept as the file `kept`.

    `documents` were saved whole; `lost` are the paths of those that were not, `nameless` counts
    those whose path can't be read either. `gaps` are tables of which a part is lost.
    """

    documents: int
    lost: tuple[str, ...]
    nameless: int
    gaps: tuple[str, ...]
    kept: str

    def lines(self) -> Iterator[str]:
        """The same in words."""
        if not self.documents:
            yield "nothing in the damaged catalogue could be read: `ingest` your folders again,"
            yield "or take over a backup with `ingest restore FILE`"
        else:
            yield f"{self.documents} documents were saved from the damaged catalogue"
        for path in self.lost[:_NAMED]:
            yield f"  lost until it is read again: {path}"
        if len(self.lost) > _NAMED:
            yield f"  and {len(self.lost) - _NAMED} more"
        if self.nameless:
            yield f"  lost with their paths: {self.nameless} documents"
        if self.gaps:
            yield f"  parts of these records are lost: {', '.join(self.gaps)}"
        if "forgotten" in self.gaps or not self.documents:
            yield "  deleted documents whose files are still there may come back"
        yield f"the damaged file is kept as {self.kept}; delete it when nothing is missing"


def salvage(data_dir: Path) -> Salvaged:
    """Put a new catalogue in the place of a damaged one, with all of it that can be read.

    A document is saved if its rows are as they were signed. The caches are made anew when the
    index is next opened. Killed at any point, it can be done again.

    Raises UsageError if there is no catalogue, IndexBusy if a process has it open, IndexMismatch
    for one of another version, Unavailable when there is no room.
    """
    damaged = data_dir / CATALOGUE
    if not damaged.exists():
        raise UsageError(f"there is no catalogue in {data_dir}", "`ingest PATH` makes one")
    lock = filelock.FileLock(data_dir / "lock")
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        raise busy(data_dir) from None
    try:
        _settle(damaged)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        kept = damaged.with_name(f"{CATALOGUE}.damaged-{stamp}")
        with scratch(data_dir) as folder:
            saved = _copied(damaged, folder / CATALOGUE, kept)
            _swap(damaged, folder / CATALOGUE, kept)
    finally:
        lock.release()
    return saved


def _settle(damaged: Path) -> None:
    """Bring what is in the log into the main file, so that one file is all there is."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copied(damaged: Path, new: Path, kept: Path) -> Salvaged:
    """Fill the new file from the damaged one."""
    source = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)
    with contextlib.closing(source), contextlib.closing(Database(new)) as database:
        readable = _readable(source)
        orphans: dict[str, str] = {}
        gaps = [
            table
            for table in _TABLES
            if not (readable and _copy_table(source, database, table, orphans))
        ]
        catalogue = Catalogue(database)
        for begun in catalogue.building():
            catalogue.drop_collection(begun)
        documents, lost = 0, [path for path in orphans.values() if path]
        for collection in catalogue.collections():
            bad = catalogue.damaged(collection)
            catalogue.take_away(collection, [entry.id for entry in bad])
            catalogue.forget_leavings(collection)
            catalogue.set_caches(collection, "")
            documents += len(catalogue.entries(collection))
            lost += [entry.source for entry in bad]
        database.settle()
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    nameless = sum(not path for path in orphans.values())
    return Salvaged(documents, tuple(sorted(lost)), nameless, tuple(gaps), str(kept))


def _readable(source: sqlite3.Connection) -> bool:
    """Whether the file says what tables it has. Raises IndexMismatch for another schema's."""
    try:
        source.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error:
        return False
    with contextlib.suppress(sqlite3.Error, TypeError):
        (schema,) = source.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if schema != str(SCHEMA):
            raise IndexMismatch(
                f"the damaged catalogue has schema {schema}, this version saves {SCHEMA}",
                "use the version that made it, or `ingest` your folders into a new data directory",
            )
    return True


def _copy_table(
    source: sqlite3.Connection, database: Database, table: str, orphans: dict[str, str]
) -> bool:
    """Copy the rows that can be read and that fit. Returns whether those were all.

    A document whose collection is not there, and one of which only pages or chunks are, is added
    to `orphans`: its id, and its path if that is known.
    """
    columns = [row[1] for row in database.all(f"PRAGMA table_info({table})")]
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
    whole = True
    with database.transaction() as db:
        for row in _rows(source, table, ", ".join(columns)):
            if row is None:
                whole = False
                continue
            try:
                db.execute(insert, row)
            except sqlite3.IntegrityError:
                whole = False
                named = dict(zip(columns, row, strict=True))
                if table == "documents":
                    orphans[named["id"]] = str(named["source"])
                elif table in ("pages", "chunks"):
                    orphans.setdefault(named["document_id"], "")
    return whole


def _rows(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...] | None]:
    """The rows in the order they lie in the file; None for each stretch that can't be read.

    No index is used. Behind damage, each row is asked for by its number.
    """
    last = 0
    while True:
        try:
            for row in source.execute(
                f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid", (last,)
            ):
                last = row[0]
                yield row[1:]
            return
        except sqlite3.Error:
            yield None
        found = None
        for number in range(last + 1, _end(source, table, last) + 1):
            with contextlib.suppress(sqlite3.Error):
                found = source.execute(
                    f"SELECT {columns} FROM {table} WHERE rowid = ?", (number,)
                ).fetchone()
            if found:
                yield found
                last = number
                break
        if not found:
            return


def _end(source: sqlite3.Connection, table: str, last: int) -> int:
    """The number of the last row, or one that is far behind if that can't be read."""
    try:
        return int(source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or last)
    except sqlite3.Error:
        return last + _BEYOND


def _swap(damaged: Path, new: Path, kept: Path) -> None:
    """Put the new catalogue into the damaged one's place, in one step."""
    try:
        os.link(damaged, kept)
    except OSError:  # a file system without links
        shutil.copyfile(damaged, kept)
    # A log that could not be settled belongs to the damaged file. From here on until the end that
    # file alone can't be opened, as before: nothing takes it for whole.
    for end in ("-wal", "-shm"):
        log = damaged.with_name(damaged.name + end)
        if log.exists():
            os.replace(log, kept.with_name(kept.name + end))
    os.replace(new, damaged)
