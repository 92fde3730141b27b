"""What every parser returns, and the one way it fails."""

from __future__ import annotations

from dataclasses import dataclass

from rag_bot.types import Heading


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's text, page by page.

    `pages` holds one string a page, slide, sheet or chapter (a single one where the format has no
    pages); none contains a form feed, a NUL or a lone surrogate. `headings` are in order, their
    `char_start` an offset into the pages joined by form feeds. `title` is the author's, or empty.
    `notes` are things a person should know (`"pages 3, 4 hold no text"`).
    """

    media_type: str
    pages: tuple[str, ...]
    title: str = ""
    headings: tuple[Heading, ...] = ()
    notes: tuple[str, ...] = ()
