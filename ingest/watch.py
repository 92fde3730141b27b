"""Noticing that files changed, by the kernel's word where it gives one and by looking where not."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from watchfiles import Change, watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from ingest.files import name
from rag_bot.errors import Unavailable

Found = set[tuple[Change, str]]
Stamp = tuple[int, ...]

_TICK = 0.25
"""Seconds between two looks at whether to stop, and at the paths themselves."""


def changes(
    paths: Sequence[Path],
    leave_out: Path,
    *,
    quiet: float = 1.0,
    longest: float = 30.0,
    at_least_every: float = 3600.0,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[None]:
    """Yield as soon as the paths are watched, then once per burst of changes below them.

    A burst ends after `quiet` seconds without a change, `longest` seconds after it began at the
    latest. What changes while the caller is busy counts towards the next one. Without a change
    it yields every `at_least_every` seconds all the same, for a kernel that lost events and for
    network folders that send none. A path may vanish and come back: both are changes. What is
    below `leave_out`, hidden, behind a symbolic link, or an office program's lock file is not.

    Ends when `stop()` says so. Raises Unavailable when the system can't watch that many folders.
    """
    yielded = -math.inf
    begun = latest = math.inf
    for changed in _ticks([path.expanduser() for path in paths], leave_out.resolve(), stop):
        now = time.monotonic()
        if changed:
            begun, latest = min(begun, now), now
        over = now - latest >= quiet or now - begun >= longest
        if over or now - yielded >= at_least_every:
            yield
            begun = latest = math.inf
            yielded = time.monotonic()


def _ticks(paths: Sequence[Path], leave_out: Path, stop: Callable[[], bool]) -> Iterator[bool]:
    """Several times a second, whether something changed since the time before."""
    stamps: list[Stamp | None] = []
    roots: list[Path] = []
    watching: Generator[Found] | None = None
    changed, stale = False, True
    try:
        while not stop():
            before, stamps = stamps, [_stamp(path) for path in paths]
            moved = stamps != before
            if moved or (stale and not changed):
                if watching:
                    watching.close()
                roots = [path.resolve() for path in paths if os.path.isdir(path)]
                watching = _watch(roots, leave_out)
                moved, stale = moved or bool(watching), bool(roots) and not watching
            found: Found = set()
            if watching:
                try:
                    found = next(watching)
                except WatchfilesRustInternalError:
                    # It gives up at a name that is not UTF-8, and is of no use after that.
                    watching, moved, stale = None, True, True
            else:
                time.sleep(_TICK)
            counted = [each for each in found if _counts(Path(each[1]), roots, leave_out)]
            stale = stale or any(_unsettles(*each, roots) for each in counted)
            changed = moved or bool(counted)
            yield changed
    finally:
        if watching:
            watching.close()


def _stamp(path: Path) -> Stamp | None:
    """What differs when a folder was replaced, or a single file changed in any way."""
    try:
        status = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return (status.st_dev, status.st_ino)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _watch(roots: Sequence[Path], leave_out: Path) -> Generator[Found] | None:
    """What watchfiles finds below folders, every tick. None where there is none to watch."""
    folders = [folder for root in roots for folder in _folders(root, leave_out)]
    if not folders:
        return None
    watching = watch(
        *folders,
        # Left to itself it follows links, and stops halfway at a folder it may not read. Told to
        # ignore that, it ignores the system's limit too.
        recursive=False,
        ignore_permission_denied=False,
        watch_filter=None,  # with a filter it would keep silent while only others change
        debounce=200,
        step=50,
        rust_timeout=int(_TICK * 1000),
        yield_on_timeout=True,
    )
    try:
        next(watching)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError, WatchfilesRustInternalError) as error:
        reason, remedy = str(error), "use --every 10m instead of --watch"
        for word, limit in (
            ("limit reached", "max_user_watches"),
            ("os error 24", "max_user_instances"),
        ):
            if word in reason:
                reason = f"the system's limit fs.inotify.{limit} is reached"
                remedy = f"raise it, e.g. `sysctl fs.inotify.{limit}=1000000`, or {remedy}"
        raise Unavailable(
            f"can't watch the {len(folders)} folders in {', '.join(map(name, roots))}: {reason}",
            remedy,
        ) from None
    return watching


def _folders(root: Path, leave_out: Path) -> Iterator[str]:
    """The folders that a scan would walk, less those whose names watchfiles can't take."""
    for place, below, _ in os.walk(root):
        below[:] = [
            each
            for each in below
            if not each.startswith(".")
            and name(Path(each)) == each
            and Path(place, each) != leave_out
        ]
        yield place


def _counts(path: Path, roots: Sequence[Path], leave_out: Path) -> bool:
    """Whether a change is of something that a scan would read."""
    if path.is_relative_to(leave_out) or path.name.startswith("~$"):
        return False
    inside = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    return any(not any(part.startswith(".") for part in each.parts) for each in inside)


def _unsettles(change: Change, path: str, roots: Sequence[Path]) -> bool:
    """Whether the folders that are watched are no longer the folders that are there.

    A watch ends with its folder, even if a new one takes its name and its inode. A folder that
    is new, or may be read now, has none yet.
    """
    return os.path.isdir(path) or (change is Change.deleted and Path(path) in roots)
