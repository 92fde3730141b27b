"""A document to chunks: by page, then by heading, then by sentence, never past the limit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from rag_bot.catalogue import chunk_id
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Heading, Page

TITLE_TOKENS = 24
_CONTEXT_TOKENS = 54
"""Kept free for the title and headings of a document that has any."""
_SMALL = 24
"""A section shorter than this (a heading alone, a line) joins the next one of its page."""
_PATH = " > "
_CELLS = " | "
_VALUE = re.compile(r"\d|: ")
"""Not in a column's name. Rows of sheets and CSV files name theirs themselves: "City: Ulvik"."""


class Span(NamedTuple):
    """A stretch of the document's text."""

    start: int
    end: int


def chunk(document: Document, pieces: WordPieces, limit: int) -> tuple[Chunk, ...]:
    """Cut a document so that each chunk and its heading path fit the embedder.

    `limit` bounds a chunk's own text, in word pieces; together with title and headings it stays
    within `pieces.limit`. Every character that is not white space lies in exactly one chunk, and
    `document.text[chunk.char_start:chunk.char_end] == chunk.text`.
    """
    text = document.text
    structured = bool(document.title or document.headings or _CELLS in text)
    limit = min(limit, pieces.limit - (_CONTEXT_TOKENS if structured else 0))
    room = pieces.limit - limit - pieces.count(document.title) - 4
    chunks: list[Chunk] = []
    start = 0
    for page in document.pages:
        before, columns = start, None
        for section in _sections(page, start, document.headings, pieces):
            for span in _split(text, section, pieces, limit):
                columns = _columns(text[before : span.start], text[span.start : span.end], columns)
                before = span.start
                above = [*_above(document.headings, span), *filter(None, [columns])]
                chunks.append(
                    Chunk(
                        id=chunk_id(document.id, len(chunks)),
                        document_id=document.id,
                        text=text[span.start : span.end],
                        page_start=page.number,
                        page_end=page.number,
                        char_start=span.start,
                        char_end=span.end,
                        heading=_path(above, pieces, room),
                    )
                )
        start += len(page.text) + 1
    return tuple(chunks)


def _sections(
    page: Page, start: int, headings: Sequence[Heading], pieces: WordPieces
) -> Iterator[Span]:
    end = start + len(page.text)
    cuts = sorted({h.char_start for h in headings if start < h.char_start < end} | {end})
    begin = start
    for cut in cuts:
        if cut == end or pieces.count(page.text[begin - start : cut - start]) >= _SMALL:
            yield Span(begin, cut)
            begin = cut


def _split(text: str, section: Span, pieces: WordPieces, limit: int) -> Iterator[Span]:
    """Sentences packed greedily; the text of each piece is found again, exactly, in order."""
    position = section.start
    for piece in _splitter(pieces, limit)(text[section.start : section.end]):
        if not piece:  # what the splitter makes of an empty page
            continue
        start = text.index(piece, position, section.end)
        if text[position:start].strip():
            raise AssertionError("the splitter skipped text")
        position = start + len(piece)
        yield Span(start, position)


@cache
def _splitter(pieces: WordPieces, limit: int) -> Callable[[str], list[str]]:
    with contextlib.suppress(ImportError):  # before 3.10, nltk has no such limit
        from nltk import redos  # type: ignore[import-untyped]

        # It gives up on a text after five seconds, however long it is.
        redos.DEFAULT_TIMEOUT = None
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

    sentences = split_by_sentence_tokenizer()

    def lines_of_long_sentences(text: str) -> list[str]:
        # A table has no full stops: to the sentence tokenizer it is one sentence, which would be
        # cut anywhere. Its rows are better places.
        found: list[str] = []
        for sentence in sentences(text):
            long = pieces.count(sentence) > limit
            found += sentence.splitlines(keepends=True) if long else [sentence]
        return found

    splitter = SentenceSplitter(
        chunk_size=limit,
        chunk_overlap=0,
        # What costs nothing (a lone accent, U+200B) would be repeated as overlap of size 0.
        tokenizer=lambda text: range(max(1, pieces.count(text))),
        paragraph_separator="\n\n",
        chunking_tokenizer_fn=lines_of_long_sentences,
        include_metadata=False,
    )
    return splitter.split_text


def _above(headings: Sequence[Heading], span: Span) -> list[str]:
    """The headings above a span, outermost first."""
    above: list[Heading] = []
    for heading in headings:
        if heading.char_start >= span.end:
            break
        if heading.char_start > span.start:
            continue
        while above and above[-1].level >= heading.level:
            above.pop()
        above.append(heading)
    return [re.sub(r"\s+", " ", heading.text).strip() for heading in above]


def _columns(before: str, text: str, columns: str | None) -> str | None:
    """The header of the table in whose middle a chunk begins, or "" if it names no columns.

    None where no table goes on. `before` is the chunk before it on its page, and `columns` what
    this said of that one: no more is looked at, for a table may have a million rows.
    """
    rows = before.splitlines()
    table = list(takewhile(lambda row: _CELLS in row, reversed(rows)))
    if not table or _CELLS not in text.partition("\n")[0]:
        return None
    if len(table) == len(rows) and columns is not None:
        return columns
    cells = [cell.strip() for cell in table[-1].strip("| ").split("|")]
    named = len(cells) > 1 and all(cells) and not any(_VALUE.search(cell) for cell in cells)
    return _CELLS.join(cells) if named else ""


def _path(names: list[str], pieces: WordPieces, room: int) -> str:
    """As one line; the outermost go when there is no room."""
    while names and pieces.count(_PATH.join(names)) > room:
        names = names[1:]
    return _PATH.join(names)
