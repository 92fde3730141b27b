"""The whole index in one file, and back.

A backup holds the catalogue (documents, chunks, vectors and all records) and the uploads, which
exist nowhere else. Chroma's own files are not in it: they hold a pickle, and are made from the
catalogue.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ingest.archive import UPLOADS, Manifest, foreign, unpack, write
from ingest.files import name as path_name
from rag_bot.catalogue import Catalogue, Collection, Entry, Prepared, chunk_id, document_id
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.digest import sha256_of
from rag_bot.errors import IndexDamaged, IndexMismatch, Unavailable, UsageError
from rag_bot.index import CATALOGUE, Index

SCRATCH = "scratch"
"""The folder in the data directory for copies while they are made."""
PARTIAL = ".partial"
"""At the end of a backup's name until it is complete."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup that was made or restored. `left_out` counts uploads that were deleted since."""

    file: str
    made_at: float
    version: str
    size: int
    collections: Mapping[str, int]
    uploads: int
    left_out: int = 0

    def line(self) -> str:
        """The same in words."""
        when = datetime.fromtimestamp(self.made_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        held = ", ".join(f"{n} documents in {name!r}" for name, n in self.collections.items())
        out = f", {self.left_out} left out that were deleted since" if self.left_out else ""
        return (
            f"{self.file}: {held or 'no documents'}, {self.uploads} uploads{out};"
            f" {self.size / 1e6:.1f} MB, made {when} by rag-bot {self.version}"
        )


_using = threading.Lock()


@contextlib.contextmanager
def scratch(data_dir: Path) -> Iterator[Path]:
    """An empty folder in the data directory for copies that must not stay. One user at a time.

    What a killed run left in it goes first.
    """
    folder = data_dir / SCRATCH
    with _using:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def left_behind(data_dir: Path) -> Path | None:
    """The folder of `scratch`, if a killed run left it."""
    folder = data_dir / SCRATCH
    return folder if folder.exists() and not _using.locked() else None


def backup(index: Index, settings: Settings, file: Path, *, overwrite: bool = False) -> BackupInfo:
    """Write a backup, readable by its owner alone, while others read and write.

    It appears under its name when it is complete. Raises UsageError for a place that can't be
    meant, Unavailable when it can't be written.
    """
    place = file.expanduser().resolve()
    own = settings.data_dir.resolve()
    if place.is_relative_to(own):
        raise UsageError(f"{place} is in the data directory", "keep backups on another disk")
    if place.is_dir() or (place.exists() and not overwrite):
        raise UsageError(f"{place} exists", "choose another name, or add --overwrite")
    # First, so that a deletion that comes meanwhile names it.
    index.ledger.record_backup(path_name(place))
    partial = place.with_name(place.name + PARTIAL)
    try:
        with scratch(own) as folder:
            copy = folder / CATALOGUE
            index.backup(copy)
            files = {CATALOGUE: copy, **_uploads(own)}
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                manifest = write(stream, files, path_name(own), _counts(copy))
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, place)
        _sync(place.parent)
    except OSError as error:
        raise Unavailable(
            f"the backup {place} can't be written: {error.strerror}",
            "make room, or choose another place",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return _info(place, manifest)


def restore(index: Index, settings: Settings, file: Path) -> BackupInfo:
    """Take over a backup, while others read: they see the old state or the new one.

    What was deleted here since it was made stays deleted, and its uploads are not put back. An
    upload that is here under a name of the backup's gets a number. A backup from another data
    directory is taken over too. Its collections may have been made with other settings: then
    they answer after `ingest rebuild`.

    Raises UsageError for a file that is no whole backup of ours, Unavailable when there is no
    room; the old state stays as it was.
    """
    place = file.expanduser().resolve()
    own = settings.data_dir.resolve()
    with scratch(own) as folder:
        manifest = unpack(place, folder)
        _take_in(place, folder / CATALOGUE, manifest, own)
        with _put_back(index, folder, manifest, own) as left_out:
            index.restore(folder / CATALOGUE)
        index.seal()
    return replace(_info(place, manifest), left_out=left_out)


# Making one


def _uploads(own: Path) -> dict[str, Path]:
    folder = own / UPLOADS
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {UPLOADS + path_name(path.relative_to(folder)): path for path in found}


def _counts(copy: Path) -> dict[str, int]:
    with contextlib.closing(Database(copy, read_only=True)) as database:
        catalogue = Catalogue(database)
        return {each.name: len(catalogue.entries(each)) for each in catalogue.collections()}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _info(place: Path, manifest: Manifest) -> BackupInfo:
    return BackupInfo(
        file=path_name(place),
        made_at=manifest.made_at,
        version=manifest.version,
        size=place.stat().st_size,
        collections=manifest.collections,
        uploads=len(manifest.members) - 1,
    )


# Taking one over


def _take_in(place: Path, copy: Path, manifest: Manifest, own: Path) -> None:
    """Check the catalogue of a backup, bring it up to date, and let its uploads be ours."""
    try:
        with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as db:
            # A trigger or a view would run what somebody else wrote.
            odd = db.execute(
                "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
                " OR sql LIKE 'CREATE VIRTUAL%'"
            ).fetchall()
        if odd:
            raise foreign(place, f"its catalogue holds {odd[0][0]!r}")
        with contextlib.closing(Database(copy)) as database:
            database.sound()
            if manifest.data_dir != path_name(own):
                old, new = (f"{each}/{UPLOADS}" for each in (manifest.data_dir, path_name(own)))
                _move(database, old, new)
    except (sqlite3.Error, IndexDamaged, IndexMismatch) as error:
        raise foreign(place, str(error)) from error


def _move(database: Database, old: str, new: str) -> None:
    """Rename documents and records below one folder to another, with the ids that follow."""
    catalogue = Catalogue(database)
    with database.transaction() as db:
        for collection in catalogue.collections():
            for entry in catalogue.entries(collection):
                if entry.source.startswith(old):
                    source = new + entry.source.removeprefix(old)
                    moved = _renamed(catalogue, collection, entry, source)
                    catalogue.write_pending(collection, [moved])
                    catalogue.go_live(collection, [moved.document.id])
                    catalogue.take_away(collection, [entry.id])
        for table in ("rejected", "forgotten", "lineage"):
            db.execute(
                f"UPDATE {table} SET source = :new || substr(source, length(:old) + 1)"
                " WHERE substr(source, 1, length(:old)) = :old",
                {"old": old, "new": new},
            )


def _renamed(catalogue: Catalogue, collection: Collection, entry: Entry, source: str) -> Prepared:
    document = catalogue.document(entry.id)
    assert document is not None
    new_id = document_id(collection.name, source, entry.sha256, collection.fingerprint)
    chunks = tuple(
        replace(each.chunk, id=chunk_id(new_id, ordinal), document_id=new_id)
        for ordinal, each in enumerate(catalogue.chunks_of(entry.id))
    )
    return Prepared(
        document=replace(document, id=new_id, source=source),
        chunks=chunks,
        vectors=catalogue.vectors_of(entry.id),
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        media_type=entry.media_type,
    )


@contextlib.contextmanager
def _put_back(index: Index, folder: Path, manifest: Manifest, own: Path) -> Iterator[int]:
    """Put uploads into their places, but for deleted ones, and undo that if what follows fails.

    Yields how many were left out.
    """
    live = [e for c in index.catalogue.collections() for e in index.catalogue.entries(c)]
    forgotten = [
        each
        for collection in index.catalogue.collections()
        for each in index.ledger.forgotten(collection.name)
    ]
    out = {each.source for each in forgotten}
    out |= {each.sha256 for each in forgotten} - {entry.sha256 for entry in live}
    placed: list[Path] = []
    aside: list[tuple[Path, Path]] = []
    left_out = 0
    try:
        for name, member in manifest.members.items():
            place = own / name
            if name == CATALOGUE:
                continue
            if path_name(place) in out or member.sha256 in out:
                left_out += 1
                continue
            if place.exists():
                if sha256_of(place) == member.sha256:
                    continue
                other = _free(place)
                os.replace(place, other)
                aside.append((place, other))
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            placed.append(place)
            os.replace(folder / name, place)
        yield left_out
    except BaseException as error:
        for place in placed:
            place.unlink(missing_ok=True)
        for place, other in aside:
            os.replace(other, place)
        if isinstance(error, OSError):
            raise Unavailable(
                f"the uploads can't be put into {own / UPLOADS}: {error.strerror}",
                "make it writable",
            ) from error
        raise


def _free(place: Path) -> Path:
    """A name beside a file that nothing has: with a number."""
    names = (place.with_name(f"{place.stem}-{n}{place.suffix}") for n in itertools.count(2))
    return next(each for each in names if not each.exists())
