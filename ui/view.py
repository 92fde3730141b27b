"""A cited page as plain HTML: the quote marked in its text and, for a PDF, on a picture of it."""

from __future__ import annotations

import hashlib
import html
import io
import multiprocessing
import threading
import unicodedata
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ingest.worker import limit_memory
from rag_bot.types import PAGE_SEPARATOR, Citation, Document, Source

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""A document's text may hold anything: none of it may run, load or be kept."""

_DOTS_PER_INCH = 110
_LARGEST_SIDE = 2200
_LARGEST_FILE = 200_000_000
_PICTURE_SECONDS = 30.0
_PICTURE_BYTES = 1_000_000_000
_drawing = threading.Lock()


class Shown(NamedTuple):
    """A page of a document, and the part of it that is marked: offsets into the page's text."""

    number: int
    text: str
    start: int
    end: int


def quote_link(place: Citation | Source) -> str:
    """Where a citation, or the whole of a source, can be read."""
    if isinstance(place, Source):
        chunk = place.chunk
        return _link(chunk.document_id, chunk.page_start, chunk.char_start, chunk.char_end)
    return _link(place.document_id, place.page, place.char_start, place.char_end)


def shown(document: Document, page: int | None, start: int | None, end: int | None) -> Shown:
    """The page asked for, or the one where the quote starts, or the first.

    What of the quote lies on another page is not marked.
    """
    last = len(document.pages)
    offsets = _page_starts(document)
    if page is None:
        before = [number for number, offset in enumerate(offsets, 1) if offset <= (start or 0)]
        page = before[-1] if before else 1
    number = min(max(page, 1), last)
    text, offset = document.pages[number - 1].text, offsets[number - 1]
    if start is None or end is None:
        return Shown(number, text, 0, 0)
    first, stop = (min(max(place - offset, 0), len(text)) for place in (start, end))
    return Shown(number, text, first, max(first, stop))


def source_page(document: Document, page: Shown, start: int | None, end: int | None) -> str:
    """The HTML of one page, with its picture where the document is a PDF still on disk."""
    name = html.escape(PurePath(document.source).name)
    title = html.escape(document.title)
    last = len(document.pages)
    text = _marked(page) or "<p class=quiet>This page holds no text.</p>"
    picture = ""
    if original(document) is not None:
        address = f"/page-image/{document.id}/{page.number}"
        asked = html.escape(f"{address}?{_query(start=start, end=end)}")
        picture = f'<img src="{asked}" alt="Page {page.number} as printed">'
    steps = "".join(
        f'<a rel="{rel}" href="{html.escape(_link(document.id, number, start, end))}">{words}</a>'
        for rel, words, number in (
            ("prev", "← Previous page", page.number - 1),
            ("next", "Next page →", page.number + 1),
        )
        if 1 <= number <= last
    )
    heading = f"<h1>{name}</h1>" + (f"<p class=quiet>{title}</p>" if title != name else "")
    return _html(
        f"{name}, page {page.number}",
        f"<header><div>{heading}</div>"
        f"<nav><span>page {page.number} of {last}</span>{steps}</nav></header>"
        f'<main class="{"both" if picture else "alone"}">'
        f"{picture}<section><h2>Text</h2>{text}</section></main>",
    )


def message_page(line: str) -> str:
    """A page that says one thing."""
    return _html("rag-bot", f"<main class=alone><p>{html.escape(line)}</p></main>")


def original(document: Document) -> Path | None:
    """The PDF that the document was made from, if it is still there and still the same."""
    path = Path(document.source)
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return None
        with path.open("rb") as stream:
            if b"%PDF-" not in stream.read(1024):
                return None
            stream.seek(0)
            same = hashlib.file_digest(stream, "sha256").hexdigest() == document.sha256
    except (OSError, ValueError):
        return None
    return path if same else None


def picture(document: Document, page: Shown) -> bytes | None:
    """A PNG of a PDF's page with the quote in yellow, or None where there is none to be had.

    A PDF is an untrusted file, so it is opened in a process of its own, one at a time.
    """
    path = original(document)
    if path is None:
        return None
    with _drawing:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_draw_into, args=(theirs, path, page), daemon=True)
        child.start()
        theirs.close()
        try:
            return ours.recv_bytes() if ours.poll(_PICTURE_SECONDS) else None
        except (EOFError, OSError):  # it died: out of memory, or a file that crashes pdfium
            return None
        finally:
            child.kill()
            child.join()
            ours.close()


