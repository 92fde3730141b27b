"""The truth: one SQLite file with collections, documents, pages, chunks and their vectors.

Chroma and the lexical index are caches of it and can be rebuilt from it without the embedder.
What the catalogue does not list as live is never shown.

A document is written `pending`, put into the caches, and then goes `live` in the same transaction
that takes its older version away. Ids taken away wait in `leavings` until the caches have dropped
them. Killed anywhere, `Index` finishes or repeats the rest when it is next opened.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rag_bot.errors import IndexMismatch, Unavailable
from rag_bot.types import PAGE_SEPARATOR, Chunk, Document, Heading, Page

SCHEMA = 1
Vectors = npt.NDArray[np.float32]

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    fingerprint TEXT NOT NULL
) STRICT;
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
    indexed_at REAL NOT NULL
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
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    report TEXT NOT NULL
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


class Collection(NamedTuple):
    """A set of documents searched together. `fingerprint` is of the chunker and the embedder."""

    id: int
    name: str
    generation: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue knows of a live document without its text."""

    id: str
    source: str
    sha256: str
    size: int
    mtime_ns: int
    media_type: str
    title: str
    indexed_at: float
    pages: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be written: parsed, chunked and embedded.

    `vectors` has one row a chunk, float32, unit length.
    """

    document: Document
    chunks: tuple[Chunk, ...]
    vectors: Vectors
    size: int
    mtime_ns: int
    media_type: str


class Stored(NamedTuple):
    """A live chunk together with what a person needs to know where it is from."""

    chunk: Chunk
    source: str
    title: str


def document_id(collection: str, source: str, sha256: str, fingerprint: str) -> str:
    """The id of a document: the same file, settings and model give the same id."""
    return _hash(collection, source, sha256, fingerprint)[:20]


def chunk_id(document: str, ordinal: int) -> str:
    """The id of a chunk, from its document's id and its place in it."""
    return _hash(document, str(ordinal))[:24]


