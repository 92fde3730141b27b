"""PowerPoint: one page a slide, its title first and its speaker's notes last."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree
from openpyxl.styles.numbers import is_date_format
from openpyxl.utils.datetime import MAC_EPOCH, WINDOWS_EPOCH, from_excel
from pptx import Presentation
from pptx.oxml.ns import qn

from ingest.parse.clean import one_line
from ingest.parse.container import open_zip
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_SHAPES = {qn(f"p:{tag}") for tag in ("sp", "grpSp", "graphicFrame", "cxnSp", "pic")}


def parse(data: bytes, progress: Progress) -> Parsed:
    """A page for each slide, even one without text; each title is a heading of level 1."""
    open_zip(data)
    deck = Presentation(io.BytesIO(data))
    draft = Draft(progress)
    total = len(deck.slides)
    for number, slide in enumerate(deck.slides, 1):
        _unwrap(slide.shapes.element)
        title = slide.shapes.title
        if title is not None and one_line(title.text_frame.text):
            draft.line(one_line(title.text_frame.text), level=1)
        for shape in _in_reading_order(slide.shapes):
            if title is None or shape.shape_id != title.shape_id:
                _write_shape(draft, shape)
        if slide.has_notes_slide:
            notes = slide.notes_slide.notes_text_frame
            if notes is not None and notes.text.strip():
                draft.line("Notes:")
                _write_text(draft, notes.text)
        draft.turn_page()
        progress(number, total)
    return draft.parsed(MEDIA_TYPE, deck.core_properties.title or "")


def _unwrap(tree: Any) -> None:
    """Put the shapes that need a newer PowerPoint (one with a formula, say) where they stand.

    They lie in `mc:Choice`, beside a picture of them for older programs, and python-pptx passes
    over both.
    """
    for wrapper in list(tree.iter(_MC + "AlternateContent")):
        parent = wrapper.getparent()
        choice = wrapper.find(_MC + "Choice")
        if choice is not None and parent.tag in {qn("p:spTree"), qn("p:grpSp")}:
            for shape in list(choice):
                if shape.tag in _SHAPES or shape.tag == _MC + "AlternateContent":
                    wrapper.addprevious(shape)


def _in_reading_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """The shapes from top to bottom and left to right, those of a group where the group stands."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _in_reading_order(shape.shapes)
        else:
            yield shape


def _write_shape(draft: Draft, shape: Any) -> None:
    if shape.has_text_frame:
        _write_text(draft, shape.text_frame.text)
    elif getattr(shape, "has_table", False):
        for row in shape.table.rows:
            draft.row(cell.text for cell in row.cells)
    elif shape.element.tag == qn("p:graphicFrame"):
        for place in shape.element.iter(qn("c:chart")):
            _write_chart(draft, _related(shape.part, place.get(qn("r:id"))))
        for place in shape.element.iter(_DIAGRAM):
            for paragraph in _related(shape.part, place.get(qn("r:dm"))).iter(qn("a:p")):
                _write_text(draft, _joined(paragraph, "a:t"))


def _related(part: Any, relation: str | None) -> Any:
    """The root of what a shape refers to, or an empty element where it refers to nothing."""
    if relation not in part.rels or part.rels[relation].is_external:
        return etree.Element("nothing")
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(part.rels[relation].target_part.blob, parser)


def _write_chart(draft: Draft, chart: Any) -> None:
    """Its titles (those of its axes tell the units), then a line for each category or point."""
    for title in chart.iter(qn("c:title")):
        _write_text(draft, one_line(" ".join(_joined(p, "a:t") for p in title.iter(qn("a:p")))))
        _write_text(draft, _joined(title, "c:v"))
    since_1904 = any(each.get("val", "1") in {"1", "true"} for each in chart.iter(qn("c:date1904")))
    epoch = MAC_EPOCH if since_1904 else WINDOWS_EPOCH
    lines: dict[tuple[int, str], list[str]] = {}
    shared: dict[int, str] = {}
    for series in chart.iter(qn("c:ser")):
        name = one_line(_joined(series.find(qn("c:tx")), "c:v"))
        categories = _points(series, epoch, "c:cat", "c:xVal")
        shared = shared or categories
        for index, value in _points(series, epoch, "c:val", "c:yVal").items():
            category = one_line((categories or shared).get(index, ""))
            line = lines.setdefault((index, category), [category] if category else [])
            line.append(f"{name}: {value}" if name else value)
    for _, line in sorted(lines.items()):
        draft.row(line)


def _points(series: Any, epoch: Any, *tags: str) -> dict[int, str]:
    """What a series has of a kind by the point's number, labels of several levels joined."""
    found: dict[int, list[str]] = {}
    for place in (place for tag in tags for place in series.iterfind(qn(tag))):
        is_text = next(place.iter(qn("c:numCache"), qn("c:numLit")), None) is None
        code = _joined(place, "c:formatCode")
        for point in place.iter(qn("c:pt")):
            value = _joined(point, "c:v")
            shown = value if is_text else _shown(value, point.get("formatCode", code), epoch)
            found.setdefault(int(point.get("idx", 0)), []).append(shown)
    # The innermost level comes first.
    return {index: " ".join(reversed(labels)) for index, labels in found.items()}


def _shown(value: str, code: str, epoch: Any) -> str:
    """A number as people see it, a date in ISO form."""
    try:
        number = float(value)
        if is_date_format(code):
            return str(from_excel(number, epoch)).removesuffix(" 00:00:00")
    except (ValueError, OverflowError):
        return value
    return f"{number * 100:.15g}%" if "%" in code else f"{number:.15g}"


def _joined(element: Any, tag: str) -> str:
    return "" if element is None else "".join(t.text or "" for t in element.iter(qn(tag)))


def _write_text(draft: Draft, text: str) -> None:
    # PowerPoint's line break within a paragraph is a vertical tab.
    for line in text.replace("\v", "\n").split("\n"):
        if line.strip():
            draft.line(line)