def draw(path: Path, page: Shown) -> bytes:
    """`picture` without its process: raises whatever pdfium does."""
    import pypdfium2 as pdfium
    from PIL import Image, ImageChops, ImageDraw

    with pdfium.PdfDocument(path) as pdf:
        leaf = pdf[page.number - 1]
        scale = min(_DOTS_PER_INCH / 72, _LARGEST_SIDE / max(leaf.get_size()))
        bitmap = leaf.render(scale=scale)
        where = bitmap.get_posconv(leaf)
        paper = bitmap.to_pil().convert("RGB")
        ink = Image.new("RGB", paper.size, "white")
        pen = ImageDraw.Draw(ink)
        for left, bottom, right, top in _lines(leaf.get_textpage(), page):
            (x0, y0), (x1, y1) = where.to_bitmap(left, bottom), where.to_bitmap(right, top)
            box = (min(x0, x1) - 2, min(y0, y1) - 1, max(x0, x1) + 2, max(y0, y1) + 1)
            pen.rectangle(box, fill=(255, 230, 110))
        png = io.BytesIO()
        ImageChops.multiply(paper, ink).save(png, "PNG")  # like a marker: black stays black
    return png.getvalue()


class _Box(NamedTuple):
    """In the page's own points, from its lower left corner."""

    left: float
    bottom: float
    right: float
    top: float


def _draw_into(pipe: Connection, path: Path, page: Shown) -> None:
    limit_memory(_PICTURE_BYTES)
    try:
        pipe.send_bytes(draw(path, page))
    except Exception:  # whatever a broken PDF makes pdfium do: there is no picture, that is all
        pipe.close()


def _lines(printed: Any, page: Shown) -> Iterator[_Box]:
    """One rectangle for each printed line of the quote."""
    letters, places = _letters_of_pdf(printed)
    wanted = "".join(_letters(page.text[page.start : page.end]))
    found = [i for i in range(len(letters)) if wanted and letters.startswith(wanted, i)]
    if not found:
        return
    # The same words may stand on a page twice: the one as far down as in the text is meant.
    expected = len(letters) * page.start / max(len(page.text), 1)
    first = min(found, key=lambda i: abs(i - expected))
    line: _Box | None = None
    for place in dict.fromkeys(places[first : first + len(wanted)]):
        box = _Box(*printed.get_charbox(place, loose=True))
        if line and line.bottom < (box.bottom + box.top) / 2 < line.top and box.right > line.left:
            line = _Box(
                min(line.left, box.left),
                min(line.bottom, box.bottom),
                max(line.right, box.right),
                max(line.top, box.top),
            )
        else:
            if line:
                yield line
            line = box
    if line:
        yield line


def _letters_of_pdf(printed: Any) -> tuple[str, list[int]]:
    """A printed page's letters and digits, and for each the number of its character."""
    import pypdfium2.raw as pdfium

    letters: list[str] = []
    places: list[int] = []
    for place in range(printed.count_chars()):
        code = pdfium.FPDFText_GetUnicode(printed, place)
        if code < 0x110000 and not 0xD800 <= code < 0xE000:
            new = _letters(chr(code))
            letters += new
            places += [place] * len(new)
    return "".join(letters), places


def _letters(text: str) -> list[str]:
    # Spaces, hyphens and the bars we put between cells differ between a page and its text.
    normal = unicodedata.normalize("NFKC", text).casefold()
    return [letter for letter in normal if letter.isalnum()]


def _page_starts(document: Document) -> list[int]:
    starts, at = [], 0
    for page in document.pages:
        starts.append(at)
        at += len(page.text) + len(PAGE_SEPARATOR)
    return starts


def _marked(page: Shown) -> str:
    text = page.text
    if not text.strip():
        return ""
    parts = text[: page.start], text[page.start : page.end], text[page.end :]
    before, quote, after = map(html.escape, parts)
    mark = f'<mark id="quote">{quote}</mark>' if quote else ""
    return f"<pre>{before}{mark}{after}</pre>"


def _link(document_id: str, page: int, start: int | None, end: int | None) -> str:
    return f"/source/{document_id}?{_query(start=start, end=end, page=page)}#quote"


def _query(**values: int | None) -> str:
    return urlencode({name: value for name, value in values.items() if value is not None})


def _html(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --quiet: #667085; --paper: #fff;
  --ground: #f5f6f8; --line: #e1e4ea; --link: #1d5fbf; --mark: #ffe27a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --quiet: #98a2b3;
  --paper: #1b1f27; --ground: #12151b; --line: #2c323d; --link: #82b1ff; --mark: #7a6410; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
header { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: 8px 32px;
  justify-content: space-between; align-items: baseline; padding: 12px 24px;
  background: var(--paper); border-bottom: 1px solid var(--line); }
h1 { font-size: 18px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 13px; font-weight: 600; color: var(--quiet); margin: 0 0 8px; }
p { margin: 0; } .quiet { color: var(--quiet); }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; } nav span { color: var(--quiet); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
main { display: grid; gap: 24px; padding: 24px; margin: 0 auto; align-items: start; }
main.alone { max-width: 860px; } main.both { max-width: 1480px; }
@media (min-width: 1000px) { main.both { grid-template-columns: 1fr 1fr; } }
img { width: 100%; height: auto; border: 1px solid var(--line); background: #fff; }
section { min-width: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px; padding: 16px 20px; }
pre { margin: 0; font: 15px/1.5 system-ui, sans-serif; white-space: pre-wrap;
  overflow-wrap: anywhere; }
mark { background: var(--mark); color: inherit; padding: 1px 0; scroll-margin-top: 35vh; }
"""
