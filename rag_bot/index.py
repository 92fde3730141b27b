"""The index: the catalogue, its two caches, and the one process that owns them.

Chroma breaks when two processes write to it and shows stale results to a second reader, so
whoever opens an `Index` holds a lock; everybody else is told who does, and goes through them.

On opening, files that are not as they were sealed are not trusted. The catalogue is checked by
what it says, document by document; caches that were damaged are never opened but made anew from
it; those of a killed process are checked against it. What is wrong is taken out and named.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import filelock

from rag_bot import models, pool
from rag_bot.caches import CacheBroken, Caches, context, indexed_text
from rag_bot.catalogue import Catalogue, Collection, Entry, Prepared, Vectors
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.errors import IndexBusy, IndexDamaged, IndexMismatch, Unavailable, UsageError
from rag_bot.ledger import Ledger, Origin, Rejection
from rag_bot.mentions import Names
from rag_bot.pool import Pool
from rag_bot.remembered import Remembered, Within
from rag_bot.scope import Scope
from rag_bot.seal import Seal
from rag_bot.types import ScoredChunk

__all__ = ["Flipped", "Index", "Owner", "busy", "context", "fingerprint", "indexed_text", "owner"]

_T = TypeVar("_T")

CHUNKER = "sentences-2"
"""Changes when `ingest.chunk` would cut the same text differently."""


def fingerprint(settings: Settings) -> str:
    """What an index depends on besides the files: chunker and embedder.

    Reads the embedder's manifest, not its weights. Raises ModelMissing or ModelBroken.
    """
    folder = models.locate(settings.models.embedder, settings.models.dir)
    return f"{CHUNKER}:{settings.ingest.chunk_tokens}/{models.identity(folder)}"


class Owner(NamedTuple):
    """The process that holds the index, and where it can be reached if it serves."""

    pid: int
    url: str
    token: str


def owner(data_dir: Path) -> Owner | None:
    """Who holds the index now, or None."""
    lock = filelock.FileLock(data_dir / "lock")
    if not (data_dir / "lock").exists():  # to ask would make it, and the folder
        return None
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


class Flipped(Exception):
    """The generation asked for no longer answers: ask the collection's name again."""


