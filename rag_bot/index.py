"""The index: the catalogue, its two caches, and the one process that owns them.

Chroma breaks when two processes write to it and shows stale results to a second reader, so
whoever opens an `Index` holds a lock; everybody else is told who does, and goes through them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import filelock

from rag_bot import models
from rag_bot.catalogue import Catalogue, Collection, Prepared, Vectors, unpack_vectors
from rag_bot.config import Settings
from rag_bot.errors import IndexBusy, IndexMismatch, Unavailable, UsageError
from rag_bot.lexical import Lexical
from rag_bot.types import Chunk, ScoredChunk
from rag_bot.vectors import VectorStore, open_client

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

CHUNKER = "sentences-1"
"""Changes when `ingest.chunk` would cut the same text differently."""


def fingerprint(settings: Settings) -> str:
    """What an index depends on besides the files: chunker and embedder.

    Reads the embedder's manifest, not its weights. Raises ModelMissing or ModelBroken.
    """
    folder = models.locate(settings.models.embedder, settings.models.dir)
    return f"{CHUNKER}:{settings.ingest.chunk_tokens}/{folder.name}:{models.fingerprint(folder)}"


class Owner(NamedTuple):
    """The process that holds the index, and where it can be reached if it serves."""

    pid: int
    url: str
    token: str


def owner(data_dir: Path) -> Owner | None:
    """Who holds the index now, or None."""
    lock = filelock.FileLock(data_dir / "lock")
    try:
        with lock.acquire(blocking=False):
            return None
    except filelock.Timeout:
        pass
    except OSError:
        return None
    try:
        return Owner(**json.loads((data_dir / "owner.json").read_text()))
    except (OSError, ValueError, TypeError):
        return Owner(0, "", "")


class Caches(NamedTuple):
    """A collection's two caches, in step with the catalogue."""

    vectors: VectorStore
    lexical: Lexical

    def replace(self, chunks: Sequence[Chunk], titles: Sequence[str], vectors: Vectors) -> None:
        """Put chunks under their ids."""
        ids = [chunk.id for chunk in chunks]
        self.vectors.replace(ids, vectors)
        self.lexical.replace(
            ids,
            [indexed_text(chunk, title) for chunk, title in zip(chunks, titles, strict=True)],
        )

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Drop ids."""
        self.vectors.remove(chunk_ids)
        self.lexical.remove(chunk_ids)


def indexed_text(chunk: Chunk, title: str) -> str:
    """What is searched for a chunk: its text under its title and headings."""
    return "\n".join(part for part in (context(chunk, title), chunk.text) if part)


def context(chunk: Chunk, title: str) -> str:
    """Where a chunk stands: `"Title > Heading > Heading"`, without saying anything twice."""
    if not title or chunk.heading.startswith(title):
        return chunk.heading
    return f"{title} > {chunk.heading}" if chunk.heading else title


class Index:
    """Opened by one process at a time; use as a context manager.

    Safe for threads. Raises IndexBusy when another process owns it and did not let go within
    `wait` seconds, Unavailable when the folder can't be used.
    """

    def __init__(self, data_dir: Path, *, url: str = "", wait: float = 0) -> None:
        self.data_dir = data_dir
        self.token = secrets.token_urlsafe(24)
        self._caches: dict[int, Caches] = {}
        self._opening = threading.RLock()
        self._viewing = threading.RLock()
        self._client: ClientAPI | None = None
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(data_dir / "lock", timeout=wait, thread_local=False)
            self._lock.acquire()
        except filelock.Timeout:
            raise busy(data_dir) from None
        except OSError as error:
            raise Unavailable(
                f"the data directory {data_dir} can't be used: {error.strerror}",
                "make it writable, or set RAG_BOT_DATA_DIR to another",
            ) from None
        try:
            self.announce(url)
            self.catalogue = Catalogue(data_dir / "catalogue.sqlite")
        except BaseException:
            self._lock.release()
            raise

    def announce(self, url: str) -> None:
        """Leave word of who owns the index and where to reach it."""
        note = self.data_dir / "owner.json"
        note.touch(mode=0o600)
        note.write_text(json.dumps(Owner(os.getpid(), url, self.token)._asdict()))

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything, the lock last."""
        for caches in self._caches.values():
            caches.lexical.close()
        self._caches.clear()
        self.catalogue.close()
        (self.data_dir / "owner.json").unlink(missing_ok=True)
        self._lock.release()

    # Collections

    def collection(self, name: str, wanted: str) -> Collection:
        """A collection by name, if its fingerprint is the wanted one.

        Raises UsageError for an unknown name, IndexMismatch for another fingerprint.
        """
        found = self.catalogue.collection(name)
        if found is None:
            names = ", ".join(each.name for each in self.catalogue.collections()) or "none yet"
            raise UsageError(
                f"there is no collection {name!r}",
                f"collections: {names}; `ingest PATH --collection {name}` makes it",
            )
        _check_fingerprint(found, wanted)
        return found

    def make_collection(self, name: str, wanted: str) -> Collection:
        """The same, made where it does not exist."""
        made = self.catalogue.create_collection(name, wanted)
        _check_fingerprint(made, wanted)
        return made

    # Writing

    def add(self, collection: Collection, prepared: Sequence[Prepared]) -> None:
        """Write documents, put them into the caches, and show them: all of them or none."""
        caches = self._open(collection)
        self.catalogue.write_pending(collection, prepared)
        self._publish(collection, caches, [each.document.id for each in prepared])

    def remove(self, collection: Collection, document_ids: Sequence[str]) -> None:
        """Stop showing documents, and take them out of the caches."""
        caches = self._open(collection)
        with self.view():
            self.catalogue.take_away(collection, document_ids)
        self._sweep(collection, caches)

    def drop(self, collection: Collection) -> None:
        """Forget a collection and its caches; it must hold no documents."""
        caches = self._open(collection)
        caches.vectors.drop()
        caches.lexical.close()
        del self._caches[collection.id]
        shutil.rmtree(self._lexical_folder(collection))
        self.catalogue.drop_collection(collection)

    def _publish(self, collection: Collection, caches: Caches, document_ids: Sequence[str]) -> None:
        stored = [each for i in document_ids for each in self.catalogue.chunks_of(i)]
        vectors = [self.catalogue.vectors_of(i) for i in document_ids]
        if stored:
            caches.replace(
                [each.chunk for each in stored],
                [each.title for each in stored],
                _stack(vectors),
            )
        with self.view():
            self.catalogue.go_live(collection, document_ids)
        self._sweep(collection, caches)

    def _sweep(self, collection: Collection, caches: Caches) -> None:
        leavings = self.catalogue.leavings(collection)
        if leavings:
            caches.remove(leavings)
            self.catalogue.forget_leavings(collection)

    # Reading

    @contextmanager
    def view(self) -> Iterator[None]:
        """While it is held, no document changes: all reads inside see the same state."""
        with self._viewing:
            yield

    def dense(self, collection: Collection, vector: Vectors, limit: int) -> list[ScoredChunk]:
        """The chunks nearest to a vector of shape `(dimension,)`, by cosine, best first."""
        caches = self._open(collection)
        return self._hits(collection, lambda: caches.vectors.search(vector, limit), "dense")

    def lexical(self, collection: Collection, query: str, limit: int) -> list[ScoredChunk]:
        """The chunks with the best BM25 for a query, best first."""
        caches = self._open(collection)
        return self._hits(collection, lambda: caches.lexical.search(query, limit), "lexical")

    def _hits(
        self,
        collection: Collection,
        search: Callable[[], list[tuple[str, float]]],
        retriever: Literal["dense", "lexical"],
    ) -> list[ScoredChunk]:
        """What a cache finds, less what the catalogue does not list."""
        with self.view():
            found = search()
            stored = self.catalogue.chunks(collection, [chunk_id for chunk_id, _ in found])
        return [ScoredChunk(stored[i].chunk, score, retriever) for i, score in found if i in stored]

    # Caches

    def _open(self, collection: Collection) -> Caches:
        with self._opening:
            if collection.id not in self._caches:
                caches = self._load(collection)
                self._publish(collection, caches, self.catalogue.pending(collection))
                expected = self.catalogue.chunk_count(collection)
                if len(caches.vectors) != expected or len(caches.lexical) != expected:
                    caches = self._rebuild(collection, caches)
                self._caches[collection.id] = caches
            return self._caches[collection.id]

    def _load(self, collection: Collection) -> Caches:
        if self._client is None:
            self._client = open_client(self.data_dir / "chroma")
        return Caches(
            VectorStore(self._client, _name(collection)), Lexical(self._lexical_folder(collection))
        )

    def _lexical_folder(self, collection: Collection) -> Path:
        return self.data_dir / "lexical" / _name(collection)

    def _rebuild(self, collection: Collection, caches: Caches) -> Caches:
        """Make both caches anew from the catalogue; no model is needed."""
        caches.vectors.drop()
        caches.lexical.close()
        shutil.rmtree(self._lexical_folder(collection))
        caches = self._load(collection)
        for entry in self.catalogue.entries(collection):
            stored = self.catalogue.chunks_of(entry.id)
            caches.replace(
                [each.chunk for each in stored],
                [each.title for each in stored],
                self.catalogue.vectors_of(entry.id),
            )
        return caches


def busy(data_dir: Path) -> IndexBusy:
    """The error for an index that someone else holds."""
    who = owner(data_dir)
    by = f"process {who.pid}" if who and who.pid else "another process"
    at = f", which serves at {who.url}" if who and who.url else ""
    return IndexBusy(
        f"the index in {data_dir} is in use by {by}{at}", "wait until it has finished, or stop it"
    )


def _name(collection: Collection) -> str:
    return f"c{collection.id}-g{collection.generation}"


def _check_fingerprint(collection: Collection, wanted: str) -> None:
    if collection.fingerprint != wanted:
        raise IndexMismatch(
            f"collection {collection.name!r} was made with {collection.fingerprint},"
            f" the settings say {wanted}",
            "set models.embedder and ingest.chunk_tokens back, or"
            f" `rag-bot delete --all --collection {collection.name}` and ingest again",
        )


def _stack(vectors: Iterable[Vectors]) -> Vectors:
    import numpy as np

    filled = [each for each in vectors if len(each)]
    return np.concatenate(filled) if filled else unpack_vectors([])
