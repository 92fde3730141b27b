"""Which files a path stands for, and which are left out, each with its reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rag_bot.errors import UsageError


class Found(NamedTuple):
    """A file to index. `source` is its absolute path as text."""

    path: Path
    source: str
    size: int
    mtime_ns: int


class Skipped(NamedTuple):
    """Something left out on purpose, and why."""

    source: str
    reason: str


class Blocked(NamedTuple):
    """A file or folder that should be read and can't be. What is below it is unknown, not gone."""

    source: str
    reason: str


Listed = Found | Skipped | Blocked


def scan(path: Path, leave_out: Path) -> Iterator[Listed]:
    """One file, or everything below a folder except `leave_out`, sorted by path.

    Symbolic links are not followed, so nothing outside the folder is ever read. Hidden folders
    are named once, not walked. Raises UsageError for a path that isn't there.
    """
    place = resolve(path)
    if place.is_dir():
        yield from _walk(place, leave_out)
    else:
        yield _classify(place)


def resolve(path: Path) -> Path:
    """The real, absolute path. Raises UsageError if there is nothing at it."""
    try:
        return path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError):
        raise UsageError(f"no file or folder at {path}", "check the path") from None


def name(path: Path) -> str:
    """A path as text that SQLite and JSON can hold, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(folder: Path, leave_out: Path) -> Iterator[Listed]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Blocked(name(folder), f"unreadable: folder can't be listed: {error.strerror}")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            yield Skipped(name(path), "symbolic link: not followed")
        elif entry.name.startswith("."):
            yield Skipped(name(path), "hidden")
        elif entry.is_dir(follow_symlinks=False):
            if path == leave_out:
                yield Skipped(name(path), "rag-bot's own data")
            else:
                yield from _walk(path, leave_out)
        elif entry.name.startswith("~$"):
            yield Skipped(name(path), "lock file of an office program")
        else:
            yield _classify(path)


def _classify(path: Path) -> Listed:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError as error:
        return Blocked(name(path), f"unreadable: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(name(path), "not a regular file")
    return Found(path, name(path), status.st_size, status.st_mtime_ns)
