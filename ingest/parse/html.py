"""HTML as a reader sees it: no markup, no scripts, nothing hidden, and nothing fetched."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

from lxml import etree

from ingest.parse.clean import clean, one_line
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.plain import decode, decode_as


def _names(tags: str) -> frozenset[str]:
    return frozenset(tags.split())


_UNSEEN = _names("script style template noscript svg iframe object audio video canvas head")
_BLOCKS = _names(
    "address article aside body blockquote dd details div dl dt fieldset figcaption figure footer "
    "form header hr html legend li main nav ol option p pre section summary table ul caption "
    "tbody thead tfoot h1 h2 h3 h4 h5 h6"
)
_SPACED = _names("p pre table ul ol dl blockquote h1 h2 h3 h4 h5 h6")
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.I)
_WIDE = re.compile(r"u(tf)?[-_]?(16|32)", re.I)


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page, with h1 to h6 as its headings."""
    draft = Draft(progress)
    title = write(draft, markup(data))
    progress(1, 1)
    return draft.parsed("text/html", title)


def markup(data: bytes) -> str:
    """Decode HTML by its byte order mark, what it declares, or what it looks like."""
    declared = _CHARSET.search(data, 0, 4096)
    if declared and not data.startswith(
        (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    ):
        charset = declared[1].decode("ascii")
        # What declares a wide encoding in ASCII is not in it.
        if not _WIDE.match(charset):
            return decode_as(data, charset)
    return decode(data)


def write(draft: Draft, text: str) -> str:
    """Write a page's visible text into `draft` and return its title."""
    writer = _Writer(draft)
    # A target builds no tree, and huge_tree lifts the limit of 256 levels, beyond which the
    # parser would drop the rest in silence. HTML has no entities of its own to blow up.
    parser = etree.HTMLParser(
        target=writer,  # type: ignore[arg-type]  # the stubs also offer it bytes
        encoding="utf-8",
        huge_tree=True,
        no_network=True,
    )
    source = clean(text).encode()
    for start in range(0, len(source), 1 << 20):
        parser.feed(source[start : start + (1 << 20)])
    parser.close()
    return one_line("".join(writer.title))


class _Writer:
    """Receives the parser's events. `_hidden` is how many open elements hide what is in them."""

    def __init__(self, draft: Draft) -> None:
        self.title: list[str] = []
        self._draft = draft
        self._text: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._hidden = 0
        self._preformatted = 0
        self._bullet = ""
        self._rows: list[list[str]] = []  # the open row of each open table, outermost first
        self._cell: list[str] | None = None  # the lines of the open cell

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        hides = (
            tag in _UNSEEN
            or "hidden" in attributes
            or bool(_HIDING.search(attributes.get("style", "")))
        )
        self._open.append((tag, hides))
        self._hidden += hides
        if self._hidden:
            return
        if tag in _BLOCKS or tag == "br":
            self._end_line()
        if tag in _SPACED and self._cell is None and not self._bullet:
            self._gap(tag)
        if tag == "li":
            self._bullet = "- "
        elif tag == "pre":
            self._preformatted += 1
        elif tag == "table":
            self._end_row()  # a table in a cell: the outer one is only layout
            self._rows.append([])
        elif tag == "tr" and self._rows:
            self._end_row()
        elif tag in {"td", "th"} and self._rows:
            self._end_cell()
            self._cell = []
        elif tag[0] == "h" and tag[1:].isdigit():
            self._end_row()

    def end(self, tag: str) -> None:
        hides = self._open.pop()[1] if self._open else False
        if not self._hidden:
            if tag[0] == "h" and tag[1:].isdigit():
                self._end_line(level=int(tag[1:]))
            elif tag in _BLOCKS:
                self._end_line()
            if tag == "pre":
                self._preformatted -= 1
            elif tag in {"td", "th"}:
                self._end_cell()
            elif tag == "tr":
                self._end_row()
            elif tag == "table" and self._rows:
                self._end_row()
                self._rows.pop()
            elif tag == "li":
                self._bullet = ""
            if tag in _SPACED and self._cell is None:
                self._gap(tag)
        self._hidden -= hides

    def data(self, text: str) -> None:
        if not self._hidden:
            self._text.append(text)
        elif self._open and self._open[-1][0] == "title":
            self.title.append(text)

    def comment(self, text: str) -> None:
        """Comments are not seen."""

    def close(self) -> None:
        self._end_line()
        self._end_row()

    def _gap(self, tag: str) -> None:
        # Lists in lists, and paragraphs in items, stay together.
        if tag not in {"ul", "ol", "p"} or not any(name == "li" for name, _ in self._open[-40:]):
            self._draft.gap()

    def _end_line(self, level: int = 0) -> None:
        text, self._text = "".join(self._text), []
        if not self._preformatted:
            text = one_line(text)
        if not text.strip():
            return
        text, self._bullet = self._bullet + text.strip("\n"), ""
        if self._cell is not None and not level:
            self._cell.append(text)
        else:
            self._draft.line(text, level)

    def _end_cell(self) -> None:
        self._end_line()
        if self._cell is not None and self._rows:
            self._rows[-1].append("\n".join(self._cell))
        self._cell = None

    def _end_row(self) -> None:
        self._end_cell()
        if not self._rows:
            return
        row, self._rows[-1] = self._rows[-1], []
        if len(row) == 1 and row[0]:
            self._draft.line(row[0])  # a single cell is layout: its lines stay lines
        else:
            self._draft.row(row)
