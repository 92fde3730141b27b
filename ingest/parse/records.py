"""Rows of a table as lines that stand for themselves, for sheets and CSV alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from ingest.parse.clean import one_line
from rag_bot.errors import UnreadableDocument

MAX_COLUMNS = 16_384
"""As in Excel."""

_NUMBER_OR_DATE = re.compile(r"[-+]?[\d.,:/ %€$£T-]+")


def records(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row that is not blank. Raises UnreadableDocument (`too_large`).

    Below a header row it is `Header: value | Header: value`, without the empty values; a table
    without a plausible header gives `a | b`. Rows of a single cell above the header are titles.
    """
    filled = (row for cells in rows if any(row := _trimmed(cells)))
    first: list[str] = []
    for first in filled:
        if len(first) > 1:
            break
        yield first[0]
    else:
        return
    second = next(filled, None)
    if second is None or not _is_header(first):
        for row in chain([first], [second] if second else [], filled):
            yield " | ".join(row)
        return
    for row in chain([second], filled):
        named = [f"{head}: {value}" for head, value in zip(first, row, strict=False) if value]
        yield " | ".join(named + [value for value in row[len(first) :] if value])


def _trimmed(cells: Sequence[str]) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise UnreadableDocument(
            "too_large", f"has {len(cells):,} columns, more than {MAX_COLUMNS:,}", "split it"
        )
    row = [one_line(cell) for cell in cells]
    while row and not row[-1]:
        row.pop()
    return row


def _is_header(row: list[str]) -> bool:
    return (
        all(row)
        and len(set(row)) == len(row)
        and not any(_NUMBER_OR_DATE.fullmatch(cell) for cell in row)
    )
