"""Making a collection equal its folders: the way of a document, from a path to the index."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import rag_bot
from ingest import worker
from ingest.files import Blocked, Found, Listed, Patterns, Skipped, name, resolve, scan
from ingest.lineage import drop_copies, take_out_rows
from ingest.report import FileResult, Progress, Report, Status
from ingest.worker import Draft, Job, Recipe, Same, drafts
from rag_bot import models
from rag_bot.catalogue import Collection, Entry, Prepared, Vectors, unpack_vectors, unsure
from rag_bot.config import Settings
from rag_bot.digest import sha256_of
from rag_bot.errors import DocumentError, NotADocument, RagBotError, Unavailable, UsageError
from rag_bot.index import Index, fingerprint, indexed_text
from rag_bot.ledger import Outcome, Rejection, Root
from rag_bot.types import Document

if TYPE_CHECKING:
    from rag_bot.embed import Embedder

_RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may change again without getting a new date."""

_PATIENCE = 2.0
"""Seconds a finished document waits for others to be embedded with it."""

_FIRST_CHUNKS = 64
"""The first batch is small, and each next one twice as large: the embedder need not wait for it."""

_PASSING = frozenset({"changed", "crashed", "timeout", "unreadable"})
"""Codes of rejections that the same bytes may not meet again."""

_RECORDED_FILES = 200


class Options(NamedTuple):
    """How far a run may go. `include` and `exclude` come on top of the settings' patterns."""

    allow_removal: bool = False
    delete: bool = True
    dry_run: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


PLAIN = Options()


def ingest(
    paths: Sequence[Path],
    index: Index,
    embedder: Callable[[], Embedder],
    settings: Settings,
    collection_name: str,
    options: Options = PLAIN,
    *,
    kind: str = "ingest",
) -> Iterator[Progress | Report]:
    """Index what is new or changed below the paths, and drop what is gone from them.

    Yields a Progress as each file ends, and the Report last. One bad file never stops the rest.
    The embedder is loaded only when there is something to embed. Removal reaches no further than
    the folders given, and takes no more than a third of what came from one of them unless
    allowed. A dry run reads and hashes, and writes nothing; what a parser would refuse it can't
    know. `kind` is what the run is recorded as.

    Raises UsageError for a path that is not there or holds nothing, IndexMismatch when the
    collection was made with other settings, Unavailable when the index can't be written: what
    was indexed before still answers.
    """
    run = _Run(paths, index, embedder, settings, collection_name, options)
    if options.dry_run:
        yield from run.rehearse()
        return
    with recorded(index, collection_name, kind) as record:
        for event in run.carry_out():
            if isinstance(event, Report):
                record.append(event)
            else:
                yield event
    yield record[-1]


def prepare(index: Index, collection_name: str, settings: Settings) -> threading.Thread | None:
    """Get ready for the next run in this process: see `ingest.worker.prepare`."""
    collection = index.catalogue.collection(collection_name)
    with contextlib.suppress(RagBotError):  # told by the run that needs it
        return worker.prepare(_recipe(collection, settings)) if collection else None
    return None


def _recipe(collection: Collection, settings: Settings) -> Recipe:
    return Recipe(
        collection=collection.name,
        fingerprint=collection.fingerprint,
        embedder=models.locate(settings.models.embedder, settings.models.dir),
        chunk_tokens=settings.ingest.chunk_tokens,
        max_file_bytes=settings.ingest.max_file_mb * 1_000_000,
    )


