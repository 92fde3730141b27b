"""What the last runs did, what is scheduled, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ingest import schedule
from rag_bot.catalogue import Catalogue, Collection, Debt
from rag_bot.database import Database
from rag_bot.index import CATALOGUE, Owner, owner
from rag_bot.ledger import Ledger, Rejection, Root, Run


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """One collection: what it holds, where from, what was refused, what is unfinished."""

    collection: Collection
    documents: int
    chunks: int
    roots: list[Root]
    rejections: list[Rejection]
    kept_out: int
    debt: Debt
    rebuilding: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a data directory."""

    owner: Owner | None
    collections: list[CollectionStatus]
    runs: list[Run]
    schedules: list[schedule.State]


def status(data_dir: Path, runs: int = 10) -> Status:
    """Read it beside whoever owns the index: nothing is locked and nothing changed.

    Raises Unavailable for a catalogue that can't be read, IndexMismatch for one of another schema.
    """
    who = owner(data_dir)
    file = data_dir / CATALOGUE
    schedules = schedule.read(data_dir)
    if not file.exists():
        return Status(who, [], [], schedules)
    database = Database(file, read_only=True)
    try:
        catalogue, ledger = Catalogue(database), Ledger(database)
        begun = {each.name for each in catalogue.building()}
        return Status(
            who,
            [
                CollectionStatus(
                    each,
                    len(catalogue.entries(each)),
                    catalogue.chunk_count(each),
                    ledger.roots(each.name),
                    list(ledger.rejections(each.name).values()),
                    len(ledger.forgotten(each.name)),
                    catalogue.debt(each),
                    each.name in begun,
                )
                for each in catalogue.collections()
            ],
            ledger.runs(runs),
            schedules,
        )
    finally:
        database.close()
