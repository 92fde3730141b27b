"""Runs at their times: by interval, by cron expression, or whenever files change.

One process schedules a collection's paths at a time. What it did and what it left out stands in
a small file in the data directory; nothing else is held between two runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import filelock
from cronsim import CronSim, CronSimError
from pydantic import Field, TypeAdapter, ValidationError

from ingest.files import name
from ingest.watch import changes
from rag_bot.errors import DocumentError, IndexBusy, RagBotError, Unavailable, UsageError

NOT_RUNNING = "missed: not running"
ASLEEP = "missed: the clock jumped or the machine slept"
STILL_RUNNING = "still running"
ALREADY_RUN = "already run: the clock was set back"
BUSY = "busy"

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST = 366 * 86_400
_SLICE = 5.0
"""Seconds slept at most before looking at the clock again, and at whether to stop."""

_CORRECTION = 3 * 3_600.0
"""Seconds. After Debian's cron(8): a clock set back by more was wrong, and starts afresh."""

_RETRY = 30.0
"""Seconds until a change is tried again whose run found the index busy."""

_COUNTED = 100_000
_KEPT = 100

Moment = Annotated[float, Field(ge=0, le=253_000_000_000, allow_inf_nan=False)]
"""POSIX seconds, up to the year 9987."""


class Clock(Protocol):
    """Time as it passes. `now` may jump, `monotonic` may not; both in seconds."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


class _MachineClock:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


MACHINE: Clock = _MachineClock()


class Passed(NamedTuple):
    """Dues up to now: how many, the last, and the one before it (or the last again)."""

    dues: int
    before: float
    last: float


@dataclass(frozen=True)
class Every:
    """A run each so many seconds, counted from the first."""

    seconds: float
    kind = "every"

    @property
    def text(self) -> str:
        """As a person would write it: `every 1h30m`."""
        days, rest = divmod(self.seconds, _UNITS["d"])
        hours, rest = divmod(rest, _UNITS["h"])
        minutes, rest = divmod(rest, _UNITS["m"])
        counts = zip((days, hours, minutes, rest), _UNITS, strict=True)
        return "every " + "".join(f"{count:g}{unit}" for count, unit in counts if count)

    def first(self, now: float) -> float:
        """When a schedule that never ran is due: at once."""
        return now

    def next_after(self, when: float) -> float:
        """The due after a due."""
        return when + self.seconds

    def passed(self, first: float, now: float) -> Passed:
        """The dues from `first` to `now`, both included."""
        steps = max(0, int((now - first) // self.seconds))
        before = first + max(0, steps - 1) * self.seconds
        return Passed(steps + 1, before, first + steps * self.seconds)


@dataclass(frozen=True)
class Cron:
    """A run at the times of a cron expression of five fields, in a zone or the machine's own.

    Daylight saving as in Debian's cron: a fixed time that the clock skips comes right after the
    gap, and one that it shows twice comes the first time only.
    """

    expression: str
    zone: tzinfo | None = None
    kind = "cron"

    @property
    def text(self) -> str:
        """As a person would write it: `cron 0 3 * * *`."""
        return f"cron {self.expression}" + (f" ({self.zone})" if self.zone else "")

    def first(self, now: float) -> float:
        """When a schedule that never ran is due: at the next time of the expression."""
        return self.next_after(now)

    def next_after(self, when: float) -> float:
        """The first due after a moment."""
        return next(self._after(when))

    def passed(self, first: float, now: float) -> Passed:
        """The dues from `first`, which is one, to `now`. Not more than 100,000 are counted."""
        count, before, last = 1, first, first
        for due in takewhile(lambda due: due <= now, self._after(first)):
            count, before, last = count + 1, last, due
            if count == _COUNTED:
                before, last = self._last_two(now)
                break
        return Passed(count, before, last)

    def _last_two(self, now: float) -> tuple[float, float]:
        span = 86_400.0
        while len(dues := list(takewhile(lambda d: d <= now, self._after(now - span)))) < 2:
            span *= 2
        return dues[-2], dues[-1]

    def _after(self, when: float) -> Iterator[float]:
        for each in CronSim(self.expression, datetime.fromtimestamp(when, self.zone or _LOCAL)):
            # Started in an hour that the clock shows twice, CronSim may begin in the first one.
            if (due := each.timestamp()) > when:
                yield due


@dataclass(frozen=True)
class Watch:
    """A run at once, and one after each burst of changes; see `ingest.watch.changes`."""

    quiet: float = 1.0
    longest: float = 30.0
    kind = "watch"
    text = "watch"


Trigger = Every | Cron | Watch


class _Local(tzinfo):
    """The machine's own zone with its daylight saving, for which Python has no object."""

    def fromutc(self, dt: datetime) -> datetime:
        return datetime.fromtimestamp(dt.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return dt.replace(tzinfo=None).astimezone().utcoffset() if dt else None

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return dt.replace(tzinfo=None).astimezone().tzname() if dt else None


_LOCAL = _Local()


def parse_every(text: str) -> Every:
    """`30m`, `1h30m`, `2d`: days, hours, minutes, seconds in this order.

    Raises UsageError for anything else, and for less than 10 seconds or more than 366 days.
    """
    found = re.fullmatch("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS), text.strip())
    counts = [int(count or 0) for count in found.groups()] if found else []
    seconds = sum(n * size for n, size in zip(counts, _UNITS.values(), strict=False))
    if not 10 <= seconds <= _LONGEST:
        raise UsageError(
            f"--every {text}: not an interval",
            "write days, hours, minutes and seconds like 30m, 1h30m or 2d; from 10s to 366d",
        )
    return Every(seconds)


def parse_cron(expression: str, zone: tzinfo | None = None) -> Cron:
    """A cron expression of five fields. Raises UsageError if it isn't one, or never comes."""
    fields = expression.split()
    cron = Cron(" ".join(fields), zone)
    try:
        if len(fields) != 5:
            raise CronSimError(f"{len(fields)} fields, not five")
        cron.next_after(time.time())
    except (CronSimError, StopIteration) as error:
        raise UsageError(
            f"--cron {expression!r}: {str(error) or 'such a day never comes'}",
            "write minute, hour, day of month, month and day of week,"
            ' e.g. "0 3 * * *" for three at night or "*/15 8-18 * * MON-FRI"',
        ) from None
    return cron


@dataclass(frozen=True)
class Schedule:
    """What is to be run, and when. `options` are kept as given, for `ingest status` to show."""

    collection: str
    paths: tuple[Path, ...]
    trigger: Trigger
    options: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Equal for the same collection, the same places and the same kind of trigger."""
        places = sorted(name(path.expanduser().resolve()) for path in self.paths)
        what = json.dumps([self.collection, places, self.trigger.kind])
        return hashlib.sha256(what.encode()).hexdigest()[:16]


class Outcome(NamedTuple):
    """How a run ended, in a word and in a line that names no document."""

    status: Literal["ok", "in part", "failed"]
    summary: str


@dataclass(frozen=True)
class Skip:
    """Runs that were due and did not happen: how many, the first and last due, and why."""

    count: int
    first: Moment
    last: Moment
    reason: str


@dataclass(frozen=True)
class State:
    """A schedule as its file tells it; times in POSIX seconds.

    `started` without `ended` is a run that goes on, or was cut off if the schedule isn't live.
    `took` is the last run's duration in seconds, whatever the clock did meanwhile. `ran` are the
    dues of the last runs by cron, in case the clock shows them again. `live`, whether a process
    holds the schedule now, is not stored.
    """

    id: str
    trigger: str
    collection: str
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()
    pid: int = 0
    next_due: Moment | None = None
    due: Moment | None = None
    started: Moment | None = None
    ended: Moment | None = None
    took: float | None = None
    outcome: Literal["", "ok", "in part", "failed"] = ""
    summary: str = ""
    ran: tuple[Moment, ...] = ()
    skips: tuple[Skip, ...] = ()
    live: bool = False


_STORED = TypeAdapter(State)
_log = logging.getLogger(__name__)


def run(
    schedule: Schedule,
    job: Callable[[], Outcome],
    data_dir: Path,
    *,
    clock: Clock = MACHINE,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[State], None] = lambda state: None,
) -> None:
    """Run the job whenever it is due, until `stop()` says so or an interrupt is raised.

    The job makes one run and closes what it opened. Whatever goes wrong in it ends that run
    only; IndexBusy makes it a skip. Dues that passed are made up for by one run, the others are
    skips. `tell` gets the state each time it changes.

    Raises Unavailable when another process has this schedule, when its file can't be written at
    the start, and when the system can't watch the paths.
    """
    with _held(schedule, data_dir, clock, tell) as book:
        trigger = schedule.trigger
        if isinstance(trigger, Watch):
            quiet, longest = trigger.quiet, trigger.longest
            found = changes(schedule.paths, data_dir, quiet=quiet, longest=longest, stop=stop)
            with closing(found) as bursts:
                _by_change(bursts, book, job, clock, stop)
        else:
            _by_clock(trigger, book, job, clock, stop)


def read(data_dir: Path) -> list[State]:
    """Every schedule that was ever run here, by collection and paths.

    A file that can't be read is set aside under another name, with a warning in the log.
    """
    states = []
    for file in (data_dir / "schedules").glob("*.json"):
        if state := _read(file):
            states.append(replace(state, live=_is_live(file)))
    return sorted(states, key=lambda state: (state.collection, state.paths, state.trigger))


class _Book:
    """A schedule's state, in memory and in its file."""

    def __init__(self, file: Path, state: State, tell: Callable[[State], None]) -> None:
        self.state = state
        self._file = file
        self._tell = tell

    def note(self, **changed: Any) -> None:
        """Change fields. A full disk costs the file its news, not the schedule its life."""
        self.state = replace(self.state, **changed)
        try:
            _write(self._file, self.state)
        except OSError as error:
            _log.warning("%s can't be written: %s; the schedule goes on", self._file, error)
        self._tell(self.state)


def _by_clock(
    trigger: Every | Cron,
    book: _Book,
    job: Callable[[], Outcome],
    clock: Clock,
    stop: Callable[[], bool],
) -> None:
    seen = math.inf
    missed = NOT_RUNNING
    if book.state.next_due is None:
        book.note(next_due=trigger.first(clock.now()))
    while not stop():
        now, due = clock.now(), book.state.next_due
        assert due is not None
        if now < seen:
            # The clock was set back, or the process is new: what is next may come sooner.
            due = min(due, trigger.next_after(now))
        seen = now
        if due > now:
            if due != book.state.next_due:
                book.note(next_due=due)
            clock.sleep(min(due - now, _SLICE))
        else:
            _meet(trigger, book, job, clock, due, now, missed)
        missed = ASLEEP


def _meet(
    trigger: Every | Cron,
    book: _Book,
    job: Callable[[], Outcome],
    clock: Clock,
    due: float,
    now: float,
    missed: str,
) -> None:
    """Deal with all dues from `due` to `now` by one run, and with those that pass meanwhile."""
    count, before, last = trigger.passed(due, now)
    following = trigger.next_after(last)
    skips = book.state.skips
    if last in book.state.ran:
        skips = _joined(skips, Skip(count, due, last, ALREADY_RUN), trigger)
        book.note(next_due=following, skips=skips)
        return
    if count > 1:
        skips = _joined(skips, Skip(count - 1, due, before, missed), trigger)
    busy, news = _attempt(book, job, clock, due=last, next_due=following, skips=skips)
    if busy:
        skips = _joined(skips, Skip(1, last, last, BUSY), trigger)
    elif isinstance(trigger, Cron):
        near = [each for each in book.state.ran if abs(each - last) <= _CORRECTION]
        news["ran"] = (*near, last)
    if following <= (now := clock.now()):
        count, before, last = trigger.passed(following, now)
        skips = _joined(skips, Skip(count, following, last, STILL_RUNNING), trigger)
        following = trigger.next_after(last)
    book.note(**news, next_due=following, skips=skips)


def _by_change(
    bursts: Iterator[None],
    book: _Book,
    job: Callable[[], Outcome],
    clock: Clock,
    stop: Callable[[], bool],
) -> None:
    for _ in bursts:
        tried: list[float] = []
        # A change that found the index busy would otherwise wait for the next change.
        while not stop():
            skips = book.state.skips[:-1] if tried else book.state.skips
            tried.append(clock.now())
            busy, news = _attempt(book, job, clock, due=tried[-1])
            if not busy:
                book.note(**news)
                break
            skips = (*skips, Skip(len(tried), tried[0], tried[-1], BUSY))[-_KEPT:]
            book.note(**news, skips=skips)
            again = clock.monotonic() + _RETRY
            while not stop() and (left := again - clock.monotonic()) > 0:
                clock.sleep(min(left, _SLICE))


def _attempt(
    book: _Book, job: Callable[[], Outcome], clock: Clock, **begin: Any
) -> tuple[bool, dict[str, Any]]:
    """One run, noted as it begins.

    Returns whether the index was busy, and what is to be noted now: how the run ended, or, if
    there was none, how the one before did.
    """
    fields = ("due", "started", "ended", "took", "outcome", "summary")
    before = {field: getattr(book.state, field) for field in fields}
    book.note(started=clock.now(), ended=None, took=None, outcome="", summary="", **begin)
    begun = clock.monotonic()
    try:
        status, summary = job()
    except IndexBusy:
        return True, before
    except RagBotError as error:
        # The message of a DocumentError names a document, which the state must not.
        status = "failed"
        summary = error.code if isinstance(error, DocumentError) else str(error)
    except Exception as error:
        # Nobody looks after a schedule: what breaks one run must not take the next ones with it.
        _log.exception("a run of schedule %s broke", book.state.id)
        status, summary = "failed", f"broke: {type(error).__name__}"
    return False, {
        "ended": clock.now(),
        "took": clock.monotonic() - begun,
        "outcome": status,
        "summary": _plain(" ".join(summary.split())),
    }


def _joined(skips: Sequence[Skip], new: Skip, trigger: Every | Cron) -> tuple[Skip, ...]:
    """The skips with a new one, made one with the last if it goes on where that ended."""
    last = skips[-1] if skips else None
    if last and last.reason == new.reason and trigger.next_after(last.last) == new.first:
        new = Skip(last.count + new.count, last.first, new.last, new.reason)
        skips = skips[:-1]
    return (*skips, new)[-_KEPT:]


@contextmanager
def _held(
    schedule: Schedule, data_dir: Path, clock: Clock, tell: Callable[[State], None]
) -> Iterator[_Book]:
    """The book of a schedule that no other process has meanwhile."""
    file = data_dir / "schedules" / f"{schedule.id}.json"
    lock = filelock.FileLock(_lock_of(file), thread_local=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # `ingest status` holds it for a moment to see whether somebody does.
        lock.acquire(timeout=0.5, poll_interval=0.05)
    except filelock.Timeout:
        state = _read(file)
        who = f"process {state.pid}" if state and state.pid else "another process"
        raise Unavailable(
            f"{who} has this schedule already: {schedule.trigger.kind} for collection"
            f" {schedule.collection!r}, {', '.join(map(name, schedule.paths))}",
            "leave it to that one, or stop it first; `ingest status` shows all schedules",
        ) from None
    except OSError as error:
        raise _unwritable(file, error) from None
    try:
        book = _Book(file, _resumed(schedule, _read(file), clock.now()), tell)
        try:
            _write(file, book.state)
        except OSError as error:
            raise _unwritable(file, error) from None
        try:
            yield book
        finally:
            with suppress(OSError):
                _write(file, replace(book.state, pid=0))
    finally:
        lock.release()


def _resumed(schedule: Schedule, known: State | None, now: float) -> State:
    """The state to begin with: the known one, if any, for this schedule and this process."""
    paths = tuple(name(path.expanduser().absolute()) for path in schedule.paths)
    text = schedule.trigger.text
    state = known or State(schedule.id, text, schedule.collection, paths)
    if state.started is not None and state.ended is None:
        # Killed or interrupted during a run: that one is due again.
        summary = "cut off: the process ended during the run"
        due = None if isinstance(schedule.trigger, Watch) else state.due
        state = replace(state, next_due=due, ended=state.started, outcome="failed", summary=summary)
    elif state.trigger != text and state.next_due is not None and state.next_due > now:
        state = replace(state, next_due=None)
    return replace(
        state,
        trigger=text,
        paths=paths,
        options=tuple(map(_plain, schedule.options)),
        pid=os.getpid(),
        live=True,
    )


def _plain(text: str) -> str:
    """Text that JSON can hold: a path on the command line may be in no encoding at all."""
    return text.encode("utf-8", "backslashreplace").decode()


def _unwritable(file: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"the schedule's file {file} can't be written: {error.strerror}",
        "make its folder writable, or make room on the disk",
    )


def _lock_of(file: Path) -> Path:
    return file.with_suffix(".lock")


def _is_live(file: Path) -> bool:
    lock = filelock.FileLock(_lock_of(file))
    try:
        with lock.acquire(blocking=False):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False


def _read(file: Path) -> State | None:
    try:
        return replace(_STORED.validate_json(file.read_bytes()), id=file.stem)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s can't be read: %s", file, error.strerror)
        return None
    except ValidationError:
        aside = file.with_name(file.name + ".damaged")
        _log.warning("%s is damaged: set aside as %s, and the schedule starts afresh", file, aside)
        with suppress(OSError):
            file.replace(aside)
        return None


def _write(file: Path, state: State) -> None:
    """All of it or nothing, for the owner's eyes only."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    text = _STORED.dump_json(state, indent=1, exclude={"live"})
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