class Index:
    """Opened by one process at a time; use as a context manager.

    Safe for threads. Raises IndexBusy when another process owns it and did not let go within
    `wait` seconds, Unavailable when the folder can't be used, IndexDamaged when the catalogue
    can't be read.
    """

    def __init__(self, data_dir: Path, *, url: str = "", wait: float = 0) -> None:
        self.data_dir = data_dir
        self.token = secrets.token_urlsafe(24)
        self.damaged: list[str] = []
        """Documents found damaged on opening: out of the index until they are read again."""
        self._viewing = threading.RLock()
        self._writing = threading.RLock()
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = filelock.FileLock(data_dir / "lock", thread_local=False)
            # Whoever asks for the owner holds the lock for a moment.
            self._lock.acquire(timeout=max(wait, _MOMENT))
        except filelock.Timeout:
            raise busy(data_dir) from None
        except OSError as error:
            raise Unavailable(
                f"the data directory {data_dir} can't be used: {error.strerror}",
                "make it writable, or set RAG_BOT_DATA_DIR to another",
            ) from None
        try:
            self._announce(url)
            self._seal = Seal(data_dir)
            self._check_presence()
            trusted = self._seal.intact(CATALOGUE)
            self._database = Database(data_dir / CATALOGUE)
        except BaseException:
            self._lock.release()
            raise
        self.catalogue = Catalogue(self._database)
        self.ledger = Ledger(self._database)
        self._remembered = Remembered(self.catalogue)
        self._pool = Pool(
            data_dir, self.catalogue, self._seal, self._viewing, self._remembered.forget
        )
        try:
            if not trusted:
                self._examine()
            self._pool.sweep_folders()
            for each in self.catalogue.generations():
                with contextlib.suppress(Unavailable):  # a full disk: the next writer tries again
                    self.finish(each)
        except BaseException:
            self._let_go()
            raise

    def announce(self, url: str) -> None:
        """Leave word of who owns the index and where to reach it."""
        note = self.data_dir / "owner.json"
        note.touch(mode=0o600)
        note.write_text(json.dumps(Owner(os.getpid(), url, self.token)._asdict()))

    def _announce(self, url: str) -> None:
        try:
            self.announce(url)
        except OSError:  # a full disk: others can't reach us, and everything else still works
            self._withdraw()

    def _withdraw(self) -> None:
        with contextlib.suppress(OSError):  # a disk turned read-only: it names a dead process
            (self.data_dir / "owner.json").unlink(missing_ok=True)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything, the lock last."""
        with self._writing, self._viewing:
            whole = self._pool.close()
            with contextlib.suppress(Unavailable):
                self._write_seal(whole)
            self._let_go()

    def _let_go(self) -> None:
        self._pool.close()
        self._database.close()
        self._withdraw()
        self._lock.release()

    def seal(self) -> None:
        """Note what the files are now, so that damage to them is seen when they are next opened."""
        with self._writing:
            self._write_seal(self._pool.whole())

    def _write_seal(self, whole: set[int]) -> None:
        """`whole` are the collections whose caches are as they should be."""
        settled = self._database.settle()
        used, others = self._pool.parts(whole)
        with contextlib.suppress(OSError):  # a full disk: everything is checked next time
            self._seal.write([CATALOGUE, *used] if settled else used, keep=others)

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
        """Write documents, put them into the caches, and show them: all of them or none.

        Raises Unavailable when a disk is full: the old state goes on answering.
        """
        with self._writing:
            self._check_dimension(collection, prepared)
            caches = self._pool.writable(collection)
            self.catalogue.write_pending(collection, prepared)
            with self._pool.mistrusting(collection):
                self._pool.publish(collection, caches, [each.document.id for each in prepared])

    def remove(
        self,
        collection: Collection,
        entries: Iterable[Entry],
        *,
        forget: Iterable[Entry] = (),
        keep_out: Iterable[Entry] = (),
    ) -> None:
        """Stop showing documents, and take them out of the caches.

        Of those in `forget`, a part of `entries`, every record goes too, and `compact` is owed.
        Files with rows made from them are the caller's to mend (`ledger.made(marked=True)`).
        Of those in `keep_out` path and hash are remembered, so that they don't come back.
        """
        with self._writing:
            self.finish(collection)
            caches = self._pool.writable(collection)
            # A newer version of a document may have come to light since: it is meant as well.
            now = {entry.source: entry for entry in self.catalogue.entries(collection)}
            entries, forget, keep_out = (
                [now.get(entry.source, entry) for entry in part]
                for part in (entries, forget, keep_out)
            )
            with self.view(), self._database.transaction():
                self.catalogue.take_away(collection, [entry.id for entry in entries])
                _erase(self.catalogue, self.ledger, collection, forget)
                for entry in keep_out:
                    self.ledger.keep_out(collection.name, entry.source, entry.sha256)
                if forget:
                    self.catalogue.owe_purge(collection)
                    for begun in self.catalogue.building(collection.name):
                        self._discard(begun)
                self._remembered.forget()
            with self._pool.mistrusting(collection):
                self._pool.sweep(collection, caches)

    def record_feedback(self, shown: set[str], **feedback: Any) -> bool:
        """`Ledger.record_feedback` on an answer, if all documents shown for it are still there.

        Returns whether they were: what a deletion took away does not come back by this door.
        """
        # Waiting for the database instead would keep all who read it waiting as well.
        with self._writing, self._database.transaction():
            origins = self.catalogue.origins(shown)
            if len(origins) < len(shown):
                return False
            made_from = [Origin(*each) for each in origins.values()]
            self.ledger.record_feedback(origins=made_from, **feedback)
        return True

    def let_in(self, name: str, source: str, sha256: str) -> None:
        """A deleted document may come back: what is remembered of this path and this content."""
        with self._writing, self._database.transaction():
            for each in self.ledger.forgotten(name):
                if source == each.source or sha256 == each.sha256:
                    self.ledger.let_in(name, each.source)

    def finish(self, collection: Collection) -> None:
        """Show what was written and not yet shown, because a write failed or was killed.

        Afterwards what is listed is all there is: nothing else comes to light later. Raises
        Unavailable.
        """
        with self._writing:
            if self.catalogue.pending(collection):
                caches = self._pool.writable(collection)
                with self._pool.mistrusting(collection):
                    self._pool.publish(collection, caches, self.catalogue.pending(collection))

    def drop(self, collection: Collection) -> None:
        """Forget a generation, its documents and its caches.

        Raises Unavailable when there is no room to take the bytes of a live one out of the
        catalogue's file: it is empty then, and can be dropped again.
        """
        with self._writing:
            if self.catalogue.is_live(collection):
                with self.view(), self._database.transaction():
                    entries = self.catalogue.entries(collection)
                    self.catalogue.take_away(collection, [entry.id for entry in entries])
                    self.catalogue.forget_leavings(collection)
                    self.catalogue.owe_purge(collection)
                self._clear()
            with self.view():
                self._discard(collection)
            self._pool.sweep_folders()
            self._database.settle()

    def compact(self, collection: Collection) -> None:
        """Make both caches anew from the catalogue, beside the old ones, and take those away.

        Afterwards nothing that was removed is in any file of the index: the catalogue's is
        written anew as well. The old caches answer meanwhile. Raises Unavailable when there is no
        room, or somebody reads the catalogue all the time: then it stays owed.
        """
        with self._writing:
            caches = self._pool.writable(collection)
            with self._pool.mistrusting(collection):
                self._pool.sweep(collection, caches)
            self._pool.renew(collection)
            self._clear()
            self.catalogue.purged(collection)

    def _clear(self) -> None:
        """Take what was deleted out of the catalogue's file and its log."""
        self._database.rewrite()
        if not self._database.settle():
            raise Unavailable(
                f"the log of {self._database.path} can't be emptied: another process reads it",
                "try again when that has ended",
            )

    def owes(self, collection: Collection) -> bool:
        """Whether `compact` is due: after a deletion at once, after edits when they add up."""
        debt = self.catalogue.debt(collection)
        return debt.due or debt.chunks > max(
            _DEBT_CHUNKS, _DEBT_SHARE * self.catalogue.chunk_count(collection)
        )

    def begin(self, live: Collection, wanted: str) -> Collection:
        """A new generation beside the live one; goes on with one begun for the same settings."""
        assert live.fingerprint != wanted, "both generations would have the same ids"
        with self._writing:
            for begun in self.catalogue.building(live.name):
                if begun.fingerprint == wanted:
                    return begun
                self.drop(begun)
            return self.catalogue.begin_generation(live, wanted)

    def flip(self, building: Collection, adopt: Callable[[], None] = lambda: None) -> None:
        """Let a complete generation answer, and delete the one that did. Verifies it first.

        `adopt` is called in the same moment: whoever asks sees both changes or neither.
        """
        with self._writing:
            self._pool.check_exists(building)
            if self.differences(building):
                self.compact(building)
            old = self.catalogue.collection(building.name)
            with self.view():
                self.catalogue.flip(building)
                adopt()
                if old is not None:
                    self._pool.forget(old)
            self._pool.sweep_folders()
            self._database.settle()

    def _discard(self, collection: Collection) -> None:
        self._pool.forget(collection)
        self.catalogue.drop_collection(collection)

    def _check_dimension(self, collection: Collection, prepared: Sequence[Prepared]) -> None:
        dimension = self.catalogue.dimension(collection)
        for each in prepared:
            if dimension and each.chunks and each.vectors.shape[1] != dimension:
                raise _other_dimension(collection, dimension, each.vectors.shape[1])

    # Reading

    @contextmanager
    def view(self) -> Iterator[None]:
        """While it is held, no document changes: all reads inside see the same state.

        Nothing may be written inside: who writes waits for whoever views, not the other way.
        """
        with self._viewing:
            yield

    def within(self, collection: Collection, scopes: tuple[Scope, ...]) -> Within | None:
        """The collection's documents that fit all scopes; None where there is no scope."""
        if not scopes:
            return None
        with self.view():
            return self._remembered.within(collection, scopes, self._database.changes())

    def names(self, collection: Collection) -> Names:
        """What the collection's documents go by, for `rag_bot.mentions`."""
        with self.view():
            return self._remembered.names(collection, self._database.changes())

    def dense(
        self,
        collection: Collection,
        vector: Vectors,
        limit: int,
        within: Within | None = None,
    ) -> list[ScoredChunk]:
        """The chunks nearest to a vector of shape `(dimension,)`, by cosine, best first.

        Those of the documents `within`, or of all. Raises Flipped, and IndexMismatch for a vector
        of another length.
        """
        dimension = self.catalogue.dimension(collection)
        if dimension and len(vector) != dimension:
            if not self.catalogue.is_live(collection):
                raise Flipped
            raise _other_dimension(collection, dimension, len(vector))

        if within is not None:
            return self._nearest_within(collection, vector, min(limit, within.chunks), within)

        def search(caches: Caches) -> list[tuple[str, float]]:
            state = self._database.changes()
            if self._remembered.count(collection, state) > _FEW:
                found = caches.dense(vector, max(limit, _TIES))
                if not _walled_in(found):
                    return found[:limit]
            return self._remembered.all_vectors(collection, state).search(vector, limit)

        return self._hits(collection, search, "dense")

    def _nearest_within(
        self, collection: Collection, vector: Vectors, limit: int, within: Within
    ) -> list[ScoredChunk]:
        def sifted(caches: Caches) -> list[tuple[str, float]]:
            found = caches.dense(vector, max(wide, _TIES))
            return [] if _walled_in(found) else found

        def exact(_: Caches) -> list[tuple[str, float]]:
            return self._remembered.vectors_within(collection, within).search(vector, limit)

        # Chroma's own `where` takes five times as long as a query without one.
        if within.chunks > _FEW and (wide := math.ceil(limit / within.share * _SPARE)) <= _WIDE:
            hits = self._hits(collection, sifted, "dense", within)
            if len(hits) >= limit:
                return hits[:limit]
        return self._hits(collection, exact, "dense", within)

    def lexical(
        self, collection: Collection, query: str, limit: int, within: Within | None = None
    ) -> list[ScoredChunk]:
        """The chunks with the best BM25 for a query, best first.

        Those of the documents `within`, or of all. Raises Flipped.
        """

        def search(caches: Caches) -> list[tuple[str, float]]:
            if within is None:
                return caches.words(query, limit)
            if not within.chunks:
                return []
            return caches.words(query, limit, within.numbers, within.share)

        return self._hits(collection, search, "lexical", within)

    def holds(self, collection: Collection, word: str) -> bool:
        """Whether any of its texts has this word, in whatever form. Raises Flipped."""
        return bool(self._asked(collection, lambda caches: caches.holds(word)))

    def alike(self, collection: Collection, word: str, slips: int) -> list[str]:
        """Some of its texts with a word whose stem is within 1 or 2 slips of the word's."""
        hits = self._hits(collection, lambda caches: caches.alike(word, slips, _ALIKE), "lexical")
        return [f"{hit.chunk.heading} {hit.chunk.text}" for hit in hits]

    def _hits(
        self,
        collection: Collection,
        search: Callable[[Caches], list[tuple[str, float]]],
        retriever: Literal["dense", "lexical"],
        within: Within | None = None,
    ) -> list[ScoredChunk]:
        """What a cache finds, less what the catalogue does not list, or lists elsewhere."""
        with self.view():
            found = self._asked(collection, search)
            stored = self.catalogue.chunks(collection, [chunk_id for chunk_id, _ in found])
        hits = [ScoredChunk(stored[i].chunk, score, retriever) for i, score in found if i in stored]
        if within is None:
            return hits
        return [hit for hit in hits if hit.chunk.document_id in within.documents]

    def _asked(self, collection: Collection, ask: Callable[[Caches], _T]) -> _T:
        """What the caches say: as they are, else made anew, else from memory. Raises Flipped."""
        with self.view():
            if not self.catalogue.is_live(collection):
                raise Flipped
            for _ in range(_TRIES):
                try:
                    return ask(self._pool.opened(collection))
                except CacheBroken:
                    self._pool.mistrust(collection)
            return ask(self._pool.in_memory(collection))

    # Care

    def differences(self, collection: Collection) -> list[str]:
        """Where the caches are not what the catalogue says, in words; empty if nowhere."""
        with self._writing:
            caches = self._pool.opened(collection)
            if not caches.lasting:
                return ["the caches can't be written: answers come from memory"]
            try:
                return caches.differences(self.catalogue, collection)
            except CacheBroken as error:
                return [f"a cache can't be read: {error}"]

    def backup(self, path: Path) -> None:
        """Write the catalogue to a file, whole and compact, while others read."""
        self._database.copy_to(path)

    def restore(self, catalogue: Path) -> None:
        """Answer from another catalogue, a file made by `backup`.

        Its caches are filled first, in new folders; then the content is taken over in one
        transaction. What was deleted here since the backup stays deleted. The file is used up.
        """
        with self._writing:
            ready: dict[int, Caches] = {}
            folders: list[str] = []
            try:
                with contextlib.closing(Database(catalogue)) as database:
                    incoming = Catalogue(database)
                    incoming.sign()
                    _refuse_damaged(catalogue, incoming)
                    self._keep_deleted(incoming, Ledger(database))
                    for collection in incoming.collections():
                        folder, ready[collection.id] = self._pool.filled(collection, incoming)
                        folders.append(folder)
                        incoming.set_caches(collection, folder)
                with self.view():
                    self._database.replace_with(catalogue)
                    ready, self.damaged = self._pool.replace(ready), []
            finally:
                pool.close(ready.values())
                self._pool.settled(folders)
            owing = [c for c in self.catalogue.collections() if self.catalogue.debt(c).due]
            with contextlib.suppress(Unavailable):  # it answers; what is owed is on record
                if owing:
                    self._clear()
                for each in owing:
                    self.catalogue.purged(each)
                self._database.settle()

    def _keep_deleted(self, incoming: Catalogue, ledger: Ledger) -> None:
        for begun in incoming.building():
            incoming.drop_collection(begun)
        for path in self.ledger.backups():
            ledger.record_backup(path)
        both = incoming.collections() + self.catalogue.collections()
        for name in dict.fromkeys(each.name for each in both):
            for each in self.ledger.forgotten(name):
                ledger.keep_out(name, each.source, each.sha256)
        for collection in incoming.collections():
            # What was about to be shown may have been deleted since; its file is read again.
            pending = incoming.pending(collection)
            incoming.take_away(collection, pending)
            present = self.catalogue.collection(collection.name)
            here = {e.source for e in self.catalogue.entries(present)} if present else set()
            forgotten = self.ledger.forgotten(collection.name)
            paths = {each.source for each in forgotten}
            hashes = {each.sha256 for each in forgotten}
            gone = [
                entry
                for entry in incoming.entries(collection)
                if entry.source in paths or (entry.sha256 in hashes and entry.source not in here)
            ]
            incoming.take_away(collection, [entry.id for entry in gone])
            incoming.forget_leavings(collection)
            if gone or pending:
                incoming.owe_purge(collection)
            _erase(incoming, ledger, collection, gone)

    # Caches

    def _check_presence(self) -> None:
        """Raises IndexDamaged if the catalogue of an index that was in use is not there."""
        file = self.data_dir / CATALOGUE
        used = any((self.data_dir / pool.FOLDER).glob("*"))
        if used and (not file.exists() or not file.stat().st_size):
            raise IndexDamaged(
                f"the catalogue {file} is {'empty' if file.exists() else 'not there'}",
                f"put it back; or delete {self.data_dir / pool.FOLDER}, and `ingest` your folders"
                " again or take over a backup with `ingest restore FILE`",
            )

    def _examine(self) -> None:
        """Check the catalogue itself, document by document; what is damaged is taken out."""
        self._database.sound()
        self.catalogue.sign()
        for collection in self.catalogue.generations():
            bad = self.catalogue.damaged(collection)
            if not bad:
                continue
            self.damaged += [entry.source for entry in bad]
            with self._database.transaction():
                self.catalogue.take_away(collection, [entry.id for entry in bad])
                self.ledger.reject(collection.name, map(_damage, bad))