class _Run:
    """One pass over the roots, from the listing to the report."""

    def __init__(
        self,
        paths: Sequence[Path],
        index: Index,
        embedder: Callable[[], Embedder],
        settings: Settings,
        collection_name: str,
        options: Options,
    ) -> None:
        self.index, self.embedder, self.settings = index, embedder, settings
        self.name, self.options = collection_name, options
        self.clock = time.perf_counter()
        self.begun = time.time()
        self.patterns = Patterns(
            settings.ingest.include + options.include, settings.ingest.exclude + options.exclude
        )
        existing = index.catalogue.collection(collection_name)
        if existing and not options.dry_run:
            index.finish(existing)
        self.known = {e.source: e for e in index.catalogue.entries(existing)} if existing else {}
        self.twins: dict[str, list[Entry]] = {}
        for entry in self.known.values():
            self.twins.setdefault(entry.sha256, []).append(entry)
        self.hashes = {source: entry.sha256 for source, entry in self.known.items()}
        """Of each document, as far as this run has come."""
        self.rejections = index.ledger.rejections(collection_name)
        forgotten = index.ledger.forgotten(collection_name)
        self.forgotten_paths = {each.source for each in forgotten}
        self.forgotten_hashes = {each.sha256 for each in forgotten}
        self.judged_by = f"{rag_bot.__version__}/{settings.ingest.max_file_mb}"

        # Sorted, a folder comes before those within it.
        self.roots = sorted({_root(path, self.known) for path in paths})
        self.own = settings.data_dir.resolve()
        self.listed: dict[str, Listed] = {}
        for root in self.roots:
            for each in scan(root, self.own, self.patterns) if os.path.lexists(root) else ():
                # What one root leaves out, as it does a hidden file, another may be.
                if isinstance(each, Found) or each.source not in self.listed:
                    self.listed[each.source] = each
        self.blocked = [each.source for each in self.listed.values() if isinstance(each, Blocked)]
        self.below = {
            root: from_root(self.known.values(), name(root), self.own) for root in self.roots
        }
        self.within = {entry.source for below in self.below.values() for entry in below}
        self.unfit: set[str] = set()
        """Files that are there and are not to be documents, though they may have been."""
        if not self.listed and not self.within:
            raise UsageError(
                f"nothing to index in {', '.join(map(str, paths))}: no files there",
                "put documents into it, or name another folder",
            )
        self.results: list[FileResult] = []
        self.warnings: list[str] = []
        self.pages = self.chunks = self.embedded = 0

    def carry_out(self) -> Iterator[Progress | Report]:
        """Index, then remove, then clear away."""
        collection = self.index.make_collection(self.name, fingerprint(self.settings))
        for result in self._index(collection):
            yield self._progress(result)
        self._remove(collection)
        self._remember()
        if self.index.owes(collection):
            # First: killed after it, the collection still owes, and the next run goes on.
            drop_copies(self.index)
            self.index.compact(collection)
        take_out_rows(self.index.ledger)
        self.index.seal()
        yield self._report()

    def rehearse(self) -> Iterator[Progress | Report]:
        """The same, with nothing written: what is new is taken to be readable."""
        found = self.index.catalogue.collection(self.name)
        if found:
            self.index.collection(self.name, fingerprint(self.settings))
        jobs: list[Found] = []
        for each in self.listed.values():
            result = self._settled(each)
            if result is None:
                assert isinstance(each, Found)
                jobs.append(each)
            else:
                yield self._progress(result)
        for job in jobs:
            result, self.hashes[job.source] = self._foreseen(job)
            yield self._progress(result)
        for _, gone, _ in self._going():
            self._note_removed(gone)
        yield self._report()

    # What is on disk

    def _settled(self, each: Listed) -> FileResult | None:
        """The result of what need not be read."""
        if isinstance(each, Skipped | Blocked):
            status: Status = "skipped" if isinstance(each, Skipped) else "failed"
            return FileResult(each.source, status, each.reason, code=each.code, remedy=each.remedy)
        if each.source in self.forgotten_paths:
            self.unfit.add(each.source)
            return _kept_out(each.source)
        entry = self.known.get(each.source)
        if entry and untouched(each, entry) and not changed_since(each.path, entry.indexed_at):
            return _result(entry, "unchanged")
        judged = self.rejections.get(each.source)
        if judged and (judged.size, judged.mtime_ns, judged.judged_by) == (
            each.size,
            each.mtime_ns,
            self.judged_by,
        ):
            status = "skipped" if judged.status == "skipped" else "failed"
            if status == "skipped":
                self.unfit.add(each.source)
            return FileResult(
                each.source, status, judged.reason, code=judged.code, remedy=judged.remedy
            )
        return None

    def _foreseen(self, found: Found) -> tuple[FileResult, str]:
        """A file's end, as far as it can be told without a parser, and what the index then has."""
        entry = self.known.get(found.source)
        had = entry.sha256 if entry else ""
        if found.size > self.settings.ingest.max_file_mb * 1_000_000:
            return FileResult(found.source, "failed", "too large", code="too_large"), had
        try:
            sha256 = sha256_of(found.path)
        except OSError as error:
            reason = f"can't be read: {error.strerror}"
            return FileResult(found.source, "failed", reason, code="unreadable"), had
        if entry and entry.sha256 == sha256:
            return _result(entry, "unchanged"), sha256
        if self._unwanted(sha256):
            self.unfit.add(found.source)
            return _kept_out(found.source), sha256
        moved = self._moved_from(found.source, sha256)
        if moved:
            return FileResult(found.source, "moved", moved_from=moved), sha256
        return FileResult(found.source, "indexed", "changed" if entry else "new"), sha256

    def _unwanted(self, sha256: str) -> bool:
        """Whether this is a deleted document under another name, and no twin of it was left."""
        return sha256 in self.forgotten_hashes and sha256 not in self.twins

    def _moved_from(self, source: str, sha256: str) -> str:
        """Where the same content was below these roots, if it is there no more."""
        if source in self.known:
            return ""
        twins = [e.source for e in self.twins.get(sha256, ()) if e.source in self.within]
        return next((twin for twin in twins if self._is_missing(twin)), "")

    # Indexing

    def _index(self, collection: Collection) -> Iterator[FileResult]:
        """Each listed file's result, once it is in the index or known not to be."""
        jobs: list[Job] = []
        for each in self.listed.values():
            result = self._settled(each)
            if result is not None:
                yield result
            elif isinstance(each, Found):
                entry = self.known.get(each.source)
                jobs.append(Job(each.path, each.source, entry.sha256 if entry else ""))
        if not jobs:
            return

        recipe = _recipe(collection, self.settings)
        if not all(job.known_sha256 for job in jobs):
            # Both the embedder and the parser take seconds to load: at once.
            threading.Thread(target=self._warm_up, name="load-embedder", daemon=True).start()
        batch: list[Draft] = []
        chunks = 0
        begun = 0.0
        enough = min(_FIRST_CHUNKS, self.settings.ingest.batch_chunks)
        for job, outcome in drafts(jobs, recipe):
            if isinstance(outcome, Draft) and self._unwanted(outcome.document.sha256):
                outcome = NotADocument("deleted", _kept_out(job.source).reason, _UNDELETE)
            if isinstance(outcome, Draft):
                begun = begun if batch else time.monotonic()
                batch.append(outcome)
                chunks += len(outcome.chunks)
            elif isinstance(outcome, Same):
                entry = self.known[job.source]
                self.index.catalogue.touch(
                    entry.id, outcome.size, self._date(job.source, outcome.mtime_ns)
                )
                yield _result(entry, "unchanged")
            else:
                yield self._reject(job, outcome)
            if batch and (chunks >= enough or time.monotonic() - begun > _PATIENCE):
                yield from self._write(collection, batch)
                batch, chunks = [], 0
                enough = min(2 * enough, self.settings.ingest.batch_chunks)
        if batch:
            yield from self._write(collection, batch)

    def _warm_up(self) -> None:
        with contextlib.suppress(Exception):  # raised again where it is used
            self.embedder()

    def _write(self, collection: Collection, batch: Sequence[Draft]) -> Iterator[FileResult]:
        vectors = self._vectors(batch)
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
                    mtime_ns=self._date(each.document.source, each.mtime_ns),
                    media_type=each.media_type,
                )
            )
            start = end
        self.index.add(collection, prepared)
        self.index.ledger.accept(self.name, [each.document.source for each in batch])
        for each in batch:
            self.hashes[each.document.source] = each.document.sha256
            moved = self._moved_from(each.document.source, each.document.sha256)
            yield FileResult(
                each.document.source,
                "moved" if moved else "indexed",
                "; ".join(each.notes),
                len(each.document.pages),
                len(each.chunks),
                blank_pages=_blank(each.document),
                moved_from=moved,
            )

    def _vectors(self, batch: Sequence[Draft]) -> Vectors:
        """The batch's vectors; a text that the same file, or a twin of it, had is not embedded."""
        texts = [indexed_text(c, each.document.title) for each in batch for c in each.chunks]
        if not texts:
            return unpack_vectors([])
        catalogue = self.index.catalogue
        have: dict[str, Vectors] = {}
        for each in batch:
            document = each.document
            known = self.known.get(document.source)
            for old in (known, *self.twins.get(document.sha256, ())[:1]):
                if old is not None:
                    stored = [indexed_text(s.chunk, s.title) for s in catalogue.chunks_of(old.id)]
                    have |= zip(stored, catalogue.vectors_of(old.id), strict=True)
        new = [text for text in dict.fromkeys(texts) if text not in have]
        if new:
            have |= zip(new, self.embedder().encode(new), strict=True)
            self.embedded += len(new)
        return np.stack([have[text] for text in texts])

    def _date(self, source: str, mtime_ns: int) -> int:
        """A file's date, as far as it will tell whether the file has changed since it was read."""
        found = self.listed[source]
        assert isinstance(found, Found)
        return unsure(mtime_ns) if changed_since(found.path, self.begun) else mtime_ns

    def _reject(self, job: Job, error: DocumentError) -> FileResult:
        status: Status = "skipped" if isinstance(error, NotADocument) else "failed"
        if status == "skipped":
            self.unfit.add(job.source)
        found = self.listed[job.source]
        assert isinstance(found, Found)
        if error.code not in _PASSING and not changed_since(found.path, self.begun):
            judged = (self.judged_by, status, error.code, error.message, error.remedy)
            rejection = Rejection(found.source, found.size, found.mtime_ns, *judged)
            self.index.ledger.reject(self.name, [rejection])
        elif job.source in self.rejections:
            self.index.ledger.accept(self.name, [job.source])
        return FileResult(job.source, status, error.message, code=error.code, remedy=error.remedy)

    # Removing

    def _remove(self, collection: Collection) -> None:
        for root, gone, moves in self._going():
            if gone:
                # First: killed after it, the old path still goes with the next run.
                if moves:
                    self.index.ledger.rename(self.name, moves)
                lost = [entry for entry in gone if entry.source not in moves]
                self.index.remove(collection, gone, forget=lost)
                self._note_removed(gone)
            if not os.path.lexists(root):
                for held in self.index.ledger.roots(self.name):
                    if is_below(held.path, [name(root)]):
                        self.index.ledger.forget_root(self.name, held.path)

    def _going(self) -> Iterator[tuple[Path, list[Entry], dict[str, str]]]:
        """For each root, what goes from it, and where what is not lost, only moved, is now."""
        if not self.options.delete:
            return
        # The newest path comes last.
        staying = {
            sha256: source
            for source, sha256 in self.hashes.items()
            if isinstance(self.listed.get(source), Found) and not self._is_gone(source)
        }
        going: set[str] = set()
        for root, below in self.below.items():
            gone = [e for e in below if e.source not in going and self._is_gone(e.source)]
            lost = [entry for entry in gone if entry.sha256 not in staying]
            if lost and 3 * len(lost) > len(below) and not self.options.allow_removal:
                there = "" if os.path.lexists(root) else f"{root} is not there: "
                self.warnings.append(
                    f"{there}{len(lost)} of {len(below)} documents from {root} would go, gone from"
                    " disk or no longer wanted, and none was removed; if that is right, add"
                    " --allow-removal"
                )
                continue
            going |= {entry.source for entry in gone}
            moves = {e.source: staying[e.sha256] for e in gone if e.sha256 in staying}
            yield root, gone, moves

    def _is_gone(self, source: str) -> bool:
        """Whether a document's file is there no more, or is not to be a document any more."""
        return source in self.unfit or self._is_missing(source)

    def _is_missing(self, source: str) -> bool:
        """Whether its file is there no more: known from the start, whatever is read meanwhile."""
        there = isinstance(self.listed.get(source), Found)
        return not there and not is_below(source, self.blocked)

    def _note_removed(self, gone: Iterable[Entry]) -> None:
        """Those whose file is still there have their result already: why it was refused."""
        self.results += [_result(e, "removed") for e in gone if e.source not in self.unfit]

    # The end

    def _remember(self) -> None:
        ledger = self.index.ledger
        places = [name(root) for root in self.roots]
        refused = {each.path for each in self.results if each.status in ("skipped", "failed")}
        ledger.accept(
            self.name,
            [
                source
                for source in self.rejections
                if is_below(source, places)
                and not is_below(source, self.blocked)
                and not (source in refused and isinstance(self.listed.get(source), Found))
            ],
        )
        for root, place in zip(self.roots, places, strict=True):
            held = [each.path for each in ledger.roots(self.name) if each.path != place]
            if not os.path.lexists(root) or is_below(place, [name(self.own), *held]):
                continue
            for inner in held:
                if is_below(inner, [place]):
                    ledger.forget_root(self.name, inner)
            ledger.remember_root(
                self.name, Root(place, self.patterns.include, self.patterns.exclude, time.time())
            )

    def _progress(self, result: FileResult) -> Progress:
        self.results.append(result)
        if result.status in ("indexed", "moved"):
            self.pages += result.pages
            self.chunks += result.chunks
        return Progress(len(self.results), len(self.listed), self.pages, self.chunks, result)

    def _report(self) -> Report:
        return Report(
            tuple(self.results),
            time.perf_counter() - self.clock,
            self.embedded,
            tuple(self.warnings),
            dry_run=self.options.dry_run,
        )