def _hash(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(joined).hexdigest()


class Catalogue:
    """One connection, used by any thread under one lock: every operation is short."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                "PRAGMA busy_timeout = 5000;"
            )
            self._create()
        except (sqlite3.DatabaseError, OSError) as error:
            raise Unavailable(
                f"the catalogue {path} can't be opened: {error}",
                "check the disk and its permissions, or move the file away and ingest again",
            ) from None

    def _create(self) -> None:
        with self.transaction() as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
                for statement in _TABLES.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        found = int(self._one("SELECT value FROM meta WHERE key = 'schema'")[0])
        if found != SCHEMA:
            raise IndexMismatch(
                f"{self.path} has schema {found}, this version reads {SCHEMA}",
                "move it away and run `ingest` again",
            )

    def close(self) -> None:
        """Close the connection; the file is whole at every moment anyway."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on return."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _all(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, parameters).fetchall()

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        with self._lock:
            return self._db.execute(sql, parameters).fetchone()

    # Collections

    def collections(self) -> list[Collection]:
        """All of them, by name."""
        rows = self._all("SELECT id, name, generation, fingerprint FROM collections ORDER BY name")
        return [Collection(*row) for row in rows]

    def collection(self, name: str) -> Collection | None:
        """One by name, or None."""
        return next((each for each in self.collections() if each.name == name), None)

    def create_collection(self, name: str, fingerprint: str) -> Collection:
        """Make one; returns the present one where it exists."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO collections (name, generation, fingerprint)"
                " VALUES (?, 1, ?)",
                (name, fingerprint),
            )
        found = self.collection(name)
        assert found is not None
        return found

    def drop_collection(self, collection: Collection) -> None:
        """Forget a collection that holds no documents any more."""
        with self.transaction() as db:
            db.execute("DELETE FROM leavings WHERE collection_id = ?", (collection.id,))
            db.execute("DELETE FROM collections WHERE id = ?", (collection.id,))

    # Documents

    def entries(self, collection: Collection) -> list[Entry]:
        """Its live documents, by source."""
        rows = self._all(
            "SELECT id, source, sha256, size, mtime_ns, media_type, title, indexed_at,"
            " (SELECT count(*) FROM pages WHERE document_id = documents.id),"
            " (SELECT count(*) FROM chunks WHERE document_id = documents.id)"
            " FROM documents WHERE collection_id = ? AND state = 'live' ORDER BY source",
            (collection.id,),
        )
        return [Entry(*row) for row in rows]

    def document(self, document_id: str) -> Document | None:
        """A live document with its text, or None."""
        row = self._one(
            "SELECT source, sha256, title, headings FROM documents WHERE id = ? AND state = 'live'",
            (document_id,),
        )
        if row is None:
            return None
        source, sha256, title, headings = row
        pages = self._all(
            "SELECT number, text FROM pages WHERE document_id = ? ORDER BY number", (document_id,)
        )
        return Document(
            id=document_id,
            source=source,
            sha256=sha256,
            pages=tuple(Page(*page) for page in pages),
            title=title,
            headings=tuple(Heading(*heading) for heading in json.loads(headings)),
        )

    def sources(self, document_ids: Iterable[str]) -> dict[str, str]:
        """The paths of the live ones among these documents, by id."""
        rows = self._all(
            "SELECT id, source FROM documents WHERE state = 'live'"
            " AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(document_ids)),),
        )
        return dict(rows)

    def write_pending(self, collection: Collection, prepared: Sequence[Prepared]) -> None:
        """Write documents so that they survive a crash, but are not shown yet."""
        with self.transaction() as db:
            for each in prepared:
                document = each.document
                db.execute("DELETE FROM documents WHERE id = ?", (document.id,))
                # The same file may come back while the caches still have to drop its old ids.
                db.executemany(
                    "DELETE FROM leavings WHERE collection_id = ? AND chunk_id = ?",
                    ((collection.id, chunk.id) for chunk in each.chunks),
                )
                db.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
                    (
                        document.id,
                        collection.id,
                        document.source,
                        document.sha256,
                        each.size,
                        each.mtime_ns,
                        each.media_type,
                        document.title,
                        json.dumps([[h.char_start, h.level, h.text] for h in document.headings]),
                        time.time(),
                    ),
                )
                db.executemany("INSERT INTO pages VALUES (?, ?, ?, ?)", _page_rows(document))
                db.executemany(
                    "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (
                            chunk.id,
                            document.id,
                            ordinal,
                            chunk.page_start,
                            chunk.page_end,
                            chunk.char_start,
                            chunk.char_end,
                            chunk.heading,
                            vector.astype(np.float16).tobytes(),
                        )
                        for ordinal, (chunk, vector) in enumerate(
                            zip(each.chunks, each.vectors, strict=True)
                        )
                    ),
                )

    def pending(self, collection: Collection) -> list[str]:
        """Ids of documents written but not live: a run was cut off between the two."""
        rows = self._all(
            "SELECT id FROM documents WHERE collection_id = ? AND state = 'pending'",
            (collection.id,),
        )
        return [row[0] for row in rows]

    def go_live(self, collection: Collection, document_ids: Iterable[str]) -> None:
        """Show these documents from now on, and older versions of the same sources no more."""
        with self.transaction() as db:
            for document_id in document_ids:
                old = db.execute(
                    "SELECT old.id FROM documents old JOIN documents new"
                    " ON old.collection_id = new.collection_id AND old.source = new.source"
                    " WHERE new.id = ? AND old.id != new.id",
                    (document_id,),
                ).fetchall()
                _take_away(db, collection, (row[0] for row in old))
                db.execute("UPDATE documents SET state = 'live' WHERE id = ?", (document_id,))

    def take_away(self, collection: Collection, document_ids: Iterable[str]) -> None:
        """Show these documents no more; their chunk ids become leavings."""
        with self.transaction() as db:
            _take_away(db, collection, document_ids)

    def leavings(self, collection: Collection) -> list[str]:
        """Chunk ids that the caches may still hold and should not."""
        rows = self._all("SELECT chunk_id FROM leavings WHERE collection_id = ?", (collection.id,))
        return [row[0] for row in rows]

    def forget_leavings(self, collection: Collection) -> None:
        """The caches have dropped them."""
        with self.transaction() as db:
            db.execute("DELETE FROM leavings WHERE collection_id = ?", (collection.id,))

    def touch(self, document_id: str, size: int, mtime_ns: int) -> None:
        """The file was rewritten with the same content: remember its new date."""
        with self.transaction() as db:
            db.execute(
                "UPDATE documents SET size = ?, mtime_ns = ?, indexed_at = ? WHERE id = ?",
                (size, mtime_ns, time.time(), document_id),
            )

    # Chunks

    def chunk_count(self, collection: Collection) -> int:
        """How many chunks its live documents have."""
        row = self._one(
            "SELECT count(*) FROM chunks JOIN documents ON documents.id = document_id"
            " WHERE collection_id = ? AND state = 'live'",
            (collection.id,),
        )
        return int(row[0])

    def chunks(self, collection: Collection, chunk_ids: Sequence[str]) -> dict[str, Stored]:
        """The live ones among these ids; the others are left out."""
        rows = self._all(
            _CHUNKS + " WHERE collection_id = ? AND state = 'live'"
            " AND chunks.id IN (SELECT value FROM json_each(?))",
            (collection.id, json.dumps(chunk_ids)),
        )
        return {row[0]: _stored(row) for row in rows}

    def chunks_of(self, document_id: str) -> list[Stored]:
        """All chunks of a document, live or pending, in order."""
        rows = self._all(_CHUNKS + " WHERE documents.id = ? ORDER BY ordinal", (document_id,))
        return [_stored(row) for row in rows]

    def vectors_of(self, document_id: str) -> Vectors:
        """A document's vectors in chunk order: `(chunks, dimension)`, float32."""
        rows = self._all(
            "SELECT vector FROM chunks WHERE document_id = ? ORDER BY ordinal", (document_id,)
        )
        return unpack_vectors([row[0] for row in rows])

    # Runs and feedback

    def record_run(self, started_at: float, report: Mapping[str, Any]) -> None:
        """Remember what an ingest did."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO runs (started_at, report) VALUES (?, ?)",
                (started_at, json.dumps(report)),
            )

    def record_feedback(
        self,
        *,
        collection: str,
        question: str,
        answer: Mapping[str, Any],
        thumb: int,
        reason: str = "",
        correction: str = "",
    ) -> None:
        """Remember what a person thought of an answer: `thumb` is 1 or -1."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO feedback (created_at, collection, question, answer, thumb, reason,"
                " correction) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    time.time(),
                    collection,
                    question,
                    json.dumps(answer),
                    thumb,
                    reason,
                    correction,
                ),
            )

    def feedback(self) -> list[dict[str, Any]]:
        """All feedback, oldest first, `answer` as recorded."""
        names = ("created_at", "collection", "question", "answer", "thumb", "reason", "correction")
        rows = self._all(f"SELECT {', '.join(names)} FROM feedback ORDER BY id")
        return [
            {**dict(zip(names, row, strict=True)), "answer": json.loads(row[3])} for row in rows
        ]


