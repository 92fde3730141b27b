"""A collection's two caches of the catalogue: vectors in Chroma, words in tantivy.

They lie in one folder of their own. What was taken out of them stays in their files, so a deletion
is only complete when a new folder has been filled from the catalogue and the old one is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rag_bot.catalogue import Catalogue, Collection, Stored, Vectors
from rag_bot.lexical import Lexical, analyze
from rag_bot.types import Chunk
from rag_bot.vectors import MemoryVectors, VectorStore

VECTORS, LEXICAL = "chroma", "lexical"
_BATCH = 4000
_SAMPLE = 50
_SAME = 0.9999
"""Chroma keeps vectors at unit length in float32; the catalogue's are float16."""


class CacheBroken(Exception):
    """A cache could not be opened, read or written: its disk is full, or its files are damaged.

    What was asked of it may or may not have been done.
    """


class Caches:
    """Both caches, in step. Every failure of their libraries is a CacheBroken."""

    def __init__(self, vectors: VectorStore | MemoryVectors, lexical: Lexical) -> None:
        self.vectors = vectors
        self.lexical = lexical

    @classmethod
    def open(cls, folder: Path) -> Caches:
        """The caches in a folder, made where they are missing."""
        with _guarded():
            vectors = VectorStore(folder / VECTORS)
            try:
                return cls(vectors, Lexical(folder / LEXICAL))
            except BaseException:
                vectors.close()
                raise

    @classmethod
    def in_memory(cls, catalogue: Catalogue, collection: Collection) -> Caches:
        """What answers while the disk can't be written: a copy that takes no changes."""
        made = cls(MemoryVectors(), Lexical(None))
        made.fill(catalogue, collection)
        return made

    @property
    def lasting(self) -> bool:
        """Whether these are on disk."""
        return isinstance(self.vectors, VectorStore)

    def sizes(self) -> tuple[int, int]:
        """How many chunks each of the two holds."""
        with _guarded():
            return len(self.vectors), len(self.lexical)

    def fill(self, catalogue: Catalogue, collection: Collection) -> None:
        """Put in all that the catalogue lists as live; no model is needed."""
        self.add(catalogue, [entry.id for entry in catalogue.entries(collection)])

    def fill_lexical(self, catalogue: Catalogue, collection: Collection) -> None:
        """The same for the lexical index alone."""
        for stored, _ in _batches(catalogue, [e.id for e in catalogue.entries(collection)]):
            with _guarded():
                self._replace_words(stored)

    def add(self, catalogue: Catalogue, document_ids: Sequence[str]) -> None:
        """Put in these documents, live or not."""
        for stored, vectors in _batches(catalogue, document_ids):
            self.replace(stored, vectors)

    def replace(self, stored: Sequence[Stored], vectors: Vectors) -> None:
        """Put chunks under their ids."""
        ids = [each.chunk.id for each in stored]
        with _guarded():
            self.vectors.replace(ids, vectors)
            self._replace_words(stored)

    def _replace_words(self, stored: Sequence[Stored]) -> None:
        self.lexical.replace(
            [each.chunk.id for each in stored],
            [each.chunk.document_id for each in stored],
            [indexed_text(each.chunk, each.title) for each in stored],
        )

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Drop ids; unknown ones are no error."""
        assert isinstance(self.vectors, VectorStore), "caches in memory take no changes"
        with _guarded():
            self.vectors.remove(chunk_ids)
            self.lexical.remove(chunk_ids)

    def dense(self, vector: Vectors, limit: int) -> list[tuple[str, float]]:
        """Chunk ids and cosines."""
        with _guarded():
            return self.vectors.search(vector, limit)

    def words(
        self, query: str, limit: int, among: frozenset[int] | None = None, share: float = 1.0
    ) -> list[tuple[str, float]]:
        """Chunk ids and BM25 scores; see `Lexical.search`."""
        with _guarded():
            return self.lexical.search(query, limit, among, share)

    def holds(self, word: str) -> bool:
        """Whether any text has this word, in whatever form."""
        with _guarded():
            return self.lexical.holds(word)

    def alike(self, word: str, slips: int, limit: int) -> list[tuple[str, float]]:
        """Chunks with a word that is written nearly so; see `Lexical.alike`."""
        with _guarded():
            return self.lexical.alike(word, slips, limit)

    def close(self) -> None:
        """Write everything out and let go of the files."""
        with _guarded():
            try:
                self.lexical.close()
            finally:
                self.vectors.close()

    def differences(self, catalogue: Catalogue, collection: Collection) -> list[str]:
        """Where they are not what the catalogue lists as live, in words; empty if nowhere."""
        found = list(self.vector_differences(catalogue, collection))
        with _guarded():
            held = self.lexical.ids()
        wanted: set[str] = set()
        unfound = 0
        for stored, _ in _batches(catalogue, [e.id for e in catalogue.entries(collection)]):
            wanted |= {each.chunk.id for each in stored}
            for each in stored[:: max(1, len(stored) // _SAMPLE)]:
                text = indexed_text(each.chunk, each.title)
                hits = self.words(text, 50)
                # Texts that are all the same score the same: any of them will do.
                best = hits[0][1] if hits else 0.0
                own = dict(hits).get(each.chunk.id, best if len(hits) == 50 else -1.0)
                unfound += each.chunk.id in held and own < 0 and bool(analyze(text))
        found += _set_differences("the lexical index", wanted, held)
        if unfound:
            found.append(
                f"the lexical index: {unfound} of its sampled texts do not find themselves"
            )
        return found

    def vector_differences(
        self,
        catalogue: Catalogue,
        collection: Collection,
        in_passing: frozenset[str] = frozenset(),
    ) -> Iterator[str]:
        """The same for the vectors alone; ids `in_passing` may be there or not."""
        assert isinstance(self.vectors, VectorStore), "caches in memory are made from the catalogue"
        missing = wrong = unfound = total = extra = 0
        for stored, vectors in _batches(catalogue, [e.id for e in catalogue.entries(collection)]):
            ids = [each.chunk.id for each in stored]
            total += len(ids)
            with _guarded():
                held = self.vectors.vectors(ids)
            for row, (chunk_id, vector) in enumerate(zip(ids, vectors, strict=True)):
                if chunk_id not in held:
                    missing += 1
                elif not _alike(held[chunk_id], vector):
                    wrong += 1
                elif row % max(1, len(ids) // _SAMPLE) == 0:
                    hits = self.dense(vector, 10)
                    unfound += not any(score > _SAME for _, score in hits)
        if in_passing:
            with _guarded():
                extra = len(self.vectors.vectors(sorted(in_passing)))
        with _guarded():
            extra = len(self.vectors) - extra - (total - missing)
        for count, what in (
            (missing, "are missing"),
            (wrong, "are not what was written"),
            (unfound, "do not find themselves"),
            (extra, "too many"),
        ):
            if count:
                yield f"the vector index: {count} of {total} vectors {what}"


def indexed_text(chunk: Chunk, title: str) -> str:
    """What is searched for a chunk: its text under its title and headings."""
    return "\n".join(part for part in (context(chunk, title), chunk.text) if part)


def context(chunk: Chunk, title: str) -> str:
    """Where a chunk stands: `"Title > Heading > Heading"`, without saying anything twice."""
    if not title or chunk.heading.startswith(title):
        return chunk.heading
    return f"{title} > {chunk.heading}" if chunk.heading else title


def _batches(
    catalogue: Catalogue, document_ids: Sequence[str]
) -> Iterator[tuple[list[Stored], Vectors]]:
    """Documents' chunks with their vectors, some thousand at a time."""
    stored: list[Stored] = []
    vectors: list[Vectors] = []
    for document_id in document_ids:
        chunks = catalogue.chunks_of(document_id)
        if chunks:
            stored += chunks
            vectors.append(catalogue.vectors_of(document_id))
        if len(stored) >= _BATCH:
            yield stored, np.concatenate(vectors)
            stored, vectors = [], []
    if stored:
        yield stored, np.concatenate(vectors)


def _alike(one: Vectors, other: Vectors) -> bool:
    if one.shape != other.shape:
        return False
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return norm > 0 and float(one @ other) / norm > _SAME


def _set_differences(what: str, wanted: set[str], held: set[str]) -> Iterator[str]:
    if wanted - held:
        yield f"{what}: {len(wanted - held)} of {len(wanted)} texts are missing"
    if held - wanted:
        yield f"{what}: {len(held - wanted)} of {len(wanted)} texts too many"


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    # Chroma and tantivy raise what their Rust code meets, panics (BaseException) among them; on a
    # full disk we saw five kinds. Whatever it is, the cache is not to be trusted any more.
    except BaseException as error:
        raise CacheBroken(f"{type(error).__name__}: {error}") from error
