"""What was made from documents that are gone: rows are taken out of their files, copies go."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from rag_bot.index import Index
from rag_bot.ledger import Ledger, LineageKind, Made

COPIES = "copies"
"""In the data directory: what evaluating and fine-tuning index of the user's documents, apart."""
_MADE_OF_ROWS = ("report.html", "report.md")
"""What an evaluation makes of its rows, and can make again."""


def take_out_rows(ledger: Ledger) -> list[Made]:
    """Take the rows of evaluation runs and training sets that lost a document out of their files.

    Returns what could not be taken out, because its file can't be written or read: it stays
    marked and is tried again. Adapters stay marked too: what to do about one is its owner's
    choice.
    """
    left: list[Made] = []
    rows = [each for each in ledger.made(marked=True) if each.kind in ("evaluation", "example")]
    for location in dict.fromkeys(each.location for each in rows):
        there = [each for each in rows if each.location == location]
        try:
            if location and Path(location).exists():
                for beside in _made_of(Path(location), there[0].kind):
                    beside.unlink(missing_ok=True)
                drop_rows(Path(location), {each.item for each in there})
        except (OSError, ValueError):
            left += there
        else:
            ledger.forget_made(there)
    return left


def drop_copies(index: Index) -> None:
    """Remove all copies: they hold what was deleted too, and are made again when they are needed.

    Those of this index, whatever the settings say: a copy is an index too, and has none. What could
    not be removed, `ingest.forgotten` finds: it lies in the data directory.
    """
    shutil.rmtree(index.data_dir / COPIES, ignore_errors=True)


def _made_of(file: Path, kind: LineageKind) -> list[Path]:
    """What is made of a file's rows, lies beside it and quotes documents too."""
    if kind == "example":
        return [file.with_suffix(".html")]
    return [file.with_name(name) for name in _MADE_OF_ROWS]


def drop_rows(file: Path, ids: set[str]) -> None:
    """Rewrite a JSONL file without the rows of these `"id"`s, all of them or none.

    Raises OSError, and ValueError for a line that is no JSON object.
    """
    new = file.with_name(file.name + ".new")
    try:
        with file.open(encoding="utf-8") as before, new.open("w", encoding="utf-8") as after:
            for line in filter(str.strip, before):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"{file}: a line is no JSON object")
                if str(row.get("id")) not in ids:
                    after.write(line)
            after.flush()
            os.fsync(after.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
