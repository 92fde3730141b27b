"""Rows: what a run keeps of each case. Every metric is computed from rows, without a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from eval.cases import GoldenCase
from rag_bot.errors import UsageError
from rag_bot.types import Label


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that retrieval found, by its place. Ranks follow from the order."""

    chunk_id: str
    document: str
    page: int
    score: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A source that the model was shown under a number."""

    marker: int
    chunk_id: str
    document: str
    page: int
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation of the answer. `verbatim`: the quote stands on that page, letter for letter."""

    marker: int
    document: str
    page: int
    quote: str
    verbatim: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim of the answer, what code found out about it, and the markers it kept."""

    claim: str
    label: Label
    score: float
    markers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One case as it went.

    `ranking` is the retrieval's, deeper than what was shown; `sources` what fitted the prompt
    (or would have). `draft` is the text as it streamed, `answer` what `Finished` made of it.
    `missing` are relevant pages that no longer hold their quote: they were not parsed. `error` is
    empty unless the case could not be run; then only `case`, `timings` and it mean something.
    `answered` is false for a run of retrieval alone. `timings` are seconds by stage; `tokens`
    counts the draft's. `reference_nll` is the mean negative log-likelihood per token (nats) of the
    first reference, where it was asked for. An answer in parts has neither of them, and no
    `prompt_sha256`: each part has its own prompt. `judged_right` is what a judge model said, if
    any.
    """

    case: GoldenCase
    query: str = ""
    ranking: tuple[Hit, ...] = ()
    sources: tuple[Shown, ...] = ()
    cut: tuple[Shown, ...] = ()
    prompt_sha256: str = ""
    answered: bool = False
    answer: str = ""
    draft: str = ""
    citations: tuple[Cited, ...] = ()
    verdicts: tuple[Judged, ...] = ()
    unresolved: tuple[int, ...] = ()
    abstained: bool = False
    reason: str = ""
    confidence: float = 0.0
    missing: tuple[int, ...] = ()
    model_id: str = ""
    tokens: int = 0
    reference_nll: float | None = None
    judged_right: bool | None = None
    error: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)


_FORM = TypeAdapter(Row)


def to_line(row: Row) -> str:
    """A row as its line of `rows.jsonl`, under the id by which a deletion takes it out."""
    return json.dumps({"id": row.case.id, **asdict(row)}, ensure_ascii=False)


def read(path: Path) -> list[Row]:
    """The rows of a file. A last line that a kill cut short is left out.

    Raises UsageError that names the line of a bad one.
    """
    rows: list[Row] = []
    lines = path.read_bytes().split(b"\n")  # a kill may cut within a letter
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_FORM.validate_json(line))
        except ValidationError as error:
            if number == len(lines):  # only whole lines end with a line feed
                break
            what = error.errors()[0]["msg"]
            raise UsageError(
                f"{path}, line {number}: {what}", "run the evaluation anew into another folder"
            ) from None
    return rows


def write(path: Path, rows: Iterable[Row]) -> None:
    """All rows as a file, at once: a kill leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(to_line(row) + "\n" for row in rows), "utf-8")
    new.replace(path)
