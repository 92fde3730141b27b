"""Which files a path stands for, and which are left out, each with its reason."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from rag_bot.errors import UsageError


class Patterns(NamedTuple):
    """Which files below a root are wanted, in the language of `.gitignore`.

    Where `include` names anything, only files that match it are taken; `exclude` wins over it. A
    later `!pattern` takes back what an earlier one matched, though not below a folder that is
    excluded as a whole.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Found(NamedTuple):
    """A file to index. `source` is its absolute path as text."""

    path: Path
    source: str
    size: int
    mtime_ns: int


class Skipped(NamedTuple):
    """Something left out on purpose, why, and how to have it all the same.

    `code` is one of `symlink`, `hidden`, `office_lock`, `special_file`, `own_data`, `excluded`,
    `not_included`.
    """

    source: str
    code: str
    reason: str
    remedy: str


class Blocked(NamedTuple):
    """A file or folder that should be read and can't be (`code` is `unreadable`).

    What is below it is unknown, not gone.
    """

    source: str
    code: str
    reason: str
    remedy: str


Listed = Found | Skipped | Blocked

_ALL = Patterns()

_LEFT_OUT = {
    "symlink": ("symbolic link: not followed", "ingest what it points to by its own path"),
    "hidden": ("hidden: its name begins with a dot", "rename it, or ingest it by its own path"),
    "own_data": ("rag-bot's own data", "nothing to do"),
    "office_lock": ("lock file of an office program", "nothing to do"),
    "special_file": ("not a regular file", "nothing to do"),
    "excluded": ("excluded by pattern", "change ingest's exclude patterns to have it"),
    "not_included": ("not included by any pattern", "change ingest's include patterns to have it"),
}


def scan(path: Path, leave_out: Path, patterns: Patterns = _ALL) -> Iterator[Listed]:
    """One file, or everything below a folder except `leave_out`, sorted by path.

    Patterns are matched against paths relative to the folder, or a single file's name. Symbolic
    links are not followed, so nothing outside the folder is ever read. Hidden and excluded folders
    are named once, not walked. Raises UsageError for a path that isn't there, and for a pattern
    that is none.
    """
    place = resolve(path)
    wanted = _Wanted(patterns)
    if place.is_dir():
        yield from _walk(place, "", leave_out, wanted)
    else:
        yield wanted.refuses(place, place.name) or _classify(place)


def resolve(path: Path) -> Path:
    """The real, absolute path. Raises UsageError if there is nothing at it."""
    try:
        return path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError):
        raise UsageError(f"no file or folder at {path}", "check the path") from None


def name(path: Path) -> str:
    """A path as text that SQLite and JSON can hold, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Wanted:
    """Compiled patterns. Paths are relative, with slashes; a folder's ends with one."""

    def __init__(self, patterns: Patterns) -> None:
        self._include = _compiled(patterns.include)
        self._exclude = _compiled(patterns.exclude)

    def refuses(self, path: Path, relative: str) -> Skipped | None:
        if self._exclude and self._exclude.match_file(relative):
            return _left_out(path, "excluded")
        folder = relative.endswith("/")
        if self._include and not folder and not self._include.match_file(relative):
            return _left_out(path, "not_included")
        return None


def _compiled(patterns: Sequence[str]) -> GitIgnoreSpec | None:
    for pattern in patterns:
        try:
            (made,) = GitIgnoreSpec.from_lines([pattern]).patterns
            usable = made.include is not None  # a comment, or a bracket that is never closed
        except (ValueError, re.error):  # ValueError also stands for the blank pattern: it has none
            usable = False
        if not usable:
            raise UsageError(
                f"{pattern!r} is not a pattern that can match a file",
                "write it as in a .gitignore: *.pdf, drafts/, !keep.pdf",
            )
    return GitIgnoreSpec.from_lines(patterns) if patterns else None


def _walk(folder: Path, below: str, leave_out: Path, wanted: _Wanted) -> Iterator[Listed]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Blocked(
            name(folder),
            "unreadable",
            f"folder can't be listed: {error.strerror}",
            "check its permissions",
        )
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            yield _left_out(path, "symlink")
        elif entry.name.startswith("."):
            yield _left_out(path, "hidden")
        elif entry.is_dir(follow_symlinks=False):
            inner = f"{below}{entry.name}/"
            if path == leave_out:
                yield _left_out(path, "own_data")
            elif refused := wanted.refuses(path, inner):
                yield refused
            else:
                yield from _walk(path, inner, leave_out, wanted)
        elif entry.name.startswith("~$"):
            yield _left_out(path, "office_lock")
        else:
            yield wanted.refuses(path, below + entry.name) or _classify(path)


def _classify(path: Path) -> Listed:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError as error:
        return Blocked(
            name(path), "unreadable", f"can't be read: {error.strerror}", "check its permissions"
        )
    if not stat.S_ISREG(status.st_mode):
        return _left_out(path, "special_file")
    return Found(path, name(path), status.st_size, status.st_mtime_ns)


def _left_out(path: Path, code: str) -> Skipped:
    return Skipped(name(path), code, *_LEFT_OUT[code])