@contextlib.contextmanager
def recorded(index: Index, collection: str, kind: str) -> Iterator[list[Report]]:
    """A run in the ledger, from its beginning to whatever end it finds."""
    run = index.ledger.begin_run(collection, kind)
    ended: list[Report] = []
    try:
        yield ended
    except BaseException as error:
        if isinstance(error, GeneratorExit | KeyboardInterrupt):
            why = "stopped before its end"
        else:
            why = str(error) if isinstance(error, RagBotError) else type(error).__name__
        with contextlib.suppress(Unavailable):
            index.ledger.end_run(run, "failed", {"error": why})
        raise
    report = ended[-1]
    outcome: Outcome = "done" if report.complete else "in part"
    index.ledger.end_run(run, outcome, report.as_record(_RECORDED_FILES))


_UNDELETE = "`rag-bot undelete PATH` lets it in again"


def _kept_out(source: str) -> FileResult:
    reason = "was deleted from the index and is kept out, though its file is here"
    return FileResult(source, "skipped", reason, code="deleted", remedy=_UNDELETE)


def _blank(document: Document) -> tuple[int, ...]:
    """The pages without text: scans, mostly."""
    return tuple(page.number for page in document.pages if not page.text.strip())


def _root(path: Path, known: Mapping[str, Entry]) -> Path:
    """A path made absolute. One that is not there must at least have been."""
    try:
        return resolve(path)
    except UsageError:
        place = path.expanduser().resolve()
        if any(is_below(source, [name(place)]) for source in known):
            return place
        raise


