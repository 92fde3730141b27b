"""What an ingest did, file by file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["indexed", "unchanged", "removed", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file's end. `reason` is empty unless something is to be said about it."""

    path: str
    status: Status
    reason: str = ""
    pages: int = 0
    chunks: int = 0


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

    `warnings` are about the run as a whole, such as a removal that was not carried out.
    """

    files: tuple[FileResult, ...]
    seconds: float
    embedded: int
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the index now equals the folder, as far as documents go."""
        return not self.warnings and not any(each.status == "failed" for each in self.files)

    def as_json(self) -> dict[str, Any]:
        """The object that `ingest --json` prints."""
        counts = Counter(each.status for each in self.files)
        words: tuple[Status, ...] = ("indexed", "unchanged", "removed", "skipped", "failed")
        return {
            **{status: counts[status] for status in words},
            "files": [
                {
                    "path": each.path,
                    "status": each.status,
                    "reason": each.reason,
                    "pages": each.pages,
                    "chunks": each.chunks,
                }
                for each in self.files
            ],
            "embedded": self.embedded,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def report_from_json(data: dict[str, Any]) -> Report:
    """A report that travelled as JSON."""
    return Report(
        files=tuple(FileResult(**each) for each in data["files"]),
        seconds=data["seconds"],
        embedded=data["embedded"],
        warnings=tuple(data["warnings"]),
    )
