"""What happened to the documents and what was made of them: runs, roots, rejections, feedback,
deletions, lineage, backups. In the same database as the catalogue, so that a deletion is one
transaction.

Lineage says which feedback, evaluation rows, training examples and adapters came from which
document. Whoever makes one records it here; when the document goes, it is marked here, so that the
floors below never import the floors above.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Literal, NamedTuple

from rag_bot.database import Database

KEPT_RUNS = 200
Outcome = Literal["running", "done", "in part", "failed"]
LineageKind = Literal["feedback", "evaluation", "example", "adapter"]


class Root(NamedTuple):
    """A folder or file that was ingested, and the patterns it was ingested with."""

    path: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    synced_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """One ingest or repair. `report` counts, and names only what failed.

    A run still `running` although nobody owns the index was killed.
    """

    id: int
    collection: str
    kind: str
    started_at: float
    ended_at: float | None
    outcome: Outcome
    report: dict[str, Any]


class Rejection(NamedTuple):
    """A file found unfit, and its state then: the same file need not be read again.

    `judged_by` is the version and the limits that judged.
    """

    source: str
    size: int
    mtime_ns: int
    judged_by: str
    status: str
    code: str
    reason: str
    remedy: str


class Forgotten(NamedTuple):
    """A document deleted while its file or a backup was there: it stays out until undeleted."""

    source: str
    sha256: str
    forgotten_at: float


class Origin(NamedTuple):
    """A document as something was made from it."""

    source: str
    sha256: str


class Made(NamedTuple):
    """Something made from documents. `location` is the file it lies in, or empty."""

    kind: LineageKind
    item: str
    location: str
    marked: bool


class Ledger:
    """The records of a `Database`, by the names of collections, which outlive generations."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def together(self) -> AbstractContextManager[object]:
        """All that is recorded inside, or nothing of it; no other process writes meanwhile."""
        return self._db.transaction(aside=True)

    def held(self) -> frozenset[Origin]:
        """All documents that the index beside it holds, of any collection."""
        return frozenset(starmap(Origin, self._db.all("SELECT source, sha256 FROM documents")))

    # Runs

    def begin_run(self, collection: str, kind: str) -> int:
        """Write down that a run has begun. Returns its id."""
        with self._db.transaction(aside=True) as db:
            # Only the owner of the index begins runs, and one at a time: another was killed.
            db.execute("UPDATE runs SET outcome = 'failed' WHERE outcome = 'running'")
            cursor = db.execute(
                "INSERT INTO runs (collection, kind, started_at, outcome, report)"
                " VALUES (?, ?, ?, 'running', '{}')",
                (collection, kind, time.time()),
            )
            run = int(cursor.lastrowid or 0)
            db.execute("DELETE FROM runs WHERE id <= ?", (run - KEPT_RUNS,))
        return run

    def end_run(self, run: int, outcome: Outcome, report: Mapping[str, Any]) -> None:
        """Write down how it ended."""
        with self._db.transaction(aside=True) as db:
            db.execute(
                "UPDATE runs SET ended_at = ?, outcome = ?, report = ? WHERE id = ?",
                (time.time(), outcome, json.dumps(report), run),
            )

    def runs(self, limit: int = 20) -> list[Run]:
        """The last ones, newest first."""
        rows = self._db.all(
            "SELECT id, collection, kind, started_at, ended_at, outcome, report FROM runs"
            " ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [
            Run(run, name, kind, begun, ended, outcome, json.loads(report))
            for run, name, kind, begun, ended, outcome, report in rows
        ]

    # Roots

    def remember_root(self, collection: str, root: Root) -> None:
        """A root was brought up to date with these patterns."""
        with self._db.transaction(aside=True) as db:
            db.execute(
                "INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?, ?)",
                (
                    collection,
                    root.path,
                    json.dumps(root.include),
                    json.dumps(root.exclude),
                    root.synced_at,
                ),
            )

    def roots(self, collection: str) -> list[Root]:
        """By path."""
        rows = self._db.all(
            "SELECT path, include, exclude, synced_at FROM roots WHERE collection = ?"
            " ORDER BY path",
            (collection,),
        )
        return [
            Root(path, tuple(json.loads(include)), tuple(json.loads(exclude)), at)
            for path, include, exclude, at in rows
        ]

    def forget_root(self, collection: str, path: str) -> None:
        """It was removed as a whole, or is part of a wider one."""
        with self._db.transaction(aside=True) as db:
            db.execute("DELETE FROM roots WHERE collection = ? AND path = ?", (collection, path))

    # Rejections

    def reject(self, collection: str, rejections: Iterable[Rejection]) -> None:
        """Remember files found unfit."""
        with self._db.transaction(aside=True) as db:
            db.executemany(
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((collection, *each) for each in rejections),
            )

    def accept(self, collection: str, sources: Iterable[str]) -> None:
        """These are documents now, or gone."""
        with self._db.transaction(aside=True) as db:
            db.executemany(
                "DELETE FROM rejected WHERE collection = ? AND source = ?",
                ((collection, source) for source in sources),
            )

    def rejections(self, collection: str) -> dict[str, Rejection]:
        """By source."""
        rows = self._db.all(
            "SELECT source, size, mtime_ns, judged_by, status, code, reason, remedy FROM rejected"
            " WHERE collection = ? ORDER BY source",
            (collection,),
        )
        return {row[0]: Rejection(*row) for row in rows}

    # Deletions

    def keep_out(self, collection: str, source: str, sha256: str) -> None:
        """Remember a deleted document's path and hash, and nothing else."""
        with self._db.transaction(aside=True) as db:
            db.execute(
                "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?, ?)",
                (collection, source, sha256, time.time()),
            )

    def let_in(self, collection: str, source: str) -> None:
        """It may come back."""
        with self._db.transaction(aside=True) as db:
            db.execute(
                "DELETE FROM forgotten WHERE collection = ? AND source = ?", (collection, source)
            )

    def forgotten(self, collection: str | None = None) -> list[Forgotten]:
        """Of a collection or of all, by source."""
        rows = self._db.all(
            "SELECT source, sha256, forgotten_at FROM forgotten"
            " WHERE ?1 IS NULL OR collection = ?1 ORDER BY source",
            (collection,),
        )
        return [Forgotten(*row) for row in rows]

    def erase(self, collection: str, origin: Origin, *, twin_lives: bool) -> None:
        """Remove what was recorded of a document, and mark what was made from it.

        Feedback goes; evaluation rows, examples and adapters lose its name and are marked, for
        their makers to act on, also what was made under the name of a collection that does not
        hold it: training reads folders, whatever they were ingested into. What was made from
        another file with the same content stays as long as such a twin lives.
        """
        sha256 = "" if twin_lives else origin.sha256
        its = "collection = ? AND (source = ? OR (sha256 != '' AND sha256 = ?))"
        its_values = (collection, origin.source, sha256)
        with self._db.transaction(aside=True) as db:
            db.execute(
                "DELETE FROM feedback WHERE id IN (SELECT CAST(item AS INTEGER) FROM lineage"
                f" WHERE kind = 'feedback' AND {its})",
                its_values,
            )
            db.execute(
                "DELETE FROM lineage WHERE kind = 'feedback'"
                " AND NOT EXISTS (SELECT 1 FROM feedback WHERE id = CAST(item AS INTEGER))"
            )
            db.execute(
                """
                UPDATE lineage SET marked_at = ?, source = '', sha256 = ''
                WHERE kind != 'feedback' AND (source = ? OR (sha256 != '' AND sha256 = ?))
                AND (collection = ? OR NOT EXISTS (
                    SELECT 1 FROM documents JOIN collections ON collections.id = collection_id
                    WHERE name = lineage.collection
                    AND (documents.source = lineage.source OR documents.sha256 = lineage.sha256)
                ))
                """,
                (time.time(), origin.source, sha256, collection),
            )
            db.execute(
                "DELETE FROM rejected WHERE collection = ? AND source = ?",
                (collection, origin.source),
            )
            _rewrite_reports(
                db,
                db.execute("SELECT id, report FROM runs").fetchall(),
                files=lambda files: [each for each in files if each["path"] != origin.source],
                warnings=lambda said: [each for each in said if origin.source not in each],
            )

    def rename(self, collection: str, moves: Mapping[str, str]) -> None:
        """Documents have other paths now: what was recorded under the old ones goes with them.

        Otherwise it would outlive them: once they are edited, not even the hash tells whose it was.
        """
        with self._db.transaction(aside=True) as db:
            db.executemany(
                "UPDATE lineage SET source = ? WHERE collection = ? AND source = ?",
                ((new, collection, old) for old, new in moves.items()),
            )
            rows = db.execute("SELECT id, report FROM runs WHERE collection = ?", (collection,))
            _rewrite_reports(
                db,
                rows.fetchall(),
                files=lambda files: [
                    {**each, "path": moves.get(each["path"], each["path"])} for each in files
                ],
            )

    def forget_collection(self, collection: str) -> None:
        """Its runs, roots, rejections and deletions: it was dropped as a whole."""
        with self._db.transaction(aside=True) as db:
            for table in ("runs", "roots", "rejected", "forgotten"):
                db.execute(f"DELETE FROM {table} WHERE collection = ?", (collection,))

    # Lineage

    def record_lineage(
        self,
        kind: LineageKind,
        item: str,
        collection: str,
        origins: Iterable[Origin],
        location: str = "",
    ) -> None:
        """Say which documents something was made from.

        `item` is its id; `location` the JSONL file that holds it under `"id"`, if it is a row of
        one: a deletion then takes the row out.
        """
        with self._db.transaction(aside=True) as db:
            db.executemany(
                "INSERT INTO lineage (kind, item, location, collection, source, sha256)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (kind, item, location, collection, origin.source, origin.sha256)
                    for origin in dict.fromkeys(origins)
                ),
            )

    def inherit_lineage(self, kind: LineageKind, parent: str, item: str) -> None:
        """Say that an item was made from all that another one of its kind was made from."""
        with self._db.transaction(aside=True) as db:
            db.execute(
                "INSERT INTO lineage (kind, item, location, collection, source, sha256)"
                " SELECT kind, ?, '', collection, source, sha256 FROM lineage"
                " WHERE kind = ? AND item = ? AND marked_at IS NULL",
                (item, kind, parent),
            )

    def made(self, *, marked: bool | None = None) -> list[Made]:
        """What was made from documents; `marked`: only what lost one of them, or only the rest."""
        rows = self._db.all(
            "SELECT kind, item, location, max(marked_at IS NOT NULL) AS gone FROM lineage"
            " GROUP BY kind, item, location ORDER BY kind, item"
        )
        found = [Made(kind, item, location, bool(gone)) for kind, item, location, gone in rows]
        return [each for each in found if marked is None or each.marked == marked]

    def origins(self, kind: LineageKind, item: str) -> list[Origin]:
        """The documents an item was made from, as far as they were not deleted."""
        rows = self._db.all(
            "SELECT source, sha256 FROM lineage WHERE kind = ? AND item = ? AND marked_at IS NULL",
            (kind, item),
        )
        return [Origin(*row) for row in rows]

    def collections(self, kind: LineageKind, items: Iterable[str]) -> set[str]:
        """The collections whose documents these items were made from, deleted ones too."""
        rows = self._db.all("SELECT DISTINCT item, collection FROM lineage WHERE kind = ?", (kind,))
        wanted = set(items)
        return {collection for item, collection in rows if item in wanted}

    def forget_made(self, items: Iterable[Made]) -> None:
        """These exist no more."""
        with self._db.transaction(aside=True) as db:
            db.executemany(
                "DELETE FROM lineage WHERE kind = ? AND item = ? AND location = ?",
                ((each.kind, each.item, each.location) for each in items),
            )

    # Feedback

    def record_feedback(
        self,
        *,
        collection: str,
        question: str,
        answer: Mapping[str, Any],
        thumb: int,
        origins: Sequence[Origin] = (),
        reason: str = "",
        correction: str = "",
    ) -> None:
        """Remember what a person thought of an answer: `thumb` is 1 or -1.

        `origins` are the documents that were shown for it: when one goes, the feedback goes too.
        """
        with self._db.transaction(aside=True) as db:
            cursor = db.execute(
                "INSERT INTO feedback (created_at, collection, question, answer, thumb, reason,"
                " correction) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    time.time(),
                    collection,
                    question,
                    json.dumps(answer),
                    thumb,
                    reason,
                    correction,
                ),
            )
            self.record_lineage("feedback", str(cursor.lastrowid), collection, origins)

    def feedback(self) -> list[dict[str, Any]]:
        """All feedback, oldest first, `answer` as recorded."""
        names = [
            "id",
            "created_at",
            "collection",
            "question",
            "answer",
            "thumb",
            "reason",
            "correction",
        ]
        rows = self._db.all(f"SELECT {', '.join(names)} FROM feedback ORDER BY id")
        found = (dict(zip(names, row, strict=True)) for row in rows)
        return [{**each, "answer": json.loads(each["answer"])} for each in found]

    # Backups

    def record_backup(self, path: str) -> None:
        """Where a backup was written: a deletion names those that still exist."""
        with self._db.transaction(aside=True) as db:
            db.execute("INSERT OR REPLACE INTO backups VALUES (?, ?)", (path, time.time()))

    def backups(self) -> list[str]:
        """Their paths, whether or not they still exist."""
        return [row[0] for row in self._db.all("SELECT path FROM backups ORDER BY path")]


def _rewrite_reports(
    db: sqlite3.Connection,
    rows: Iterable[tuple[int, str]],
    **changes: Callable[[list[Any]], list[Any]],
) -> None:
    """Change these parts of the runs' reports, and write those that are others then."""
    for run, report in rows:
        data = json.loads(report)
        changed = {
            key: changes[key](value) if key in changes else value for key, value in data.items()
        }
        if changed != data:
            db.execute("UPDATE runs SET report = ? WHERE id = ?", (json.dumps(changed), run))
