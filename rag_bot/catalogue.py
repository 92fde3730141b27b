"""The truth: collections, documents, pages, chunks and their vectors, in one SQLite file.

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
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rag_bot.database import Database
from rag_bot.types import PAGE_SEPARATOR, Chunk, Document, Heading, Page

Vectors = npt.NDArray[np.float32]


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


class Debt(NamedTuple):
    """Chunks taken out of the caches that still lie in their files; `due`: a deletion is owed."""

    chunks: int
    due: bool


class Place(NamedTuple):
    """What a live document is chosen by, and how many chunks it has."""

    document_id: str
    source: str
    mtime_ns: int
    chunks: int


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


def unsure(mtime_ns: int) -> int:
    """The date to keep of a file that may have changed as it was read: the true one, negative.

    No file has it, so that one is read again.
    """
    return -mtime_ns if mtime_ns > 0 else mtime_ns - 1


class Catalogue:
    """Collections, their documents and chunks, in the one database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Collections

    def collections(self) -> list[Collection]:
        """The live generation of each, by name."""
        return [each for each, live in self._rows() if live]

    def collection(self, name: str) -> Collection | None:
        """The live generation of one by name, or None."""
        return next((each for each in self.collections() if each.name == name), None)

    def building(self, name: str | None = None) -> list[Collection]:
        """Generations begun and not yet live, of all collections or one."""
        return [each for each, live in self._rows() if not live and name in (None, each.name)]

    def generations(self) -> list[Collection]:
        """All of them: those that answer, and those begun."""
        return [each for each, _ in self._rows()]

    def is_live(self, collection: Collection) -> bool:
        """Whether this generation is the one that answers."""
        return self.collection(collection.name) == collection

    def _rows(self) -> list[tuple[Collection, bool]]:
        rows = self._db.all(
            "SELECT id, name, generation, fingerprint, live FROM collections"
            " ORDER BY name, generation"
        )
        return [(Collection(*row[:4]), bool(row[4])) for row in rows]

    def create_collection(self, name: str, fingerprint: str) -> Collection:
        """Make one; returns the present one where it exists."""
        with self._db.transaction() as db:
            if self.collection(name) is None:
                db.execute(
                    "INSERT INTO collections (name, generation, fingerprint, live)"
                    " VALUES (?, 1, ?, 1)",
                    (name, fingerprint),
                )
        found = self.collection(name)
        assert found is not None
        return found

    def begin_generation(self, live: Collection, fingerprint: str) -> Collection:
        """A generation to be filled beside the live one."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO collections (name, generation, fingerprint, live) VALUES (?, ?, ?, 0)",
                (live.name, live.generation + 1, fingerprint),
            )
        return self.building(live.name)[0]

    def flip(self, building: Collection) -> None:
        """Let this generation answer from now on, and delete the one that did.

        A purge that was owed is owed still.
        """
        with self._db.transaction() as db:
            live = self.collection(building.name)
            if live is not None:
                if self.debt(live).due:
                    self.owe_purge(building)
                self.drop_collection(live)
            db.execute("UPDATE collections SET live = 1 WHERE id = ?", (building.id,))

    def drop_collection(self, collection: Collection) -> None:
        """Delete a generation and all its documents."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM leavings WHERE collection_id = ?", (collection.id,))
            db.execute("DELETE FROM documents WHERE collection_id = ?", (collection.id,))
            db.execute("DELETE FROM collections WHERE id = ?", (collection.id,))

    def caches(self, collection: Collection) -> str:
        """The name of the folder of its caches, or empty."""
        row = self._db.one("SELECT caches FROM collections WHERE id = ?", (collection.id,))
        return str(row[0]) if row else ""

    def set_caches(self, collection: Collection, folder: str) -> None:
        """From now on its caches are in this new folder, in which nothing was ever deleted."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE collections SET caches = ?, debt = 0 WHERE id = ?", (folder, collection.id)
            )

    def dimension(self, collection: Collection) -> int:
        """The length of its vectors; 0 before the first."""
        row = self._db.one("SELECT dimension FROM collections WHERE id = ?", (collection.id,))
        return int(row[0]) if row else 0

    def debt(self, collection: Collection) -> Debt:
        """What was taken away and still lies in the files of its caches."""
        row = self._db.one("SELECT debt, purge_due FROM collections WHERE id = ?", (collection.id,))
        return Debt(int(row[0]), bool(row[1])) if row else Debt(0, False)

    def owe_purge(self, collection: Collection) -> None:
        """A document was deleted: that is not claimed before its bytes are gone from all files."""
        with self._db.transaction() as db:
            db.execute("UPDATE collections SET purge_due = 1 WHERE id = ?", (collection.id,))

    def purged(self, collection: Collection) -> None:
        """They are gone."""
        if self.debt(collection).due:
            with self._db.transaction() as db:
                db.execute("UPDATE collections SET purge_due = 0 WHERE id = ?", (collection.id,))

    # Documents

    def entries(self, collection: Collection) -> list[Entry]:
        """Its live documents, by source."""
        rows = self._db.all(
            f"{_ENTRIES} WHERE collection_id = ? AND state = 'live' ORDER BY source",
            (collection.id,),
        )
        return [Entry(*row) for row in rows]

    def places(self, collection: Collection) -> list[Place]:
        """The same for choosing among them, in no order: `entries` takes twice as long."""
        rows = self._db.all(
            "SELECT id, source, abs(mtime_ns),"  # see `unsure`
            " (SELECT count(*) FROM chunks WHERE document_id = documents.id)"
            " FROM documents WHERE collection_id = ? AND state = 'live'",
            (collection.id,),
        )
        return [Place(*row) for row in rows]

    def names(self, collection: Collection) -> list[tuple[str, str, str]]:
        """Each live document's id, source and title, in no order."""
        return self._db.all(
            "SELECT id, source, title FROM documents WHERE collection_id = ? AND state = 'live'",
            (collection.id,),
        )

    def document(self, document_id: str) -> Document | None:
        """A live document with its text, or None."""
        row = self._db.one(
            "SELECT source, sha256, title, headings FROM documents WHERE id = ? AND state = 'live'",
            (document_id,),
        )
        if row is None:
            return None
        source, sha256, title, headings = row
        pages = self._db.all(
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

    def origins(self, document_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Path and SHA-256 of the live ones among these documents, by id."""
        rows = self._db.all(
            "SELECT id, source, sha256 FROM documents WHERE state = 'live'"
            " AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(document_ids)),),
        )
        return {document_id: (source, sha256) for document_id, source, sha256 in rows}

    def sources(self, document_ids: Iterable[str]) -> dict[str, str]:
        """The paths of the live ones among these documents, by id."""
        return {i: source for i, (source, _) in self.origins(document_ids).items()}

    def write_pending(self, collection: Collection, prepared: Sequence[Prepared]) -> None:
        """Write documents so that they survive a crash, but are not shown yet."""
        with self._db.transaction() as db:
            for each in prepared:
                document = each.document
                db.execute("DELETE FROM documents WHERE id = ?", (document.id,))
                # The same file may come back while the caches still have to drop its old ids.
                db.executemany(
                    "DELETE FROM leavings WHERE collection_id = ? AND chunk_id = ?",
                    ((collection.id, chunk.id) for chunk in each.chunks),
                )
                db.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, '')",
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
                _sign(db, document.id, self._digest(document.id))
            dimensions = {each.vectors.shape[1] for each in prepared if each.chunks}
            for dimension in dimensions:
                db.execute(
                    "UPDATE collections SET dimension = ? WHERE id = ?", (dimension, collection.id)
                )

    def pending(self, collection: Collection) -> list[str]:
        """Ids of documents written but not live: a run was cut off between the two."""
        rows = self._db.all(
            "SELECT id FROM documents WHERE collection_id = ? AND state = 'pending'",
            (collection.id,),
        )
        return [row[0] for row in rows]

    def go_live(self, collection: Collection, document_ids: Iterable[str]) -> None:
        """Show these documents from now on, and older versions of the same sources no more."""
        with self._db.transaction() as db:
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
        with self._db.transaction() as db:
            _take_away(db, collection, document_ids)

    def leavings(self, collection: Collection) -> list[str]:
        """Chunk ids that the caches may still hold and should not."""
        rows = self._db.all(
            "SELECT chunk_id FROM leavings WHERE collection_id = ?", (collection.id,)
        )
        return [row[0] for row in rows]

    def passing(self, collection: Collection) -> list[str]:
        """Chunk ids that the caches may hold or not: leavings, and those of pending documents."""
        rows = self._db.all(
            "SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id"
            " WHERE collection_id = ? AND state = 'pending'",
            (collection.id,),
        )
        return self.leavings(collection) + [row[0] for row in rows]

    def forget_leavings(self, collection: Collection) -> None:
        """The caches have dropped them: from their answers, not from their files."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE collections SET debt = debt + (SELECT count(*) FROM leavings"
                " WHERE collection_id = collections.id) WHERE id = ?",
                (collection.id,),
            )
            db.execute("DELETE FROM leavings WHERE collection_id = ?", (collection.id,))

    def touch(self, document_id: str, size: int, mtime_ns: int) -> None:
        """The file was rewritten with the same content: remember its new date."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE documents SET size = ?, mtime_ns = ?, indexed_at = ? WHERE id = ?",
                (size, mtime_ns, time.time(), document_id),
            )

    # Chunks

    def chunk_count(self, collection: Collection) -> int:
        """How many chunks its live documents have."""
        row = self._db.one(
            "SELECT count(*) FROM chunks JOIN documents ON documents.id = document_id"
            " WHERE collection_id = ? AND state = 'live'",
            (collection.id,),
        )
        return int(row[0])

    def chunks(self, collection: Collection, chunk_ids: Sequence[str]) -> dict[str, Stored]:
        """The live ones among these ids; the others are left out."""
        live = (
            "collection_id = ? AND state = 'live' AND chunks.id IN (SELECT value FROM json_each(?))"
        )
        rows = self._db.all(_CHUNKS.format(live), (collection.id, json.dumps(chunk_ids)))
        return {stored.chunk.id: stored for stored in _stored(rows)}

    def chunks_of(self, document_id: str) -> list[Stored]:
        """All chunks of a document, live or pending, in order."""
        return _stored(self._db.all(_CHUNKS.format("chunks.document_id = ?"), (document_id,)))

    def vectors_of(self, document_id: str) -> Vectors:
        """A document's vectors in chunk order: `(chunks, dimension)`, float32."""
        rows = self._db.all(
            "SELECT vector FROM chunks WHERE document_id = ? ORDER BY ordinal", (document_id,)
        )
        return unpack_vectors([row[0] for row in rows])

    def vectors_within(self, document_ids: Iterable[str]) -> tuple[list[str], Vectors]:
        """All chunk ids of these documents, and their vectors: `(chunks, dimension)`, float32."""
        rows = self._db.all(
            "SELECT id, vector FROM chunks WHERE document_id IN (SELECT value FROM json_each(?))"
            " ORDER BY document_id, ordinal",
            (json.dumps(sorted(document_ids)),),
        )
        return [row[0] for row in rows], unpack_vectors([row[1] for row in rows])

    # Care

    def damaged(self, collection: Collection) -> list[Entry]:
        """Its documents whose text, chunks or vectors are not what was written.

        Reads everything: about a second for 100 MB. Raises IndexDamaged.
        """
        rows = self._db.all(f"{_ENTRIES} WHERE collection_id = ? ORDER BY source", (collection.id,))
        signed = dict(self._db.all("SELECT id, digest FROM documents"))
        return [Entry(*row) for row in rows if self._digest(row[0]) != signed[row[0]]]

    def sign(self) -> None:
        """Compute the digests that documents of an older version lack."""
        unsigned = self._db.all("SELECT id FROM documents WHERE digest = ''")
        if unsigned:
            with self._db.transaction() as db:
                for (each,) in unsigned:
                    _sign(db, each, self._digest(each))

    def _digest(self, document_id: str) -> str:
        """SHA-256 over a document's rows, but for its file's date and its state."""
        digest = hashlib.sha256()
        for sql in (
            "SELECT collection_id, source, sha256, media_type, title, headings FROM documents"
            " WHERE id = ?",
            "SELECT number, char_start, text FROM pages WHERE document_id = ? ORDER BY number",
            "SELECT id, ordinal, page_start, page_end, char_start, char_end, heading, vector"
            " FROM chunks WHERE document_id = ? ORDER BY ordinal",
        ):
            for row in self._db.all(sql, (document_id,)):
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


_ENTRIES = (
    "SELECT id, source, sha256, size, mtime_ns, media_type, title, indexed_at,"
    " (SELECT count(*) FROM pages WHERE document_id = documents.id),"
    " (SELECT count(*) FROM chunks WHERE document_id = documents.id) FROM documents"
)
# A chunk lies within one page, so its text is a slice of that page and is not kept twice. A table
# of a hundred thousand rows may be one page: it comes with the first of its chunks alone. CROSS
# JOIN, lest SQLite begin with all documents for the sake of the order.
_CHUNKS = """
    WITH found AS (
        SELECT chunks.id, document_id, ordinal, page_start, page_end, char_start, char_end, heading,
            source, documents.title,
            row_number() OVER (PARTITION BY document_id, page_start ORDER BY ordinal) = 1 AS first
        FROM chunks CROSS JOIN documents ON documents.id = chunks.document_id
        WHERE {}
    )
    SELECT found.id, found.document_id, page_start, page_end, found.char_start, found.char_end,
        heading, source, title, pages.char_start, pages.text
    FROM found LEFT JOIN pages
        ON first AND pages.document_id = found.document_id AND pages.number = page_start
    ORDER BY ordinal
"""


def unpack_vectors(blobs: Sequence[bytes]) -> Vectors:
    """Vectors as kept in the catalogue (float16 bytes) to `(len(blobs), dimension)` float32."""
    flat = np.frombuffer(b"".join(blobs), dtype=np.float16).astype(np.float32)
    return flat.reshape(len(blobs), -1) if blobs else flat.reshape(0, 0)


def _stored(rows: Sequence[Sequence[Any]]) -> list[Stored]:
    """What `_CHUNKS` found, in its order. A chunk whose page is not there is left out."""
    pages = {(row[1], row[2]): row[9:] for row in rows if row[10] is not None}
    found = []
    for chunk_id, document_id, page, page_end, start, end, heading, source, title, *_ in rows:
        if (document_id, page) in pages:
            page_start, text = pages[document_id, page]
            said = text[start - page_start : end - page_start]
            chunk = Chunk(chunk_id, document_id, said, page, page_end, start, end, heading)
            found.append(Stored(chunk, source, title))
    return found


def _page_rows(document: Document) -> Iterator[tuple[str, int, int, str]]:
    start = 0
    for page in document.pages:
        yield document.id, page.number, start, page.text
        start += len(page.text) + len(PAGE_SEPARATOR)


def _sign(db: sqlite3.Connection, document_id: str, digest: str) -> None:
    db.execute("UPDATE documents SET digest = ? WHERE id = ?", (digest, document_id))


def _take_away(db: sqlite3.Connection, collection: Collection, document_ids: Iterable[str]) -> None:
    for document_id in document_ids:
        db.execute(
            "INSERT OR IGNORE INTO leavings SELECT ?, id FROM chunks WHERE document_id = ?",
            (collection.id, document_id),
        )
        db.execute("DELETE FROM documents WHERE id = ?", (document_id,))
