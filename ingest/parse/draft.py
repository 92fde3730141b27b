"""A document while it is written: lines come in, pages and the offsets of headings come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ingest.parse.clean import clean, one_line
from ingest.parse.parsed import Parsed, refuse_endless
from rag_bot.types import Heading

Progress = Callable[[int, int | None], None]
"""Called as `progress(pages_done, pages_total)`; the total is None where it is not yet known."""


class Draft:
    """Pages written line by line.

    Every line is cleaned as it comes, so an offset taken when a heading is written stays true.
    Each is told to `progress`, and what has no end is refused: writing raises UnreadableDocument
    (`too_large`).
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pages: list[str] = []
        self._lines: list[str] = []
        self._headings: list[Heading] = []
        self._position = 0  # offset of the next line in the pages joined by form feeds
        self._page_start = 0

    @property
    def page_is_blank(self) -> bool:
        """Whether nothing has been written since the page was turned."""
        return not any(self._lines)

    def line(self, text: str, level: int = 0) -> None:
        """Write `text` (it may hold line breaks) as a heading of `level`, or 0 for none."""
        text = clean(text).rstrip()
        if level and text:
            indent = len(text) - len(text.lstrip())
            self._headings.append(Heading(self._position + indent, level, one_line(text)))
        self._lines.append(text)
        self._position += len(text) + 1
        refuse_endless(len(self._pages), self._position)
        self._progress(len(self._pages), None)

    def gap(self) -> None:
        """Write an empty line, unless the page begins here or there is one already."""
        if self._lines and self._lines[-1]:
            self.line("")

    def row(self, cells: Iterable[str]) -> None:
        """Write a table's row as `cell | cell`, unless all cells are empty."""
        texts = [one_line(cell) for cell in cells]
        if any(texts):
            self.line(" | ".join(texts))

    def turn_page(self) -> None:
        """End the page, which may be empty."""
        page = "\n".join(self._lines).rstrip()
        self._pages.append(page)
        refuse_endless(len(self._pages))
        self._lines = []
        self._page_start += len(page) + 1
        self._position = self._page_start

    def parsed(self, media_type: str, title: str = "", notes: Iterable[str] = ()) -> Parsed:
        """End the last page, if anything is on it, and hand over the whole."""
        if self._lines or not self._pages:
            self.turn_page()
        return Parsed(
            media_type, tuple(self._pages), one_line(title), tuple(self._headings), tuple(notes)
        )
