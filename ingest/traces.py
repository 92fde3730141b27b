"""Reading everything that could hold a trace of a document: tables, files, backups.

This is the work of a child process of `ingest.forgotten`: a file of SQLite's must not be opened
and closed beside it in the same process, which would lose its locks ("How To Corrupt An SQLite
Database File", 2.2).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ingest.needles import BLOCK, Hits, Needles, Search
from rag_bot.catalogue import unpack_vectors
from rag_bot.index import CATALOGUE

_TWIN = 0.99

Found = Literal["no", "yes", "unsure", "not searched"]


class Look(NamedTuple):
    """A place that was looked at, and what of the document is there. Never quotes it."""

    place: str
    found: Found
    detail: str = ""


class Places(NamedTuple):
    """Where to look.

    `others` are files outside the data directory. `remembered`: the document's path and hash
    stand in the catalogue on purpose.
    """

    data_dir: Path
    others: tuple[Path, ...]
    backups: tuple[Path, ...]
    remembered: bool


def look(places: Places, needles: Needles) -> list[Look]:
    """What is where. Of what live documents have as well, nothing is looked for."""
    address = f"{(places.data_dir / CATALOGUE).as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
        shared, needles = _without_shared(db, needles)
        search = Search(needles)
        looks = [*shared, *_tables(db, search, needles, places.remembered)]
    looks += _files(places, search, needles)
    for backup in places.backups:
        looks += _backup(backup, search, needles, places.remembered)
    return looks


def _without_shared(db: sqlite3.Connection, needles: Needles) -> tuple[list[Look], Needles]:
    """The needles without what live documents have too: a twin, a standard sentence."""
    live = (
        " JOIN documents ON documents.id = document_id AND state = 'live'"
        " JOIN collections ON collections.id = collection_id AND live"
    )
    texts = {each: label for each, label in needles.strings.items() if label[0] == "text"}
    shared: set[bytes] = set()
    if texts:
        pages = db.execute(f"SELECT text FROM pages{live}")
        forms = (form for (text,) in pages for form in (text, json.dumps(text)))
        shared = Search(Needles(texts)).blocks(_gathered(forms)).strings
    alone = np.ones(len(needles.vectors), bool)
    if len(alone):
        size = 2 * needles.vectors.shape[1]
        rows = db.execute(f"SELECT vector FROM chunks{live} AND length(vector) = ?", (size,))
        while blobs := rows.fetchmany(4000):
            others = unpack_vectors([blob for (blob,) in blobs])
            alone &= (needles.vectors @ others.T).max(axis=1) < _TWIN
    also = Hits(shared, set(np.flatnonzero(~alone).tolist()))
    told = Look(
        "text",
        "not searched",
        f"{counted(also.kinds(needles))} that live documents have as well",
    )
    strings = {each: label for each, label in needles.strings.items() if each not in shared}
    left = Needles(strings, needles.vectors[alone], needles.explained)
    return [told] if also else [], left


def _tables(
    db: sqlite3.Connection, search: Search, needles: Needles, remembered: bool
) -> Iterator[Look]:
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (table,) in tables.fetchall():
        values = (value for row in db.execute(f'SELECT * FROM "{table}"') for value in row)
        hits = search.blocks(_gathered(values))
        known = remembered and table in ("forgotten", "roots")
        yield _seen(f"catalogue: {table}", hits, needles, known)


def _gathered(values: Iterable[object]) -> Iterator[bytes]:
    """Values one after the other, some megabytes at a time."""
    block = bytearray()
    for value in values:
        block += value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        block += b"\0\0\0\0"
        if len(block) > BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _files(places: Places, search: Search, needles: Needles) -> Iterator[Look]:
    walk = os.walk(places.data_dir)
    inside = sorted(Path(folder, each) for folder, _, names in walk for each in names)
    others = [each for each in dict.fromkeys(places.others) if each not in inside]
    count = found = 0
    for path in inside + others:
        if not path.is_file() or path.is_symlink():
            continue
        try:
            with path.open("rb") as stream:
                hits = search.stream(stream)
        except FileNotFoundError:  # a cache that has just been replaced
            continue
        except OSError as error:
            found += 1
            yield Look(f"file {path}", "unsure", f"can't be read: {error.strerror}")
            continue
        count += 1
        known = places.remembered and path.name.startswith(CATALOGUE)
        seen = _seen(f"file {path}", hits, needles, known)
        if seen.found == "yes":
            found += 1
            yield seen
    if not found:
        yield Look(f"files below {places.data_dir}", "no", f"the bytes of {count} files")


def _backup(path: Path, search: Search, needles: Needles, remembered: bool) -> Iterator[Look]:
    if not path.exists():
        return
    hits = Hits()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    found = search.stream(stream)
                hits.strings |= found.strings
                hits.vectors |= found.vectors
    # RuntimeError is what zipfile raises for a member with a password.
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        yield Look(f"backup {path}", "unsure", f"can't be read: {error}")
        return
    yield _seen(f"backup {path}", hits, needles, remembered)


def _seen(place: str, hits: Hits, needles: Needles, remembered: bool) -> Look:
    kinds = hits.kinds(needles)
    if remembered:
        del kinds["path"], kinds["hash"]
    return Look(place, "yes" if kinds else "no", counted(kinds))


def counted(kinds: Mapping[str, int]) -> str:
    """How many different things of each kind, in words."""
    one_of = {"path": "its path", "hash": "its SHA-256", "id": "{} ids", "text": "{} sentences"}
    words = one_of | {"vector": "{} vectors"}
    return ", ".join(words[kind].format(kinds[kind]) for kind in words if kinds.get(kind))
