"""What an ingest did, file by file."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Status = Literal["indexed", "moved", "unchanged", "removed", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file's end.

    `moved`: the same content was known under the path `moved_from`, and nothing was embedded.
    What was rejected (skipped or failed) has a `code` for programs, a `reason` and, where there is
    one, a `remedy`. `blank_pages` hold no text, as scans do not.
    """

    path: str
    status: Status
    reason: str = ""
    pages: int = 0
    chunks: int = 0
    code: str = ""
    remedy: str = ""
    blank_pages: tuple[int, ...] = ()
    moved_from: str = ""


_FIELDS = tuple(field.name for field in dataclasses.fields(FileResult))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `pages` and `chunks` count what was indexed so far."""

    done: int
    total: int
    pages: int
    chunks: int
    result: FileResult


@dataclass(frozen=True, slots=True)
class Report:
    """A run's end: every file that was found, and every document that went.

    Files found = indexed + moved + unchanged + skipped + failed. `warnings` are about the run as
    a whole, such as a removal that was not carried out. Of a dry run, it is what would happen.
    """

    files: tuple[FileResult, ...]
    seconds: float
    embedded: int
    warnings: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """Whether the index now equals the folder, as far as documents go."""
        return not self.warnings and not any(each.status == "failed" for each in self.files)

    def as_json(self) -> dict[str, Any]:
        """The object that `ingest --json` prints."""
        return self._with(self.files)

    def as_record(self, most: int) -> dict[str, Any]:
        """The same for the ledger: of the files only the first `most` that failed."""
        return self._with([each for each in self.files if each.status == "failed"][:most])

    def _with(self, files: Sequence[FileResult]) -> dict[str, Any]:
        return {
            **self._counts(),
            "files": [{field: getattr(each, field) for field in _FIELDS} for each in files],
            "embedded": self.embedded,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
        }

    def _counts(self) -> dict[str, int]:
        counts = Counter(each.status for each in self.files)
        words: tuple[Status, ...] = get_args(Status)
        found = len(self.files) - counts["removed"]
        return {"found": found, **{status: counts[status] for status in words}}


def report_from_json(data: dict[str, Any]) -> Report:
    """A report that travelled as JSON."""
    return Report(
        files=tuple(result_from_json(each) for each in data["files"]),
        seconds=data["seconds"],
        embedded=data["embedded"],
        warnings=tuple(data["warnings"]),
        dry_run=data["dry_run"],
    )


def result_from_json(data: dict[str, Any]) -> FileResult:
    """A file's end that travelled as JSON."""
    return FileResult(**{**data, "blank_pages": tuple(data["blank_pages"])})