_CHUNKS = (
    # A chunk lies within one page, so its text is a slice of that page and is not kept twice.
    "SELECT chunks.id, chunks.document_id,"
    " substr(pages.text, chunks.char_start - pages.char_start + 1,"
    " chunks.char_end - chunks.char_start),"
    " page_start, page_end, chunks.char_start, chunks.char_end, heading,"
    " documents.source, documents.title"
    " FROM chunks JOIN documents ON documents.id = chunks.document_id"
    " JOIN pages ON pages.document_id = chunks.document_id AND pages.number = page_start"
)


def unpack_vectors(blobs: Sequence[bytes]) -> Vectors:
    """Vectors as kept in the catalogue (float16 bytes) to `(len(blobs), dimension)` float32."""
    flat = np.frombuffer(b"".join(blobs), dtype=np.float16).astype(np.float32)
    return flat.reshape(len(blobs), -1) if blobs else flat.reshape(0, 0)


def _stored(row: Sequence[Any]) -> Stored:
    return Stored(Chunk(*row[:8]), row[8], row[9])


def _page_rows(document: Document) -> Iterator[tuple[str, int, int, str]]:
    start = 0
    for page in document.pages:
        yield document.id, page.number, start, page.text
        start += len(page.text) + len(PAGE_SEPARATOR)


def _take_away(db: sqlite3.Connection, collection: Collection, document_ids: Iterable[str]) -> None:
    for document_id in document_ids:
        db.execute(
            "INSERT OR IGNORE INTO leavings SELECT ?, id FROM chunks WHERE document_id = ?",
            (collection.id, document_id),
        )
        db.execute("DELETE FROM documents WHERE id = ?", (document_id,))