CATALOGUE = "catalogue.sqlite"
_MOMENT = 0.3
_TRIES = 2
_ALIKE = 50
"""Texts that are looked through for a word that is nearly another."""
_TIES = 20
"""So many equal scores are taken for equal vectors."""
_FEW = 10_000
"""So many vectors are searched exactly, and no slower than by Chroma (1.1 ms against 1.9 ms).

Its HNSW may lose one: where other processes were busy while the graph was made, a tenth of graphs
over 329 vectors had no way to one of them, and no search found it.
"""
_SPARE = 1.2
_WIDE = 1000
"""So many hits Chroma is asked for at most, to be sifted by a scope."""
_DEBT_CHUNKS = 1000
_DEBT_SHARE = 0.2


def _walled_in(found: Sequence[tuple[str, float]]) -> bool:
    """Whether equal vectors may hide the others.

    HNSW links a vector to its nearest. Some hundred equal ones link to each other alone, and a
    search that comes among them sees nothing else: 10,000 hid all of 100 other texts.
    """
    ties = Counter(round(score, 5) for _, score in found)
    return max(ties.values(), default=0) >= _TIES


def busy(data_dir: Path) -> IndexBusy:
    """The error for an index that someone else holds."""
    who = owner(data_dir)
    by = f"process {who.pid}" if who and who.pid else "another process"
    at = f", which serves at {who.url}" if who and who.url else ""
    return IndexBusy(
        f"the index in {data_dir} is in use by {by}{at}", "wait until it has finished, or stop it"
    )


