"""CSV and TSV: one record a line, in one page."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

from ingest.parse.clean import clean
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.plain import decode
from ingest.parse.records import records

FIELD_LIMIT = 1 << 28
"""Characters a single field may have; the csv module's own limit (131,072) refuses real files."""


def parse(data: bytes, progress: Progress) -> Parsed:
    """Read a table with whatever delimiter it has."""
    text = clean(decode(data))
    delimiter = _delimiter(text[: 1 << 16])
    notes: list[str] = []
    csv.field_size_limit(FIELD_LIMIT)
    try:
        rows: Sequence[Sequence[str]] = list(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        )
    except csv.Error:
        # An unclosed quote would swallow all that follows it into a single field.
        notes.append("quotes do not match: read line by line")
        rows = [
            [cell.strip().strip('"') for cell in line.split(delimiter)] for line in text.split("\n")
        ]
    draft = Draft(progress)
    for record in records(rows):
        draft.line(record)
    progress(1, 1)
    return draft.parsed("text/csv", notes=notes)


def _delimiter(sample: str) -> str:
    """The delimiter that splits the most lines of `sample` into equally many fields."""
    lines = [line for line in sample.split("\n")[:100] if line.strip()]

    def regularity(delimiter: str) -> tuple[float, int]:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter))
        width, rows = widths.most_common(1)[0]
        return (rows / widths.total() if width > 1 else 0.0, width)

    return max(",;\t|", key=regularity)
