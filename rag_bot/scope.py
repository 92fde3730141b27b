"""Which documents a question is put to: by name, path, type and date.

A filter may be part of the question, as in `What is the rent? in:contracts/*.pdf`. It is taken
out before anything is searched or shown to the model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from pathspec import GitIgnoreSpec

from rag_bot.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scope:
    """What a document must fit to be searched. An empty one fits all.

    - `documents`: file names, paths, or the ends of paths, literally;
    - `patterns`: in the language of `.gitignore`, matched against the whole path and against every
      end of it that follows a slash; one that begins with a slash against the whole path only. A
      document fits if any of `documents` and `patterns` does, where there are any. It does not if
      a pattern behind a `!` matches;
    - `types`: file endings without their dot, any of them;
    - `after`, `before`: the day on which the file was last changed, in this machine's time zone.
      `after` is the first day that fits, `before` the first that does not any more.

    Case and Unicode form make no difference. `made` builds one from what a person wrote.
    """

    documents: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    after: date | None = None
    before: date | None = None

    def __bool__(self) -> bool:
        return self != _ALL

    def __str__(self) -> str:
        """As it would be written in a question."""
        parts = [f"in:{_quoted(each)}" for each in self.patterns]
        parts += [f"doc:{_quoted(each)}" for each in self.documents]
        parts += [f"type:{each}" for each in self.types]
        parts += [f"after:{self.after}"] * bool(self.after)
        parts += [f"before:{self.before}"] * bool(self.before)
        return " ".join(parts)


_ALL = Scope()


def made(
    *,
    documents: Iterable[str] = (),
    patterns: Iterable[str] = (),
    types: Iterable[str] = (),
    after: str | None = None,
    before: str | None = None,
) -> Scope:
    """A scope from what a person wrote.

    Dates are `YYYY-MM-DD`; a type may have its dot, and several may be joined by commas. Raises
    UsageError that names the value at fault.
    """
    patterns, kinds = tuple(patterns), tuple(types)
    for pattern in patterns:
        if _compiled(pattern) is None:
            raise UsageError(
                f"{pattern!r} is not a pattern that can match a document",
                "write it as in a .gitignore: contracts/*.pdf, drafts/, !old/",
            )
    for kind in kinds:
        if not _TYPE.fullmatch(kind):
            raise UsageError(f"type:{kind} is not a file ending", "write it as type:pdf")
    return Scope(
        tuple(documents),
        patterns,
        tuple(each.removeprefix(".").casefold() for kind in kinds for each in kind.split(",")),
        _day("after", after) if after is not None else None,
        _day("before", before) if before is not None else None,
    )


def take(question: str) -> tuple[str, Scope]:
    """A question without the filters in it, and the scope that they stand for.

    A filter stands between spaces: `in:PATTERN`, `doc:NAME`, `type:ENDING`, `after:DATE` or
    `before:DATE`, its value in double quotes if there is a space in it. What is none stays where
    it is, and so does every other word. Punctuation that ends a sentence ends a value without
    quotes as well, and goes to the word before. Of two dates of a kind the narrower one counts.
    Raises UsageError for a date that is none.
    """
    given: dict[str, list[str]] = {"in": [], "doc": [], "type": [], "after": [], "before": []}
    kept = ""
    at = 0
    for found in _FILTER.finditer(question):
        key = found["key"].lower()
        value, end = found["straight"] or found["curly"], found["end"]
        if value is None:
            value = found["bare"].rstrip(_ENDS)
            end = found["bare"][len(value) :]
        if not _WELL_FORMED[key](value):
            continue
        given[key].append(value)
        kept = _joined(kept, question[at : found.start()])
        kept = kept and kept.rstrip() + end
        at = found.end()
    if not at:
        return question, _ALL
    scope = replace(
        made(documents=given["doc"], patterns=given["in"], types=given["type"]),
        after=max((_day("after", each) for each in given["after"]), default=None),
        before=min((_day("before", each) for each in given["before"]), default=None),
    )
    return _joined(kept, question[at:]).strip(), scope


def without(text: str) -> str:
    """An earlier question without its filters, whatever is wrong with them."""
    try:
        return take(text)[0]
    except UsageError:
        return text


def fitting(scopes: Sequence[Scope]) -> Callable[[str, int], bool]:
    """Whether a document fits all of them, by its source and its file's date in nanoseconds."""
    tests = [_test(scope) for scope in scopes]
    return lambda source, mtime_ns: all(test(source, mtime_ns) for test in tests)


def _test(scope: Scope) -> Callable[[str, int], bool]:
    names = [_folded(name).removeprefix("./") for name in scope.documents]
    wanted = [_compiled(each) for each in scope.patterns if not each.startswith("!")]
    unwanted = [_compiled(each[1:]) for each in scope.patterns if each.startswith("!")]
    endings = tuple(f".{each}" for each in scope.types)

    def fits(source: str, mtime_ns: int) -> bool:
        path = _folded(source)
        if (names or wanted) and not (
            any(path == name or path.endswith(f"/{name}") for name in names)
            or any(matches(path) for matches in wanted if matches)
        ):
            return False
        if any(matches(path) for matches in unwanted if matches):
            return False
        if endings and not path.endswith(endings):
            return False
        if scope.after or scope.before:
            day = _day_of(mtime_ns)
            return (scope.after or date.min) <= day and (not scope.before or day < scope.before)
        return True

    return fits


def _compiled(pattern: str) -> Callable[[str], bool] | None:
    """Whether a folded path matches a pattern; None for what is no pattern."""
    plain = _folded(pattern).removeprefix("!").removeprefix("./")
    anchored = plain.startswith("/")
    try:
        (one,) = GitIgnoreSpec.from_lines([plain if anchored else f"**/{plain}"]).patterns
    except (ValueError, re.error):  # ValueError also stands for the blank pattern: it has none
        return None
    if not plain.strip("/ ") or one.include is None:  # a bracket that is never closed
        return None
    return lambda path: one.match_file(path.removeprefix("/")) is not None


def _day(word: str, text: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{word}:{text} is not a date", f"write it as {word}:2025-01-31") from None


def _day_of(mtime_ns: int) -> date:
    try:
        return date.fromtimestamp(mtime_ns // 10**9)
    except (ValueError, OverflowError, OSError):  # a file system takes any number for a date
        return date.max if mtime_ns > 0 else date.min


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def _joined(kept: str, more: str) -> str:
    return f"{kept.rstrip()} {more.lstrip()}" if kept.strip() and more.strip() else kept or more


def _quoted(value: str) -> str:
    plain = _BARE.fullmatch(value) and not value.endswith(_ENDINGS)
    return value if plain else f'"{value}"'


_ENDS = "?!.,;"
_ENDINGS = tuple(_ENDS)
_BARE = re.compile(r'[^\s"“”]+')
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TYPE = re.compile(r"\.?\w+(,\.?\w+)*")
_LIKE_A_DATE = re.compile(r"\d[\d./-]*")
_FILTER = re.compile(
    r"(?<!\S)(?P<key>in|doc|type|after|before):"
    r'(?:(?:"(?P<straight>[^"]+)"|“(?P<curly>[^”]+)”)(?P<end>[?!.,;]*)|(?P<bare>[^\s"“”]+))(?!\S)',
    re.IGNORECASE,
)
_WELL_FORMED: dict[str, Callable[[str], Any]] = {
    "in": lambda value: _compiled(value) is not None,
    "doc": str.strip,
    "type": _TYPE.fullmatch,
    "after": _LIKE_A_DATE.fullmatch,
    "before": _LIKE_A_DATE.fullmatch,
}
