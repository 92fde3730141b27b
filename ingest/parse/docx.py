"""Word: paragraphs, lists and tables in the order of the text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from docx import Document
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml

from ingest.parse.container import open_zip
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

_W = qn("w:p")[:-1]
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_CHARACTERS = {
    _W + "tab": "\t",
    _W + "cr": "\n",
    _W + "noBreakHyphen": "-",
    _W + "lastRenderedPageBreak": "\f",
}
# What parts of an equation would otherwise run into what stands before them: 1/2 is not 12.
_EQUATION_MARKS = {_M + "den": "/", _M + "sup": "^", _M + "sub": "_"}
# What a paragraph holds that is not its own text: properties (whose tab stops are named w:tab,
# too), deletions, moves, field codes, the text boxes that come after it, and their copies for
# programs from before 2010.
_NOT_TEXT = {
    _FALLBACK,
    *(_W + tag for tag in ("pPr", "rPr", "del", "moveFrom", "instrText", "txbxContent")),
}


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page, or those that page breaks make (the ones Word last laid out included).

    Read from the XML and not by `Document.paragraphs`, which leaves out tracked insertions,
    content controls and text boxes.
    """
    open_zip(data)
    document = Document(io.BytesIO(data))
    draft = Draft(progress)
    styles = {style.style_id: style for style in document.styles}
    _write_blocks(draft, document.element.body, styles)
    _write_notes(draft, document, RELATIONSHIP_TYPE.FOOTNOTES, "footnote")
    _write_notes(draft, document, RELATIONSHIP_TYPE.ENDNOTES, "endnote")
    _write_margins(draft, document, styles, progress)
    progress(1, 1)
    return draft.parsed(MEDIA_TYPE, document.core_properties.title or "")


def _write_blocks(draft: Draft, parent: Any, styles: dict[str, Any]) -> None:
    for block in parent:
        if block.tag == _W + "p":
            _write_paragraph(draft, block, styles)
        elif block.tag == _W + "tbl":
            _write_table(draft, block, styles)
        elif block.tag in {_M + "oMath", _M + "oMathPara"}:
            draft.line(_text(block))
        elif block.tag not in _NOT_TEXT and isinstance(block.tag, str):
            _write_blocks(draft, block, styles)  # content controls and the like


def _write_paragraph(draft: Draft, paragraph: Any, styles: dict[str, Any]) -> None:
    style = styles.get(_value(paragraph, "w:pPr/w:pStyle"))
    level = _heading_level(paragraph, style)
    bullet = "- " if not level and _is_list_item(paragraph, style) else ""
    if paragraph.find(qn("w:pPr") + "/" + qn("w:pageBreakBefore")) is not None:
        _turn_page(draft)
    for number, part in enumerate(_text(paragraph).split("\f")):
        if number:
            _turn_page(draft)
        if part.strip():
            draft.line(bullet + part.strip(" "), level)
            bullet, level = "", 0
    for box in _text_boxes(paragraph):
        _write_blocks(draft, box, styles)


def _write_table(draft: Draft, table: Any, styles: dict[str, Any]) -> None:
    for row in _nearest(table, "tr"):
        cells = list(_nearest(row, "tc"))
        texts = [" ".join(_text(p) for p in _nearest(cell, "p", "tbl")) for cell in cells]
        if any("\f" in text for text in texts):
            _turn_page(draft)
        draft.row(texts)
        for cell in cells:
            for paragraph in _nearest(cell, "p", "tbl"):
                for box in _text_boxes(paragraph):
                    _write_blocks(draft, box, styles)
            for inner in _nearest(cell, "tbl"):
                _write_table(draft, inner, styles)


def _write_notes(draft: Draft, document: Any, relation: str, kind: str) -> None:
    texts = [
        " ".join(_text(p) for p in note.iter(qn("w:p")))
        for part in _related(document, relation)
        for note in part.findall(qn(f"w:{kind}"))
        if note.get(qn("w:type")) in {None, "normal"}
    ]
    if any(text.strip() for text in texts):
        draft.gap()
        draft.line(f"{kind.capitalize()}s:")
        for text in texts:
            draft.line(text.strip())