def untouched(found: Found, entry: Entry) -> bool:
    """Whether a file's size and date are those of its entry, and the date can be trusted."""
    dated = (found.size, found.mtime_ns) == (entry.size, entry.mtime_ns)
    return dated and found.mtime_ns < entry.indexed_at * 1e9 - _RACY_NS


def changed_since(path: Path, moment: float) -> bool:
    """Whether anything about a file, even its name, was changed since `moment` (Unix time).

    Copying, unpacking and swapping files can leave size and date as they were; the time of the
    last change to the inode is the kernel's own.
    """
    try:
        return os.lstat(path).st_ctime_ns > moment * 1e9 - _RACY_NS
    except OSError:
        return True


def is_below(source: str, places: Iterable[str]) -> bool:
    """Whether a path is one of these places or lies below one."""
    return any(source == place or source.startswith(place.rstrip("/") + "/") for place in places)


def from_root(entries: Iterable[Entry], root: str, own: Path) -> list[Entry]:
    """The documents that came from a root.

    Uploads lie in `own`, our data, which a folder around it does not reach into.
    """
    beyond = [] if is_below(root, [name(own)]) else [name(own)]
    return [
        each
        for each in entries
        if is_below(each.source, [root]) and not is_below(each.source, beyond)
    ]


def _result(entry: Entry, status: Status) -> FileResult:
    return FileResult(entry.source, status, "", entry.pages, entry.chunks)
