"""Excel: one page a sheet, its rows as records, values as people see them."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from typing import Any

from openpyxl import load_workbook

from ingest.parse.container import open_zip
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.records import records
from rag_bot.errors import UnreadableDocument

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAX_CELLS = 5_000_000
"""Cells with a value, in all sheets together."""
MAX_PLACES = 50_000_000
"""Cells at all, the empty ones left of a value included."""
MAX_ROWS = 1 << 20
"""In a sheet, as in Excel."""


def parse(data: bytes, progress: Progress) -> Parsed:
    """A page for each sheet, its name a heading. Formulas show their stored result."""
    open_zip(data)
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    draft = Draft(progress)
    cells = places = 0
    total = len(book.worksheets)

    def rows(sheet: Any) -> Iterator[list[str]]:
        nonlocal cells, places
        for number, row in enumerate(sheet.iter_rows(), 1):
            values = ["" if cell.value is None else _shown(cell) for cell in row]
            cells += sum(map(bool, values))
            places += len(row)
            if cells > MAX_CELLS or places > MAX_PLACES or number > MAX_ROWS:
                raise UnreadableDocument(
                    "too_large",
                    f"has more than {MAX_CELLS:,} cells, or places for {MAX_PLACES:,}",
                    "split it, or export the sheets that matter",
                )
            yield values

    for done, sheet in enumerate(book.worksheets):
        # The dimension a sheet declares is often wrong, and would cut it off.
        sheet.reset_dimensions()
        lines = records(rows(sheet))
        first = next(lines, None)
        if first is not None:
            draft.line(sheet.title, level=1)
            draft.line(first)
            for line in lines:
                draft.line(line)
        draft.turn_page()
        progress(done + 1, total)
    return draft.parsed(MEDIA_TYPE, book.properties.title or "")


def _shown(cell: Any) -> str:
    """A cell's value as Excel shows it, dates in ISO form."""
    value = cell.value
    match value:
        case bool():
            return str(value).upper()
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ", "seconds")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case int() | float() if "%" in str(cell.number_format):
            return f"{value * 100:.15g}%"
        case float() if not value.is_integer():
            return f"{value:.15g}"
        case float():
            return str(int(value))
        case _:
            return str(value)
