"""A new generation of a collection, for another embedder or other chunks, from the catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ingest.chunk import TITLE_TOKENS, chunk
from ingest.files import Found
from ingest.report import FileResult, Progress, Report, Status
from ingest.sync import changed_since, recorded, untouched
from rag_bot import models
from rag_bot.catalogue import (
    Collection,
    Entry,
    Prepared,
    document_id,
    unpack_vectors,
    unsure,
)
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index, fingerprint, indexed_text
from rag_bot.tokenize import WordPieces
from rag_bot.types import Document

if TYPE_CHECKING:
    from rag_bot.embed import Embedder


def rebuild(
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    name: str,
    *,
    adopt: Callable[[], None] = lambda: None,
) -> Iterator[Progress | Report]:
    """Make a collection anew with the settings' embedder and chunk size, and let that answer.

    The texts come from the catalogue: no file is read, the folder may be away. The old generation
    answers until the new one is complete and verified; `adopt` is called in the moment of the
    change. Killed, it goes on where it was; what comes or goes between two batches is minded.
    Where the collection was made with these settings already, only its caches are made anew.

    Yields a Progress for each document, and the Report last. A title too long for the old
    embedder stays cut as it was. Raises UsageError for an unknown collection, ModelMissing or
    ModelBroken, Unavailable when there is no room: the old generation goes on answering.
    """
    live = _live(index, name)
    with recorded(index, name, "rebuild") as record:
        clock = time.perf_counter()
        if live.fingerprint == fingerprint(settings):
            _renew(index, live)
            status: Status = "unchanged"
            embedded = 0
        else:
            status = "indexed"
            embedded = yield from _build(index, embedder, settings, name, adopt)
        index.seal()
        entries = index.catalogue.entries(_live(index, name))
        results = tuple(_result(entry, status) for entry in entries)
        report = Report(results, time.perf_counter() - clock, embedded)
        record.append(report)
        yield report


def _live(index: Index, name: str) -> Collection:
    found = index.catalogue.collection(name)
    if found is None:
        raise UsageError(f"there is no collection {name!r}", "`ingest status` lists them")
    return found


def _renew(index: Index, live: Collection) -> None:
    for begun in index.catalogue.building(live.name):
        index.drop(begun)
    index.compact(live)


def _build(
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    name: str,
    adopt: Callable[[], None],
) -> Generator[Progress, None, int]:
    """Fill a new generation until nothing is missing in it, and flip. Counts what it embeds."""
    cut = _Cut(settings, name)
    embedded = pages = chunks = 0
    while True:
        live = _live(index, name)
        building = index.begin(live, cut.fingerprint)
        entries = index.catalogue.entries(live)
        missing = _missing(index, building, entries, cut)
        if not missing:
            index.flip(building, adopt)
            return embedded
        done = len(entries) - len(missing)
        for batch in _batches(index, missing, cut, settings.ingest.batch_chunks):
            texts = [indexed_text(c, each.document.title) for each in batch for c in each.chunks]
            vectors = np.split(embedder().encode(texts), np.cumsum([len(e.chunks) for e in batch]))
            if building not in index.catalogue.building():
                break  # a deletion dropped it with all that was in it
            index.add(building, [replace(e, vectors=vectors[i]) for i, e in enumerate(batch)])
            embedded += len(texts)
            for each in batch:
                size = len(each.document.pages), len(each.chunks)
                result = FileResult(each.document.source, "indexed", "", *size)
                done, pages, chunks = done + 1, pages + result.pages, chunks + result.chunks
                yield Progress(done, len(entries), pages, chunks, result)


class _Cut:
    """How documents are cut and named with these settings."""

    def __init__(self, settings: Settings, collection: str) -> None:
        folder = models.locate(settings.models.embedder, settings.models.dir)
        self.fingerprint = fingerprint(settings)
        self._collection = collection
        self._pieces = WordPieces(folder)
        self._limit = settings.ingest.chunk_tokens

    def document_id(self, entry: Entry) -> str:
        return document_id(self._collection, entry.source, entry.sha256, self.fingerprint)

    def prepare(self, document: Document, entry: Entry) -> Prepared:
        """A document of the catalogue, cut anew; its vectors are still to be made."""
        document = replace(
            document,
            id=self.document_id(entry),
            title=self._pieces.cut(document.title, TITLE_TOKENS),
        )
        # The new entry's time would hide that a file may have changed since it was read: such a
        # one is given no date, and looked at again.
        then = Found(Path(entry.source), entry.source, entry.size, entry.mtime_ns)
        sure = untouched(then, entry) and not changed_since(then.path, entry.indexed_at)
        return Prepared(
            document=document,
            chunks=chunk(document, self._pieces, self._limit),
            vectors=unpack_vectors([]),
            size=entry.size,
            mtime_ns=entry.mtime_ns if sure else unsure(entry.mtime_ns),
            media_type=entry.media_type,
        )


def _missing(
    index: Index, building: Collection, entries: Iterable[Entry], cut: _Cut
) -> list[Entry]:
    """What the new generation lacks of the live one. What it has too many is taken out."""
    wanted = {cut.document_id(entry): entry for entry in entries}
    held = index.catalogue.entries(building)
    stale = [entry for entry in held if entry.id not in wanted]
    if stale:
        index.remove(building, stale)
    there = {entry.id for entry in held}
    return [entry for each, entry in wanted.items() if each not in there]


def _batches(
    index: Index, entries: Iterable[Entry], cut: _Cut, limit: int
) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for entry in entries:
        document = index.catalogue.document(entry.id)
        if document is not None:  # else it went since
            batch.append(cut.prepare(document, entry))
        if sum(len(each.chunks) for each in batch) >= limit:
            yield batch
            batch = []
    if batch:
        yield batch


def _result(entry: Entry, status: Status) -> FileResult:
    return FileResult(entry.source, status, "", entry.pages, entry.chunks)