def _write_margins(draft: Draft, document: Any, styles: dict[str, Any], progress: Progress) -> None:
    """Each text once: a section has up to three headers, and most repeat another's."""
    texts: dict[str, None] = {}
    for relation in (RELATIONSHIP_TYPE.HEADER, RELATIONSHIP_TYPE.FOOTER):
        for part in _related(document, relation):
            margin = Draft(progress)
            _write_blocks(margin, part, styles)
            text = "\n".join(margin.parsed(MEDIA_TYPE).pages).strip("\n")
            if text.strip():
                texts[text] = None
    if texts:
        draft.gap()
        draft.line("Headers and footers:")
        for text in texts:
            draft.line(text)


def _related(document: Any, relation: str) -> Iterator[Any]:
    """The roots of the document's parts of a kind, each once however often it is named."""
    parts = {
        each.target_part.partname: each.target_part
        for each in document.part.rels.values()
        if each.reltype == relation and not each.is_external
    }
    return (parse_xml(part.blob) for part in parts.values())


def _turn_page(draft: Draft) -> None:
    # A page break and the mark of where Word laid it out stand side by side.
    if not draft.page_is_blank:
        draft.turn_page()


def _text(element: Any) -> str:
    """The text of a paragraph, with a form feed for each page break."""
    pieces: list[str] = []
    for child in element:
        if child.tag in {_W + "t", _M + "t"}:
            pieces.append(child.text or "")
        elif child.tag == _W + "br":
            pieces.append("\f" if child.get(qn("w:type")) == "page" else "\n")
        elif child.tag in _CHARACTERS:
            pieces.append(_CHARACTERS[child.tag])
        elif child.tag not in _NOT_TEXT and isinstance(child.tag, str):
            text = _text(child)
            pieces.append(_EQUATION_MARKS.get(child.tag, "") + text if text.strip() else text)
    return "".join(pieces)


def _nearest(parent: Any, tag: str, *barriers: str) -> Iterator[Any]:
    """The `tag` elements under `parent`, but not those inside another or inside a barrier."""
    for child in parent:
        if child.tag == _W + tag:
            yield child
        elif child.tag not in _NOT_TEXT and child.tag not in {_W + name for name in barriers}:
            yield from _nearest(child, tag, *barriers)


def _text_boxes(paragraph: Any) -> Iterator[Any]:
    for child in paragraph:
        if child.tag == _W + "txbxContent":
            yield child
        elif child.tag != _FALLBACK:
            yield from _text_boxes(child)


def _value(element: Any, path: str) -> str:
    found = element.find("/".join(qn(step) for step in path.split("/")))
    return "" if found is None else str(found.get(qn("w:val"), ""))


def _heading_level(paragraph: Any, style: Any) -> int:
    """1 to 9, or 0 for a text that is no heading.

    Word keeps the English name of a built-in style whatever language its id is in.
    """
    outline = _value(paragraph, "w:pPr/w:outlineLvl")
    while not outline and style is not None:
        if named := re.fullmatch(r"heading ([1-9])", style.name or "", re.I):
            return int(named[1])
        if style.name == "Title":
            return 1
        outline = _value(style.element, "w:pPr/w:outlineLvl")
        style = style.base_style if hasattr(style, "base_style") else None
    return int(outline) + 1 if outline.isdigit() and int(outline) < 9 else 0


def _is_list_item(paragraph: Any, style: Any) -> bool:
    number = _value(paragraph, "w:pPr/w:numPr/w:numId")
    if number:
        return number != "0"
    return style is not None and (
        bool(_value(style.element, "w:pPr/w:numPr/w:numId"))
        or (style.name or "").startswith(("List Bullet", "List Number"))
    )
