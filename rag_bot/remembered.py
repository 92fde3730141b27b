"""What is kept in memory between questions, by the catalogue's state.

What a scope holds, the vectors that are searched exactly rather than through Chroma, and the names
that documents go by. Forgotten when a document goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rag_bot.catalogue import Catalogue, Collection
from rag_bot.lexical import number
from rag_bot.mentions import Names
from rag_bot.scope import Scope, fitting
from rag_bot.vectors import MemoryVectors

_SCOPES = 16
_KEPT = 50_000
"""So many vectors are kept in memory for scopes that are asked for again: 77 MB at 384 numbers."""


class Within(NamedTuple):
    """The documents of a scope, by id and by `lexical.number`.

    `chunks` is how many chunks they have, `share` how much of the collection's that is.
    """

    documents: frozenset[str]
    numbers: frozenset[int]
    chunks: int
    share: float


class Remembered:
    """Not safe for threads: whoever asks holds the index's view."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._within: dict[tuple[int, int, tuple[Scope, ...]], Within] = {}
        self._parts: dict[tuple[int, frozenset[str]], MemoryVectors] = {}
        self._all: dict[int, tuple[int, MemoryVectors]] = {}
        self._counts: dict[int, tuple[int, int]] = {}
        self._names: dict[int, tuple[int, Names]] = {}

    def forget(self) -> None:
        """What was read may be of a document that goes, or of a collection."""
        self._within.clear()
        self._parts.clear()
        self._all.clear()
        self._counts.clear()
        self._names.clear()

    def within(self, collection: Collection, scopes: tuple[Scope, ...], state: int) -> Within:
        """The collection's documents that fit all scopes, as of a state of the catalogue."""
        key = (state, collection.id, scopes)
        if key not in self._within:
            if len(self._within) >= _SCOPES:
                self._within.clear()
            self._within[key] = self._fitting(collection, scopes)
        return self._within[key]

    def _fitting(self, collection: Collection, scopes: tuple[Scope, ...]) -> Within:
        fits = fitting(scopes)
        places = self._catalogue.places(collection)
        chosen = [each for each in places if fits(each.source, each.mtime_ns)]
        chunks = sum(each.chunks for each in chosen)
        return Within(
            frozenset(each.document_id for each in chosen),
            frozenset(number(each.document_id) for each in chosen),
            chunks,
            chunks / max(1, sum(each.chunks for each in places)),
        )

    def vectors_within(self, collection: Collection, within: Within) -> MemoryVectors:
        """The vectors of a scope for exact search. A document's never change under its id."""
        key = (collection.id, within.documents)
        if key not in self._parts:
            if sum(map(len, self._parts.values())) + within.chunks > _KEPT:
                self._parts.clear()
            self._parts[key] = self._read(within.documents)
        return self._parts[key]

    def all_vectors(self, collection: Collection, state: int) -> MemoryVectors:
        """The collection's vectors for exact search, as of a state of the catalogue."""
        held = self._all.get(collection.id)
        if held is None or held[0] != state:
            ids = [entry.id for entry in self._catalogue.entries(collection)]
            held = self._all[collection.id] = (state, self._read(ids))
        return held[1]

    def _read(self, document_ids: Iterable[str]) -> MemoryVectors:
        made = MemoryVectors()
        made.replace(*self._catalogue.vectors_within(document_ids))
        return made

    def count(self, collection: Collection, state: int) -> int:
        """How many chunks the collection has, as of a state of the catalogue."""
        held = self._counts.get(collection.id)
        if held is None or held[0] != state:
            held = self._counts[collection.id] = (state, self._catalogue.chunk_count(collection))
        return held[1]

    def names(self, collection: Collection, state: int) -> Names:
        """What the collection's documents go by, as of a state of the catalogue."""
        held = self._names.get(collection.id)
        if held is None or held[0] != state:
            names = Names(self._catalogue.names(collection))
            held = self._names[collection.id] = (state, names)
        return held[1]
