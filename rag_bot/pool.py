"""The caches of all collections: opened once, checked against their seals, made anew where broken.

A cache holds nothing that the catalogue does not. One that is damaged, or was being written when a
process was killed, is never trusted: it is compared with the catalogue, or filled from it anew in
a new folder. Where the disk is full or read-only, one in memory answers and takes no changes.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rag_bot.caches import LEXICAL, CacheBroken, Caches
from rag_bot.catalogue import Catalogue, Collection
from rag_bot.errors import Unavailable
from rag_bot.lexical import outdated
from rag_bot.seal import Seal

FOLDER = "caches"


class Pool:
    """`viewing` is held while what answers changes; `forget` is called when caches are let go.

    Safe for threads, if one writes at a time. Disks that can't be written raise Unavailable.
    """

    def __init__(
        self,
        data_dir: Path,
        catalogue: Catalogue,
        seal: Seal,
        viewing: threading.RLock,
        forget: Callable[[], None],
    ) -> None:
        self._folder = data_dir / FOLDER
        self._catalogue = catalogue
        self._seal = seal
        self._viewing = viewing
        self._forgotten = forget
        self._caches: dict[int, Caches] = {}
        self._failures: dict[int, Exception] = {}
        """Why caches of a collection are in memory, for who would write to them."""
        self._filling: set[str] = set()
        """Folders of caches that are being filled, and that no collection has yet."""

    def opened(self, collection: Collection) -> Caches:
        """A collection's caches, opened and checked where they were not, in memory if need be."""
        with self._viewing:
            if collection.id not in self._caches:
                try:
                    self._bring_up(collection)
                except (CacheBroken, OSError, Unavailable) as error:
                    # A disk that is full or read-only. The catalogue has all it takes to answer.
                    self._failures[collection.id] = error
                    self.forget(collection)
                    self.in_memory(collection)
            return self._caches[collection.id]

    def in_memory(self, collection: Collection) -> Caches:
        """Let a copy in memory answer: it takes no changes."""
        made = Caches.in_memory(self._catalogue, collection)
        self._caches[collection.id] = made
        return made

    def _bring_up(self, collection: Collection) -> None:
        """Open the caches on disk, and finish what a killed process left half done."""
        folder = self._catalogue.caches(collection)
        caches = self._checked(collection, self._folder / folder) if folder else None
        if caches is None:
            self.renew(collection)
        else:
            self._caches[collection.id] = caches
        caches = self._caches[collection.id]
        self.publish(collection, caches, self._catalogue.pending(collection))
        expected = self._catalogue.chunk_count(collection)
        if caches.sizes() != (expected, expected):
            self.renew(collection)
        # Chroma writes into its files when it is opened, and not again when it is asked.
        with contextlib.suppress(OSError):
            self._seal.renew(self._part(collection))

    def _checked(self, collection: Collection, folder: Path) -> Caches | None:
        """The caches in a folder if they are as they should be, or else None."""
        part = f"{FOLDER}/{folder.name}"
        checking = folder / "checking"
        # A damaged store may take the process down when it is opened. One that is known to be
        # damaged is never opened, and one that is only unsealed not twice.
        if checking.exists() or not folder.is_dir():
            return None
        sealed = self._seal.intact(part)
        if not sealed and self._seal.covers(part):
            return None
        if outdated(folder / LEXICAL):
            self._lift_seal(collection)
            sealed = False
        if not sealed:
            checking.touch()
            # tantivy's files can't be compared with what they should hold, but soon made.
            shutil.rmtree(folder / LEXICAL, ignore_errors=True)
        caches = None
        try:
            caches = Caches.open(folder)
            if not sealed:
                passing = frozenset(self._catalogue.passing(collection))
                if any(caches.vector_differences(self._catalogue, collection, passing)):
                    close([caches])
                    return None
                caches.fill_lexical(self._catalogue, collection)
                checking.unlink()
        except CacheBroken:
            close([caches] if caches else [])
            return None
        return caches

    def renew(self, collection: Collection) -> None:
        """Fill a new folder from the catalogue, let it answer, and take the old one away."""
        folder, caches = self.filled(collection, self._catalogue)
        try:
            with self._viewing:
                self._catalogue.set_caches(collection, folder)
                self.forget(collection)
                self._caches[collection.id] = caches
        except Unavailable:
            close([caches])
            raise
        finally:
            self.settled([folder])

    def filled(self, collection: Collection, catalogue: Catalogue) -> tuple[str, Caches]:
        """New caches in a new folder, which is spared until it is `settled`. Raises Unavailable."""
        name = f"c{collection.id}-{secrets.token_hex(4)}"
        folder = self._folder / name
        self._filling.add(name)
        caches = None
        try:
            caches = Caches.open(folder)
            caches.fill(catalogue, collection)
        except BaseException as error:
            close([caches] if caches else [])
            self._filling.discard(name)
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, CacheBroken):
                raise self._unwritable(error) from error
            raise
        return name, caches

    def settled(self, folders: Iterable[str]) -> None:
        """These folders are filled: they go with the others if no collection has them."""
        self._filling.difference_update(folders)
        self.sweep_folders()

    def replace(self, ready: dict[int, Caches]) -> dict[int, Caches]:
        """Let other caches answer, by their collections' ids; returns those that did."""
        old, self._caches = self._caches, ready
        self._forgotten()
        return old

    def writable(self, collection: Collection) -> Caches:
        """The same, on disk. Raises Unavailable where they can't be, or the collection is gone."""
        self.check_exists(collection)
        with self._viewing:
            if not self.opened(collection).lasting:
                self.forget(collection)
            caches = self.opened(collection)
        if not caches.lasting:
            raise self._unwritable(self._failures[collection.id])
        return caches

    def check_exists(self, collection: Collection) -> None:
        """Raises Unavailable for a generation that was replaced, or given up for a deletion."""
        if collection not in self._catalogue.generations():
            raise Unavailable(
                f"generation {collection.generation} of collection {collection.name!r} is no more:"
                " it was replaced or given up",
                "run the command again",
            )

    @contextmanager
    def mistrusting(self, collection: Collection) -> Iterator[None]:
        """A cache that failed to write is closed: it is checked before it is used again."""
        try:
            yield
        except CacheBroken as error:
            self.mistrust(collection)
            raise self._unwritable(error) from error

    def mistrust(self, collection: Collection) -> None:
        """Close caches that failed: they are checked before they are used again."""
        with self._viewing:
            self.forget(collection)
            self._lift_seal(collection)

    def forget(self, collection: Collection) -> None:
        """Close a collection's caches, and drop what was kept of its vectors."""
        with self._viewing:
            caches = self._caches.pop(collection.id, None)
            self._forgotten()
            close([caches] if caches else [])

    def publish(self, collection: Collection, caches: Caches, document_ids: Sequence[str]) -> None:
        """Put documents into the caches and show them; take out what is not shown any more."""
        if document_ids:
            self._lift_seal(collection)
            caches.add(self._catalogue, document_ids)
            with self._viewing:
                self._catalogue.go_live(collection, document_ids)
        self.sweep(collection, caches)

    def sweep(self, collection: Collection, caches: Caches) -> None:
        """Take out of the caches what the catalogue does not show any more."""
        leavings = self._catalogue.leavings(collection)
        if leavings:
            self._lift_seal(collection)
            caches.remove(leavings)
            self._catalogue.forget_leavings(collection)

    def _lift_seal(self, collection: Collection) -> None:
        # A seal that stays on a full disk is taken for damage if we are killed: no harm but work.
        with contextlib.suppress(OSError):
            self._seal.lift(self._part(collection))

    def sweep_folders(self) -> None:
        """Delete caches that no collection has: of a run that was killed, or of an old version."""
        with self._viewing:
            rows = self._catalogue.generations()
            kept = {self._catalogue.caches(each) for each in rows} | self._filling
            for folder in self._folder.glob("*"):
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
        for name in ("chroma", "lexical"):  # where schema 1 had them
            shutil.rmtree(self._folder.parent / name, ignore_errors=True)

    def whole(self) -> set[int]:
        """The collections whose caches are open and on disk."""
        with self._viewing:
            return {number for number, each in self._caches.items() if each.lasting}

    def parts(self, whole: set[int]) -> tuple[list[str], list[str]]:
        """Folders as the seal names them: of these collections, and of all others."""
        named = {c.id: self._part(c) for c in self._catalogue.generations()}
        return (
            [part for number, part in named.items() if number in whole],
            [part for number, part in named.items() if number not in whole],
        )

    def close(self) -> set[int]:
        """Close all caches; returns the collections whose are on disk and in order."""
        whole: set[int] = set()
        for number, caches in self._caches.items():
            with contextlib.suppress(CacheBroken):
                caches.close()
                if caches.lasting:
                    whole.add(number)
        self._caches.clear()
        return whole

    def _part(self, collection: Collection) -> str:
        return f"{FOLDER}/{self._catalogue.caches(collection)}"

    def _unwritable(self, error: Exception) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        return Unavailable(
            f"the search index in {self._folder.parent} can't be written: {error}",
            "check that its disk has room and is writable, and try again; what was indexed still"
            " answers",
        )


def close(caches: Iterable[Caches]) -> None:
    """Let go of caches that are not needed any more, whatever state they are in."""
    for each in caches:
        with contextlib.suppress(CacheBroken):
            each.close()