def _check_fingerprint(collection: Collection, wanted: str) -> None:
    if collection.fingerprint != wanted:
        raise IndexMismatch(
            f"collection {collection.name!r} was made with {collection.fingerprint},"
            f" the settings say {wanted}",
            f"`ingest rebuild --collection {collection.name}` makes it anew with them,"
            " or set models.embedder and ingest.chunk_tokens back",
        )


def _other_dimension(collection: Collection, held: int, given: int) -> IndexMismatch:
    return IndexMismatch(
        f"collection {collection.name!r} holds vectors of length {held},"
        f" the embedder gives {given}",
        f"`ingest rebuild --collection {collection.name}` makes it anew with this embedder",
    )


def _erase(
    catalogue: Catalogue, ledger: Ledger, collection: Collection, gone: Iterable[Entry]
) -> None:
    """Every record of documents that were taken away."""
    alive = {entry.sha256 for entry in catalogue.entries(collection)}
    for entry in gone:
        origin = Origin(entry.source, entry.sha256)
        ledger.erase(collection.name, origin, twin_lives=entry.sha256 in alive)


def _refuse_damaged(file: Path, catalogue: Catalogue) -> None:
    bad = [e for c in catalogue.collections() for e in catalogue.damaged(c)]
    if bad:
        raise IndexDamaged(
            f"{file} is damaged: {len(bad)} documents in it are not what was written,"
            f" {bad[0].source} among them",
            "take another backup",
        )


def _damage(entry: Entry) -> Rejection:
    return Rejection(
        entry.source,
        -1,  # no file has this size: it is read again
        0,
        "",
        "failed",
        "index_damaged",
        "what the index held of it was damaged on disk and has been taken out",
        "ingest it again",
    )
