"""Files to text: `parse` tells what a file is by its content and has its format's module read it.

Importing this package is cheap; a format's library is imported when its first file comes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module

from ingest.parse.clean import one_line
from ingest.parse.draft import Progress
from ingest.parse.parsed import Parsed, refuse_endless
from ingest.parse.sniff import identify
from rag_bot.errors import DocumentError, UnreadableDocument

__all__ = ["Parsed", "Progress", "parse"]

_MODULES = {
    "application/epub+zip": "epub",
    "application/json": "json_",
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "message/rfc822": "email_",
    "text/csv": "table",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/plain": "plain",
}

_FORBIDDEN = re.compile("[\f\0\ud800-\udfff]")

MAX_HEADINGS = 20_000
MAX_HEADING_CHARACTERS = 300
"""Of a heading or title; what is longer is a paragraph."""
MAX_NOTES = 20


def parse(name: str, data: bytes, progress: Progress | None = None) -> Parsed:
    """Read a file's bytes as pages of text.

    `name` is only a hint to what the file is. `progress(pages_done, pages_total)` is called after
    each page, so that a watchdog can tell a long file from a hang.

    Raises NotADocument (`unknown_type`) for what is no document, and UnreadableDocument (`empty`,
    `encrypted`, `damaged`, `no_text`, `too_large`) for one that gives no text. Neither message
    names the file.
    """
    if not data.strip(b" \t\r\n\f\v\0\xef\xbb\xbf\xfe\xff"):
        raise UnreadableDocument("empty", "the file is empty", "add it again once it has content")
    media_type = identify(name, data)
    module = _MODULES[media_type]
    try:
        parsed: Parsed = import_module(f"ingest.parse.{module}").parse(data, progress or _ignore)
    except (DocumentError, MemoryError):
        raise
    except RecursionError as error:
        raise UnreadableDocument(
            "damaged", "nested deeper than any document", "have it written anew, with less depth"
        ) from error
    # Ten libraries read hostile bytes here, and none lists what it may raise (KeyError, struct
    # .error, RecursionError, zlib.error, ...). Whatever it is, it means that this file cannot be
    # read and that the next one can. This is the only place that may say so.
    except Exception as error:
        what = module.strip("_").upper()
        reason = one_line(f"{type(error).__name__}: {error}")[:200]
        raise UnreadableDocument(
            "damaged",
            f"damaged, or not really {what} ({reason})",
            "open it in the program it came from, save it again, and add the new file",
        ) from error
    return _checked(parsed)


def _ignore(done: int, total: int | None) -> None:
    """The progress nobody watches."""


def _checked(parsed: Parsed) -> Parsed:
    """`parsed` with the promises of Parsed kept, or `no_text`, or `too_large`."""
    refuse_endless(len(parsed.pages), sum(map(len, parsed.pages)))
    if not any(page.strip() for page in parsed.pages):
        raise UnreadableDocument(
            "no_text",
            "holds no text (a scan, or only pictures)",
            "run OCR on it (for a PDF: ocrmypdf in.pdf out.pdf) and add the result",
        )
    # One character for one, so every offset stays true.
    pages = tuple(
        _FORBIDDEN.sub(lambda bad: "\n" if bad[0] == "\f" else "\ufffd", page)
        for page in parsed.pages
    )
    end = sum(len(page) + 1 for page in pages) - 1
    headings = sorted(
        (
            replace(heading, text=heading.text[:MAX_HEADING_CHARACTERS])
            for heading in parsed.headings
            if heading.text and heading.char_start < end
        ),
        key=lambda heading: heading.char_start,
    )
    notes = [one_line(note)[:MAX_HEADING_CHARACTERS] for note in parsed.notes[:MAX_NOTES]]
    if len(parsed.notes) > MAX_NOTES:
        notes.append(f"and {len(parsed.notes) - MAX_NOTES:,} notes more")
    while len(headings) > MAX_HEADINGS:
        # Every chunk is told what it stands under, and looks for it among all of them.
        deepest = max(heading.level for heading in headings)
        notes.append(f"too many headings: those of level {deepest} count as text")
        headings = [heading for heading in headings if heading.level < deepest]
    return replace(
        parsed,
        pages=pages,
        title=parsed.title[:MAX_HEADING_CHARACTERS],
        headings=tuple(headings),
        notes=tuple(notes),
        blank_pages=tuple(n for n, page in enumerate(pages, 1) if not page.strip()),
    )
