"""Reading, parsing and chunking in a process of its own, ahead of the embedder.

Untrusted files are opened here and nowhere else: a parser that hangs or eats memory costs its
file and this process, never the index. What comes back is plain JSON of bounded size, from which
the document is made anew, so that not even a parser taken over by its file can have code run here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from ingest.parse.clean import one_line
from rag_bot.catalogue import chunk_id, document_id
from rag_bot.errors import DocumentError, NotADocument, Unavailable, UnreadableDocument
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Heading, Page

STALL_SECONDS = 60.0
MEMORY_BYTES = 900_000_000
"""That a process may use: with what its libraries map besides, less than a gigabyte."""
MAX_MESSAGE_BYTES = 300_000_000
"""Beyond what a file within the parsers' limits can make."""
_AHEAD = 8
_AHEAD_CHARACTERS = 20_000_000
_START_SECONDS = 120.0
_SPARE_SECONDS = 600.0
_BEAT_SECONDS = 0.2
_STATM = Path("/proc/self/statm")
_ALIVE = b""
_NEVER_PACKED = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


class Job(NamedTuple):
    """A file to read. `known_sha256` is what the catalogue has for it, or empty."""

    path: Path
    source: str
    known_sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes ids and chunks, and how patient to be: the same for all files of a run."""

    collection: str
    fingerprint: str
    embedder: Path
    chunk_tokens: int
    max_file_bytes: int
    stall_seconds: float = STALL_SECONDS


@dataclass(frozen=True, slots=True)
class Draft:
    """A file read, parsed and chunked. `blank_pages` are the numbers of pages without text."""

    document: Document
    chunks: tuple[Chunk, ...]
    media_type: str
    notes: tuple[str, ...]
    size: int
    mtime_ns: int
    blank_pages: tuple[int, ...] = ()


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
    pieces.beat = lambda: progress(len(parsed.pages), len(parsed.pages))
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
        blank_pages=parsed.blank_pages,
    )


def drafts(jobs: Sequence[Job], recipe: Recipe) -> Iterator[tuple[Job, Outcome]]:
    """Every job's outcome, in order, a few files ahead of whoever consumes them.

    A file during which nothing moves for `recipe.stall_seconds` (no page finished, no more text
    chunked), or whose parser dies, becomes a DocumentError, and the next one gets a new process.
    Raises Unavailable when no process starts.
    """
    _word_pieces(recipe.embedder)  # a broken one is named here; in the child it would be a crash
    results: queue.Queue[tuple[Job, Outcome] | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()
    waiting = _Allowance(_AHEAD_CHARACTERS)

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
                if not (worker and worker.alive):
                    worker = _SPARE.take(recipe) or _started(recipe)
                outcome = worker.run(job)
                waiting.take(_characters(outcome), stop)
                put((job, outcome))
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
            waiting.give_back(_characters(item[1]))
            yield item
    finally:
        stop.set()
        reader.join()


def prepare(recipe: Recipe) -> threading.Thread:
    """Start a process for the next run in the background: loading its libraries takes seconds.

    It has read no file, and is gone after `_SPARE_SECONDS` without one. For a process that stays:
    one that ends would only wait for it. Returns the thread that starts it.
    """
    thread = threading.Thread(target=_SPARE.make, args=(recipe,), name="spare-parser", daemon=True)
    thread.start()
    return thread


class _Spare:
    """At most one process that waits for work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[Recipe, _Worker] | None = None
        self._timer: threading.Timer | None = None

    def make(self, recipe: Recipe) -> None:
        with self._lock:
            if self._held and self._held[0] == recipe and self._held[1].lives():
                return
            self._drop()
            with contextlib.suppress(Unavailable):  # told by the run that needs one
                self._held = recipe, _Worker(recipe)
                self._timer = threading.Timer(_SPARE_SECONDS, self.drop)
                self._timer.daemon = True
                self._timer.start()

    def take(self, recipe: Recipe) -> _Worker | None:
        """The one for this recipe, if there is one that lives; whoever takes it ends it."""
        with self._lock:
            if self._held and self._held[0] == recipe and self._held[1].lives():
                worker, self._held = self._held[1], None
                self._drop()
                return worker
            return None

    def drop(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._held:
            self._held[1].kill()
        self._held = self._timer = None


_SPARE = _Spare()


class _Allowance:
    """How much may wait at a time. What is larger than all of it waits alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, amount: int, stop: threading.Event) -> None:
        with self._changed:
            while self._taken and self._taken + amount > self._limit and not stop.is_set():
                self._changed.wait(0.2)
            self._taken += amount

    def give_back(self, amount: int) -> None:
        with self._changed:
            self._taken -= amount
            self._changed.notify()


def _characters(outcome: Outcome) -> int:
    if not isinstance(outcome, Draft):
        return 0
    return sum(len(page.text) for page in outcome.document.pages)


def _started(recipe: Recipe) -> _Worker:
    """A new process. The last one may have left the machine out of memory: one more try."""
    try:
        return _Worker(recipe)
    except Unavailable:
        time.sleep(1)
        return _Worker(recipe)


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self, recipe: Recipe) -> None:
        context = multiprocessing.get_context("spawn")
        self._recipe = recipe
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
        self._process.start()
        theirs.close()
        self.alive = True
        try:
            self._receive(_START_SECONDS)
        except (EOFError, OSError):
            self.kill()
            raise Unavailable(
                "the process that reads files does not start", "check memory and free disk space"
            ) from None

    def run(self, job: Job) -> Outcome:
        """One file's outcome. The worker is dead afterwards if the file killed it."""
        try:
            self._pipe.send(job)
            while (message := self._receive(self._recipe.stall_seconds)) == _ALIVE:
                pass
            return unpack(message, job, self._recipe)
        except TimeoutError:
            self.kill()
            return UnreadableDocument(
                "timeout",
                f"nothing moved for {self._recipe.stall_seconds:.0f} s while reading it",
                "the file is probably damaged: open it and save it anew",
            )
        except (EOFError, OSError, *_NEVER_PACKED):
            self.kill()
            return UnreadableDocument(
                "crashed",
                "its parser died",
                "the file is probably damaged: open it and save it anew",
            )

    def lives(self) -> bool:
        """Whether it can be given work: the system may have ended it meanwhile."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.alive = False
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self, seconds: float) -> bytes:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        return self._pipe.recv_bytes(MAX_MESSAGE_BYTES)


def pack(outcome: Outcome) -> bytes:
    """An outcome as it travels: JSON in which chunks are places in the text, not text."""
    match outcome:
        case Draft(document=document):
            plain: object = {
                "sha256": document.sha256,
                "pages": [page.text for page in document.pages],
                "title": document.title,
                "headings": [[h.char_start, h.level, h.text] for h in document.headings],
                "chunks": [
                    [c.page_start, c.char_start, c.char_end, c.heading] for c in outcome.chunks
                ],
                "media_type": outcome.media_type,
                "notes": outcome.notes,
                "blank_pages": outcome.blank_pages,
                "file": [outcome.size, outcome.mtime_ns],
            }
        case Same():
            plain = {"same": outcome}
        case _:
            skip = isinstance(outcome, NotADocument)
            plain = {"skip": skip, "error": [outcome.code, outcome.message, outcome.remedy]}
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def unpack(message: bytes, job: Job, recipe: Recipe) -> Outcome:
    """The reverse. Raises one of `_NEVER_PACKED` for a message that no `pack` has made."""
    plain = json.loads(message)
    if "error" in plain:
        kind = NotADocument if plain["skip"] else UnreadableDocument
        code, reason, remedy = map(_text, plain["error"])
        return kind(code, reason, remedy)
    if "same" in plain:
        size, mtime_ns = map(_number, plain["same"])
        return Same(size, mtime_ns)
    sha256 = _text(plain["sha256"])
    document = Document(
        id=document_id(recipe.collection, job.source, sha256, recipe.fingerprint),
        source=job.source,
        sha256=sha256,
        pages=tuple(Page(n, _text(text)) for n, text in enumerate(plain["pages"], start=1)),
        title=_text(plain["title"]),
        headings=tuple(
            Heading(_number(start), _number(level), _text(text))
            for start, level, text in plain["headings"]
        ),
    )
    text = document.text
    chunks: list[Chunk] = []
    for page, start, end, heading in plain["chunks"]:
        if not (1 <= page <= len(document.pages) and 0 <= start <= end <= len(text)):
            raise ValueError("a chunk of no page")
        chunks.append(
            Chunk(
                id=chunk_id(document.id, len(chunks)),
                document_id=document.id,
                text=text[start:end],
                page_start=_number(page),
                page_end=_number(page),
                char_start=_number(start),
                char_end=_number(end),
                heading=_text(heading),
            )
        )
    size, mtime_ns = map(_number, plain["file"])
    return Draft(
        document=document,
        chunks=tuple(chunks),
        media_type=_text(plain["media_type"]),
        notes=tuple(map(_text, plain["notes"])),
        size=size,
        mtime_ns=mtime_ns,
        blank_pages=tuple(map(_number, plain["blank_pages"])),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # half a surrogate pair can't be stored
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    value.to_bytes(8, signed=True)  # a larger one can't be stored
    return value


def _serve(pipe: Connection, recipe: Recipe) -> None:
    """The child: jobs in; signs of life, then an outcome out."""
    os.nice(5)  # parsing ahead must not slow the embedder down
    _confine()
    _warm_up(recipe)
    limit_memory(MEMORY_BYTES, including_used=True)
    pipe.send_bytes(_ALIVE)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        pipe.send_bytes(_outcome(job, recipe, _Pulse(pipe)))


def _outcome(job: Job, recipe: Recipe, progress: Callable[[int, int | None], None]) -> bytes:
    try:
        return pack(draft(job, recipe, progress))
    except DocumentError as error:
        return pack(error)
    except MemoryError:
        return pack(
            UnreadableDocument("too_large", "reading it takes too much memory", "split the file")
        )
    # Whatever else a file sets off is ours to mend, and costs this file alone. Said here, since a
    # traceback would go nowhere.
    except Exception as error:
        return pack(
            UnreadableDocument(
                "crashed",
                "its parser failed " + one_line(f"({type(error).__name__}: {error})")[:300],
                "open the file and save it anew; if that does not help, please report it",
            )
        )


class _Pulse:
    """Tells the parent that something moves, but not all the time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = time.monotonic()

    def __call__(self, _done: int, _total: int | None) -> None:
        now = time.monotonic()
        if now - self._last > _BEAT_SECONDS:
            self._pipe.send_bytes(_ALIVE)
            self._last = now


def _confine() -> None:
    """Give up what reading a file does not need: writing files, core dumps, and the last word."""
    with contextlib.suppress(OSError):  # where /proc can't be written, the kernel chooses alone
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    # A library that aborts fills the screen with its stack, and others print.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _warm_up(recipe: Recipe) -> None:
    """Load what every file needs, so that it counts as no file's time or memory."""
    from ingest.chunk import chunk

    some = Document("", "", "", (Page(1, "One sentence. Another. " * 200),))
    chunk(some, _word_pieces(recipe.embedder), recipe.chunk_tokens)


def limit_memory(beyond: int, *, including_used: bool = False) -> None:
    """Let this process take no more than `beyond` bytes on top of what it has now.

    `including_used`: what it really uses of that now counts too. Where the system can't say or
    limit it, as macOS can't, there is no limit: reading without one is better than not reading.
    """
    with contextlib.suppress(OSError, ValueError):
        taken, resident = _memory()
        most = taken + beyond - (resident if including_used else 0)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _memory() -> tuple[int, int]:
    """Bytes of address space that this process has taken, and of memory that it really uses."""
    taken, resident = _STATM.read_text().split()[:2]
    page = os.sysconf("SC_PAGE_SIZE")
    return int(taken) * page, int(resident) * page


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


class _Pieces(WordPieces):
    """The embedder's tokenizer, which says that it moves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.beat: Callable[[], None] = lambda: None

    def count(self, text: str) -> int:
        self.beat()
        return super().count(text)


@cache
def _word_pieces(folder: Path) -> _Pieces:
    return _Pieces(folder)
