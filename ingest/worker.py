"""Reading, parsing and chunking in a process of its own, ahead of the embedder.

Untrusted files are opened here and nowhere else: a parser that hangs or eats memory costs its
file and this process, never the index.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import queue
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from rag_bot.catalogue import document_id
from rag_bot.errors import DocumentError, Unavailable, UnreadableDocument
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Page

STALL_SECONDS = 60.0
MEMORY_BYTES = 1_000_000_000
_AHEAD = 8
_START_SECONDS = 120.0


class Job(NamedTuple):
    """A file to read. `known_sha256` is what the catalogue has for it, or empty."""

    path: Path
    source: str
    known_sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes ids and chunks: the same for all files of a run."""

    collection: str
    fingerprint: str
    embedder: Path
    chunk_tokens: int
    max_file_bytes: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A file read, parsed and chunked."""

    document: Document
    chunks: tuple[Chunk, ...]
    media_type: str
    notes: tuple[str, ...]
    size: int
    mtime_ns: int


class Same(NamedTuple):
    """The file's bytes are what the catalogue has; only its date is new."""

    size: int
    mtime_ns: int


Outcome = Draft | Same | DocumentError


def draft(job: Job, recipe: Recipe, progress: Callable[[int, int | None], None]) -> Draft | Same:
    """Read a file once, and parse and chunk just those bytes. Raises DocumentError."""
    from ingest.chunk import TITLE_TOKENS, chunk
    from ingest.parse import parse

    data, status = _read(job.path, recipe.max_file_bytes)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == job.known_sha256:
        return Same(status.st_size, status.st_mtime_ns)
    parsed = parse(job.path.name, data, progress)
    pieces = _word_pieces(recipe.embedder)
    document = Document(
        id=document_id(recipe.collection, job.source, sha256, recipe.fingerprint),
        source=job.source,
        sha256=sha256,
        pages=tuple(Page(n, text) for n, text in enumerate(parsed.pages, start=1)),
        title=pieces.cut(" ".join(parsed.title.split()), TITLE_TOKENS),
        headings=parsed.headings,
    )
    return Draft(
        document=document,
        chunks=chunk(document, pieces, recipe.chunk_tokens),
        media_type=parsed.media_type,
        notes=parsed.notes,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def drafts(jobs: Sequence[Job], recipe: Recipe) -> Iterator[tuple[Job, Outcome]]:
    """Every job's outcome, in order, a few files ahead of whoever consumes them.

    A file during which nothing moves for `STALL_SECONDS` (no page finished), or whose parser
    dies, becomes a DocumentError, and the next one gets a new process.
    """
    _word_pieces(recipe.embedder)  # a broken one is named here; in the child it would be a crash
    results: queue.Queue[tuple[Job, Outcome] | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(item: tuple[Job, Outcome] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                results.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def read_ahead() -> None:
        worker: _Worker | None = None
        try:
            for job in jobs:
                if stop.is_set():
                    break
                worker = worker if worker and worker.alive else _Worker(recipe)
                put((job, worker.run(job)))
            put(None)
        except BaseException as error:
            put(error)
        finally:
            if worker:
                worker.kill()

    reader = threading.Thread(target=read_ahead, name="parse-ahead", daemon=True)
    reader.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        reader.join()


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self, recipe: Recipe) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True
        try:
            self._receive(_START_SECONDS)
        except (EOFError, OSError, TimeoutError):
            self.kill()
            raise Unavailable(
                "the process that reads files does not start", "check memory and free disk space"
            ) from None

    def run(self, job: Job) -> Outcome:
        """One file's outcome. The worker is dead afterwards if the file killed it."""
        try:
            self._pipe.send(job)
            while True:
                message = self._receive(STALL_SECONDS)
                if not isinstance(message, int):
                    return message
        except TimeoutError:
            self.kill()
            return UnreadableDocument(
                "timeout",
                f"nothing moved for {STALL_SECONDS:.0f} s while reading it",
                "the file is probably damaged: open it and save it anew",
            )
        except (EOFError, OSError):
            self.kill()
            return UnreadableDocument(
                "crashed",
                "its parser died",
                "the file is probably damaged: open it and save it anew",
            )

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.alive = False
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self, seconds: float) -> int | Outcome:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        message: int | Outcome = self._pipe.recv()
        return message


def _serve(pipe: Connection, recipe: Recipe) -> None:
    """The child: jobs in; page counts, then an outcome out."""
    os.nice(5)  # parsing ahead must not slow the embedder down
    _word_pieces(recipe.embedder)
    limit_memory(MEMORY_BYTES)
    pipe.send(0)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            outcome: Outcome = draft(job, recipe, lambda done, _total: pipe.send(done))
        except DocumentError as error:
            outcome = error
        except MemoryError:
            outcome = UnreadableDocument(
                "too_large", "reading it takes too much memory", "split the file"
            )
        pipe.send(outcome)


def limit_memory(beyond: int) -> None:
    """Let this process take no more than `beyond` bytes on top of what it has now."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + beyond, used + beyond))


def _read(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            if before.st_size > limit:
                raise UnreadableDocument(
                    "too_large",
                    f"{before.st_size / 1e6:.0f} MB, more than ingest.max_file_mb",
                    "raise ingest.max_file_mb, or split the file",
                )
            data = stream.read(limit + 1)
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise UnreadableDocument(
            "unreadable", f"can't be read: {error.strerror}", "check its permissions"
        ) from None
    if len(data) != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise UnreadableDocument("changed", "changed while being read", "run ingest again")
    return data, after


@cache
def _word_pieces(folder: Path) -> WordPieces:
    return WordPieces(folder)
