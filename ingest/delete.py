"""Deleting documents so that no trace stays, and letting one come back."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ingest.files import name as path_name
from ingest.lineage import drop_copies, take_out_rows
from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index
from rag_bot.ledger import Forgotten


def uploads(settings: Settings) -> Path:
    """The folder of files that people gave to the page: our copies."""
    return settings.data_dir / "uploads"


def delete(
    index: Index, collection: Collection, entries: Sequence[Entry], settings: Settings
) -> None:
    """Delete documents, and all that was made from them, and prove it: the caches are made anew.

    One whose file is still in the user's folder stays out from now on: its path and hash are
    remembered. So does one whose folder is away, and may come back, and any that a backup could
    bring back. An upload's file is ours, and goes too.

    Raises Unavailable when there is no room for the new caches: the documents are gone from every
    answer then, and their bytes go with the next run.
    """
    ours = uploads(settings).resolve()
    roots = [Path(root.path) for root in index.ledger.roots(collection.name)]
    away = [root for root in roots if not root.exists()]
    copied = bool(index.ledger.backups())
    kept: list[Entry] = []
    for entry in entries:
        file = _file(entry.source)
        # First: killed after it, the document is still listed and can be deleted again.
        if file.is_relative_to(ours):
            file.unlink(missing_ok=True)
        if copied or os.path.lexists(file) or any(file.is_relative_to(root) for root in away):
            kept.append(entry)
    index.remove(collection, entries, forget=entries, keep_out=kept)
    # Not before: a copy may have begun meanwhile. Killed here, the collection owes, as in sync.
    drop_copies(index)
    index.compact(collection)
    take_out_rows(index.ledger)
    index.seal()


def drop(index: Index, collection: Collection, settings: Settings) -> None:
    """Delete a whole collection and all that was made from it. Nothing of it is kept out."""
    entries = index.catalogue.entries(collection)
    ours = uploads(settings).resolve()
    for entry in entries:
        if _file(entry.source).is_relative_to(ours):
            _file(entry.source).unlink(missing_ok=True)
    index.remove(collection, entries, forget=entries)
    drop_copies(index)
    # Before the collection goes: killed in between, this can be done again.
    index.ledger.forget_collection(collection.name)
    take_out_rows(index.ledger)
    index.drop(collection)
    index.seal()


def undelete(index: Index, collection: str, names: Sequence[str]) -> list[Forgotten]:
    """Let deleted documents come back with the next ingest, and their twins. Returns which.

    Raises UsageError for a name that fits none.
    """
    forgotten = index.ledger.forgotten(collection)
    contents = {each.sha256 for name in names for each in _fitting(name, forgotten)}
    # A twin that stayed deleted would keep this content out, whatever its name.
    found = [each for each in forgotten if each.sha256 in contents]
    for each in found:
        index.ledger.let_in(collection, each.source)
    # Files kept out for their content, under other names, were remembered as unfit.
    judged = index.ledger.rejections(collection).values()
    index.ledger.accept(collection, [each.source for each in judged if each.code == "deleted"])
    return found


def _fitting(name: str, forgotten: Sequence[Forgotten]) -> list[Forgotten]:
    whole = path_name(Path(name).expanduser().resolve())
    found = [f for f in forgotten if f.source in (name, whole)] or [
        f for f in forgotten if Path(f.source).name == name
    ]
    if not found:
        kept = ", ".join(f.source for f in forgotten) or "none"
        raise UsageError(f"no document {name!r} is kept out", f"kept out are: {kept}")
    return found


def _file(source: str) -> Path:
    """The file that `ingest.files.name` made this text of."""
    escaped = re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), source)
    return Path(source) if os.path.lexists(source) else Path(escaped)
