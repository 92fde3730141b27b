"""PowerPoint: one page a slide, its title first and its speaker's notes last."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from pptx import Presentation

from ingest.parse.clean import one_line
from ingest.parse.container import open_zip
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"


def parse(data: bytes, progress: Progress) -> Parsed:
    """A page for each slide, even one without text; each title is a heading of level 1."""
    open_zip(data)
    deck = Presentation(io.BytesIO(data))
    draft = Draft(progress)
    total = len(deck.slides)
    for number, slide in enumerate(deck.slides, 1):
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


def _write_text(draft: Draft, text: str) -> None:
    # PowerPoint's line break within a paragraph is a vertical tab.
    for line in text.replace("\v", "\n").split("\n"):
        if line.strip():
            draft.line(line)
