"""Golden cases: questions whose right answer, and the pages that hold it, a person has named.

A set is a file of JSON lines. Pages are named, not chunks, so that cutting documents differently
never spoils it.

    {"id": "lease-end", "question": "When does the lease end?", "answerable": true,
     "reference": ["31 March 2031"], "tags": ["single"], "history": [],
     "relevant": [{"document": "lease.pdf", "page": 3, "quote": "ends on 31 March 2031"}]}

A case whose answer is several facts may name them, each in the wordings that will do:
`"nuggets": [["31 March 2031"], ["twelve months", "12 months"]]`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_bot.errors import UsageError
from rag_bot.types import Message

DRAFT = "draft"
"""The tag of a case that no person has accepted yet: it is read, counted, and not asked."""


@dataclass(frozen=True, slots=True)
class PageRef:
    """A page that must be found. `page` counts from 1; None means anywhere in the document.

    `document` is a file's name. `quote`, if given, is the text on it that proves the answer.
    """

    document: str
    page: int | None
    quote: str = ""


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """A question and what a right answer to it is.

    `references` are accepted answers, the best one first; none for an unanswerable question, which
    has no relevant pages either. `nuggets` are what an answer must say where it is several things,
    each with its accepted wordings. `group` is what the case was drawn with (an article, a
    document): cases of one group are resampled together.
    """

    id: str
    question: str
    references: tuple[str, ...]
    relevant: tuple[PageRef, ...]
    answerable: bool = True
    history: tuple[Message, ...] = ()
    tags: tuple[str, ...] = ()
    group: str = ""
    nuggets: tuple[tuple[str, ...], ...] = ()

    @property
    def cluster(self) -> str:
        """What the case is resampled with."""
        return self.group or (self.relevant[0].document if self.relevant else self.id)


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """The cases of a file. `lines` says where each id stands, `drafts` how many were left out."""

    path: Path
    cases: tuple[GoldenCase, ...]
    lines: Mapping[str, int] = field(default_factory=dict)
    drafts: int = 0

    @property
    def sha256(self) -> str:
        """Hash of what the cases say, however the file is laid out."""
        return hashlib.sha256("\n".join(map(to_json, self.cases)).encode()).hexdigest()


def read(path: Path) -> GoldenSet:
    """The accepted cases of a file.

    Raises UsageError that names the file and the line of the first bad one, or an empty file.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}", "check the path given") from None
    cases: list[GoldenCase] = []
    lines: dict[str, int] = {}
    drafts = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        case = _case(path, number, line)
        if case.id in lines:
            raise UsageError(
                f"{path}, line {number}: the id {case.id!r} stands on line {lines[case.id]} too",
                "give it another",
            )
        lines[case.id] = number
        if DRAFT in case.tags:
            drafts += 1
        else:
            cases.append(case)
    if not cases:
        remedy = "accept drafts by removing their tag" if drafts else "write one case a line"
        raise UsageError(f"{path} holds no case ({drafts} drafts)", remedy)
    return GoldenSet(path, tuple(cases), lines, drafts)


def write(path: Path, cases: Iterable[GoldenCase]) -> None:
    """The cases as a file, one a line."""
    path.write_text("".join(to_json(case) + "\n" for case in cases), "utf-8")


def to_json(case: GoldenCase) -> str:
    """A case as its line of a file."""
    row: dict[str, Any] = {
        "id": case.id,
        "question": case.question,
        "reference": list(case.references),
        "relevant": [
            {"document": ref.document, "page": ref.page}
            | ({"quote": ref.quote} if ref.quote else {})
            for ref in case.relevant
        ],
        "answerable": case.answerable,
    }
    if case.history:
        row["history"] = [{"role": each.role, "text": each.text} for each in case.history]
    if case.tags:
        row["tags"] = list(case.tags)
    if case.group:
        row["group"] = case.group
    if case.nuggets:
        row["nuggets"] = [list(each) for each in case.nuggets]
    return json.dumps(row, ensure_ascii=False)


def from_json(row: object) -> GoldenCase:
    """The reverse of `to_json`, parsed. Raises pydantic's ValidationError."""
    form = _Form.model_validate(row)
    references = [form.reference] if isinstance(form.reference, str) else form.reference
    return GoldenCase(
        id=form.id,
        question=form.question,
        references=tuple(each for each in references if each.strip()),
        relevant=tuple(PageRef(each.document, each.page, each.quote) for each in form.relevant),
        answerable=form.answerable,
        history=tuple(Message(each.role, each.text) for each in form.history),
        tags=tuple(form.tags),
        group=form.group,
        nuggets=tuple(map(tuple, form.nuggets)),
    )


def check_places(golden: GoldenSet, pages: Mapping[str, int]) -> None:
    """Every page that a case names is there. `pages` counts each document's pages by file name.

    Raises UsageError with the line of the first case that names another.
    """
    for case in golden.cases:
        where = f"{golden.path}, line {golden.lines.get(case.id, 0)}"
        for ref in case.relevant:
            count = pages.get(ref.document)
            if count is None:
                raise UsageError(
                    f"{where}: there is no document {ref.document!r} in the collection",
                    "ingest it, or mend the name; `rag-bot documents` lists them",
                )
            if ref.page is not None and ref.page > count:
                raise UsageError(
                    f"{where}: {ref.document} has {count} pages, not {ref.page}", "mend the page"
                )


def sample(cases: Sequence[GoldenCase], limit: int | None, seed: int) -> list[GoldenCase]:
    """So many cases drawn at random, answerable and unanswerable in their proportion, in order."""
    if limit is None or limit >= len(cases):
        return list(cases)
    chance = random.Random(seed)
    kept: set[str] = set()
    answerable = [case.id for case in cases if case.answerable]
    others = [case.id for case in cases if not case.answerable]
    share = round(limit * len(answerable) / len(cases))
    kept |= set(chance.sample(answerable, share)) | set(chance.sample(others, limit - share))
    return [case for case in cases if case.id in kept]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Ref(_Strict):
    document: str = Field(min_length=1)
    page: int | None = Field(None, ge=1)
    quote: str = ""


class _Turn(_Strict):
    role: Literal["user", "assistant"]
    text: str


class _Form(_Strict):
    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    reference: str | list[str] = []
    relevant: list[_Ref] = []
    answerable: bool = True
    history: list[_Turn] = []
    tags: list[str] = []
    group: str = ""
    nuggets: list[Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _agrees(self) -> _Form:
        has = bool(self.relevant)
        if self.answerable and not has:
            raise ValueError("answerable, but no relevant page is named")
        if not self.answerable and has:
            raise ValueError("unanswerable, but pages are named that answer it")
        if not self.answerable and (any(self.reference) or self.nuggets):
            raise ValueError("unanswerable, but an answer is given")
        if self.nuggets and not any(self.reference):
            raise ValueError("nuggets are named, but no reference")
        return self


def _case(path: Path, number: int, line: str) -> GoldenCase:
    try:
        return from_json(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise UsageError(f"{path}, line {number}: {what}", "`eval/cases.py` shows a case") from None
    except (ValueError, RecursionError) as error:  # of a number or a nesting beyond reason too
        raise UsageError(f"{path}, line {number}: {error}", "one JSON object a line") from None
