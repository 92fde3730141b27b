"""Making a collection equal its folders: the way of a document, from a path to the index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.files import Blocked, Found, Listed, Skipped, name, resolve, scan
from ingest.report import FileResult, Progress, Report, Status
from ingest.worker import Draft, Job, Recipe, Same, drafts
from rag_bot import models
from rag_bot.catalogue import Collection, Entry, Prepared
from rag_bot.config import Settings
from rag_bot.errors import DocumentError, NotADocument, UsageError
from rag_bot.index import Index, fingerprint, indexed_text

if TYPE_CHECKING:
    from rag_bot.embed import Embedder

_RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may change again without getting a new date."""

_PATIENCE = 2.0
"""Seconds a finished document waits for others to be embedded with it."""


def ingest(
    paths: Sequence[Path],
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    collection_name: str,
    *,
    allow_removal: bool = False,
) -> Iterator[Progress | Report]:
    """Index what is new or changed below the paths, and drop what is gone from them.

    Yields a Progress as each file ends, and the Report last. One bad file never stops the rest.
    The embedder is loaded only when there is something to embed. Removal reaches no further than
    the folders given, and stops short of taking more than a third of what they held.

    Raises UsageError for a path that is not there or holds nothing, IndexMismatch when the
    collection was made with other settings.
    """
    started_at, clock = time.time(), time.perf_counter()
    roots = [resolve(path) for path in paths]
    own = settings.data_dir.resolve()
    listed = {each.source: each for root in roots for each in scan(root, own)}
    existing = index.catalogue.collection(collection_name)
    known = {e.source: e for e in index.catalogue.entries(existing)} if existing else {}
    below = [entry for entry in known.values() if _below(entry.source, map(name, roots))]
    if not listed and not below:
        raise UsageError(
            f"nothing to index in {', '.join(map(str, paths))}: no files there",
            "put documents into it, or name another folder",
        )
    collection = index.make_collection(collection_name, fingerprint(settings))

    results: list[FileResult] = []
    pages = chunks = 0
    for result in _index(listed.values(), known, index, collection, embedder, settings):
        results.append(result)
        if result.status == "indexed":
            pages += result.pages
            chunks += result.chunks
        yield Progress(len(results), len(listed), pages, chunks, result)

    blocked = [each.source for each in listed.values() if isinstance(each, Blocked)]
    gone = [
        entry
        for entry in below
        if not isinstance(listed.get(entry.source), Found) and not _below(entry.source, blocked)
    ]
    lost = _lost(gone, index.catalogue.entries(collection), listed) if gone else []
    warnings: list[str] = []
    if lost and 3 * len(lost) > len(below) and not allow_removal:
        warnings.append(
            f"{len(lost)} of {len(below)} documents are gone from disk, and none was removed;"
            " if that is right, add --allow-removal"
        )
    elif gone:
        index.remove(collection, [entry.id for entry in gone])
        results += [_result(entry, "removed") for entry in gone]

    report = Report(tuple(results), time.perf_counter() - clock, chunks, tuple(warnings))
    index.catalogue.record_run(started_at, report.as_json())
    yield report


def _index(
    listed: Iterable[Listed],
    known: Mapping[str, Entry],
    index: Index,
    collection: Collection,
    embedder: Callable[[], Embedder],
    settings: Settings,
) -> Iterator[FileResult]:
    """Each listed file's result, once it is in the index or known not to be."""
    jobs: list[Job] = []
    for each in listed:
        entry = known.get(each.source)
        if isinstance(each, Skipped):
            yield FileResult(each.source, "skipped", each.reason)
        elif isinstance(each, Blocked):
            yield FileResult(each.source, "failed", each.reason)
        elif entry and _untouched(each, entry):
            yield _result(entry, "unchanged")
        else:
            jobs.append(Job(each.path, each.source, entry.sha256 if entry else ""))
    if not jobs:
        return

    recipe = Recipe(
        collection=collection.name,
        fingerprint=collection.fingerprint,
        embedder=models.locate(settings.models.embedder, settings.models.dir),
        chunk_tokens=settings.ingest.chunk_tokens,
        max_file_bytes=settings.ingest.max_file_mb * 1_000_000,
    )
    batch: list[Draft] = []
    for job, outcome in drafts(jobs, recipe):
        entry = known.get(job.source)
        if isinstance(outcome, Draft):
            if not batch:
                begun = time.monotonic()
            batch.append(outcome)
        elif isinstance(outcome, Same):
            assert entry is not None
            index.catalogue.touch(entry.id, outcome.size, outcome.mtime_ns)
            yield _result(entry, "unchanged")
        else:
            if isinstance(outcome, NotADocument) and entry:
                index.remove(collection, [entry.id])
            yield _rejected(job.source, outcome)
        full = sum(len(each.chunks) for each in batch) >= settings.ingest.batch_chunks
        if batch and (full or time.monotonic() - begun > _PATIENCE):
            yield from _write(batch, index, collection, embedder())
            batch = []
    if batch:
        yield from _write(batch, index, collection, embedder())


def _write(
    batch: Sequence[Draft], index: Index, collection: Collection, embedder: Embedder
) -> Iterator[FileResult]:
    texts = [indexed_text(c, each.document.title) for each in batch for c in each.chunks]
    vectors = embedder.encode(texts)
    prepared: list[Prepared] = []
    start = 0
    for each in batch:
        end = start + len(each.chunks)
        prepared.append(
            Prepared(
                document=each.document,
                chunks=each.chunks,
                vectors=vectors[start:end],
                size=each.size,
                mtime_ns=each.mtime_ns,
                media_type=each.media_type,
            )
        )
        start = end
    index.add(collection, prepared)
    for each in batch:
        yield FileResult(
            each.document.source,
            "indexed",
            "; ".join(each.notes),
            len(each.document.pages),
            len(each.chunks),
        )


def _untouched(found: Found, entry: Entry) -> bool:
    dated = (found.size, found.mtime_ns) == (entry.size, entry.mtime_ns)
    return dated and found.mtime_ns < entry.indexed_at * 1e9 - _RACY_NS


def _lost(
    gone: Iterable[Entry], present: Iterable[Entry], listed: Mapping[str, Listed]
) -> list[Entry]:
    """Of the entries that are gone, those not renamed or moved: their content is nowhere else."""
    kept = {entry.sha256 for entry in present if entry.source in listed}
    return [entry for entry in gone if entry.sha256 not in kept]


def _below(source: str, places: Iterable[str]) -> bool:
    return any(source == place or source.startswith(place.rstrip("/") + "/") for place in places)


def _result(entry: Entry, status: Status) -> FileResult:
    return FileResult(entry.source, status, "", entry.pages, entry.chunks)


def _rejected(source: str, error: DocumentError) -> FileResult:
    status: Status = "skipped" if isinstance(error, NotADocument) else "failed"
    return FileResult(source, status, f"{error.code}: {error}")
