"""What every parser returns, and how much of it there may be."""

from __future__ import annotations

from dataclasses import dataclass

from rag_bot.errors import UnreadableDocument
from rag_bot.types import Heading

MAX_PAGES = 20_000
MAX_CHARACTERS = 20_000_000
"""Some 10,000 printed pages. Reading as many took 0.42 GB, and 0.1 GB where they go."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's text, page by page.

    `pages` holds one string a page, slide, sheet or chapter (a single one where the format has no
    pages); none contains a form feed, a NUL or a lone surrogate. `headings` are in order, their
    `char_start` an offset into the pages joined by form feeds. `title` is the author's, or empty.
    `notes` are things a person should know (`"attachment bill.pdf was not read"`). `blank_pages`
    are the numbers of pages without text (scans, pictures); `ingest.parse.parse` fills them in.
    """

    media_type: str
    pages: tuple[str, ...]
    title: str = ""
    headings: tuple[Heading, ...] = ()
    notes: tuple[str, ...] = ()
    blank_pages: tuple[int, ...] = ()


def refuse_endless(pages: int, characters: int = 0) -> None:
    """Raise UnreadableDocument (`too_large`) for more pages or text than a document may have."""
    if pages > MAX_PAGES:
        much = f"has {pages:,} pages, more than {MAX_PAGES:,}"
    elif characters > MAX_CHARACTERS:
        much = f"holds more than {MAX_CHARACTERS:,} characters of text"
    else:
        return
    raise UnreadableDocument("too_large", much, "split it")
