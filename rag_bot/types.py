"""The types that carry a question to its answer.

Frozen, without behaviour beyond what follows from their own fields, and importing nothing of
ours: every other module may import this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PAGE_SEPARATOR = "\f"
"""Joins the pages of a document into its text. Never occurs inside a page."""
OMITTED = " … "
"""Stands for what is not shown of a chunk."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page, slide, sheet or chapter. `number` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document.

    `char_start` is an offset into the document's text; `level` counts from 1 (outermost).
    """

    char_start: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A source file as text.

    `source` is where it came from (an absolute path, or `upload:NAME`), `sha256` the hash of the
    file's bytes, `title` what its author called it (or the file's name).
    """

    id: str
    source: str
    sha256: str
    pages: tuple[Page, ...]
    title: str = ""
    headings: tuple[Heading, ...] = ()

    @property
    def text(self) -> str:
        """The pages joined by form feeds: what every offset counts in."""
        return PAGE_SEPARATOR.join(page.text for page in self.pages)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document, small enough for the embedder to read whole.

    `document.text[char_start:char_end] == text`, always. A chunk never crosses a page, so
    `page_start == page_end`; both are kept for chunkers that do. `heading` is the path of headings
    above it (`"Refunds > Digital goods"`) and the header row of a table that it continues, none of
    which is part of its text.
    """

    id: str
    document_id: str
    text: str
    page_start: int
    page_end: int
    char_start: int
    char_end: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A chunk and what a retriever thought of it. Higher is better; scales differ by retriever."""

    chunk: Chunk
    score: float
    retriever: Literal["dense", "lexical", "hybrid"]


def probability(log_odds: float) -> float:
    """The logistic function; beyond ±30 it is taken for 0 or 1."""
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))


def log_odds(p: float) -> float:
    """Its inverse; what is nearer to 0 or 1 than a millionth is taken for that."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader found in one passage for one question.

    `relevance` is what the passage is ranked by, as log-odds, `answerable` the probability that
    it holds the answer, and `start`, `end` the offsets in the passage's text of the words
    that answer best, whether or not they do. `span` is the log-odds of those words against "no
    answer here".
    """

    relevance: float
    answerable: float
    start: int
    end: int
    span: float


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A chunk as shown to the model under a number.

    `document` is the file's name for people, `source` its full path. `reading` is what the reader
    found in the chunk, where there is one. `shown` are the slices of the chunk's text that the
    model is shown; none stands for the whole.
    """

    marker: int
    chunk: Chunk
    document: str
    source: str
    score: float
    reading: Reading | None = None
    shown: tuple[tuple[int, int], ...] = ()

    @property
    def excerpt(self) -> str:
        """The text that the model is shown."""
        text = self.chunk.text
        return OMITTED.join(text[a:b] for a, b in self.shown) if self.shown else text


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker resolved to a place: `quote` is exactly `document.text[char_start:char_end]`."""

    marker: int
    chunk_id: str
    document_id: str
    document: str
    page: int
    quote: str
    char_start: int
    char_end: int


Label = Literal["supported", "unsupported"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What code found out about one claim (a sentence of the answer).

    `claim` is a slice of the answer's text without markers; `score` is in [0, 1], how much of the
    claim its best source sentence bears out.
    """

    claim: str
    citations: tuple[Citation, ...]
    label: Label
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of the line.

    `query` is the standalone form of `question` that was searched for. `reason` says why the bot
    abstained, and is empty otherwise. `unresolved` lists markers the model wrote that name no
    source. `parts` are those that a question was answered in, in the user's words, and
    `unanswered` those of them that got no answer; none for a question that was answered as one.
    `confidence`, in [0, 1], is how much speaks for the answer; of two answers the
    one with the lower one should be withheld first. `timings` are seconds per stage.
    """

    question: str
    query: str
    text: str
    sources: tuple[Source, ...]
    citations: tuple[Citation, ...]
    verdicts: tuple[Verdict, ...]
    abstained: bool
    reason: str
    model_id: str
    timings: Mapping[str, float] = field(default_factory=dict)
    unresolved: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Event: the standalone query and the sources found for it, before any word is written."""

    query: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """Event: more text of the answer. Joined, they are the draft that `Finished` confirms."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Event, always the last: the answer. Its text replaces the draft when the bot abstained."""

    answer: Answer


Event = Retrieved | Token | Finished
"""What `Pipeline.answer` yields: one `Retrieved`, any number of `Token`, one `Finished`."""
