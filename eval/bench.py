"""Where a run takes place: an index of its own over some documents, and the pipeline over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import NamedTuple

from ingest.lineage import COPIES
from ingest.report import Progress, Report
from ingest.sync import PLAIN, ingest
from rag_bot import generate, read
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.embed import Embedder
from rag_bot.errors import IndexBusy, Unavailable, UsageError
from rag_bot.generate import Generator
from rag_bot.index import CATALOGUE, Index, fingerprint
from rag_bot.ledger import Ledger, LineageKind, Origin
from rag_bot.loading import once
from rag_bot.read import Reader

SHIPPED = Path(__file__).parent / "data" / "examples.jsonl"
"""Golden cases about `examples/`, written by hand."""
EXAMPLES = Path(__file__).parents[1] / "examples"

Watch = Callable[[Iterator[Progress | Report]], Report]
MadeFrom = Mapping[str, Sequence[Origin]]
"""By its path, which of the user's documents one was made from that is none of them itself."""


class Engines(NamedTuple):
    """The models, loaded when first called and shared by the runs of one process."""

    embedder: Callable[[], Embedder]
    generator: Callable[[], Generator]
    reader: Callable[[], Reader | None] = lambda: None


def engines(settings: Settings) -> Engines:
    """Those that the settings name."""
    return Engines(
        once(lambda: Embedder.from_settings(settings)),
        once(lambda: generate.load(settings)),
        once(lambda: read.load(settings)),
    )


@contextmanager
def over(
    docs: Sequence[Path],
    settings: Settings,
    loaded: Engines,
    watch: Watch,
    folder: Path | None = None,
    prepare: Callable[[Index], None] = lambda _: None,
    made_from: MadeFrom = MappingProxyType({}),
) -> Iterator[Pipeline]:
    """A pipeline over these files and folders, in an index that is kept for the next time.

    `folder` says where it is kept; otherwise it is among the data directory's copies, apart for
    other settings, and goes with the first document that is deleted. What is evaluated here the
    user's own ledger knows first: a deletion there takes the rows out, wherever a run was killed,
    and ends a run that goes on.
    `prepare` is called with the index before the documents are read.
    Raises UsageError where there is nothing to index.
    """
    place = folder or _kept(docs, settings)
    with Index(place) as index:
        copy = _Copy(index.ledger, settings, made_from)
        if place.resolve() != settings.data_dir.resolve():
            index.ledger = copy
        # One kept elsewhere outlives a deletion: what it knows may be gone, and is not told again.
        if not folder:
            copy.tell()
        prepare(index)
        # It is a copy of the documents, made for this: whatever went from them may go here.
        options = PLAIN._replace(allow_removal=True)
        watch(ingest(docs, index, loaded.embedder, settings, settings.collection, options))
        if not index.catalogue.collections():
            raise UsageError(f"no document in {', '.join(map(str, docs))}", "give another --docs")
        try:
            yield Pipeline(settings, index, *loaded)
        finally:
            if not folder:
                copy.tell()


@contextmanager
def ledger(settings: Settings) -> Iterator[Ledger]:
    """The user's ledger, also beside a server that owns the index.

    SQLite takes a few rows from a second process; the caches, which would not, stay closed.
    """
    try:
        with Index(settings.data_dir) as index:
            yield index.ledger
    except IndexBusy:
        database = Database(settings.data_dir / CATALOGUE)
        try:
            yield Ledger(database)
        finally:
            database.close()


def nothing_went(pipeline: Pipeline, own: Ledger) -> None:
    """Raise Unavailable where a document went from the user's index since this copy was made.

    What is made of the copy would bring it back. `own` is the user's ledger.
    """
    if isinstance(pipeline.index.ledger, _Copy):
        pipeline.index.ledger.nothing_went(own)


class _Copy(Ledger):
    """The ledger of a copy. Of evaluation rows the user's own is told before it."""

    def __init__(self, copy: Ledger, settings: Settings, made_from: MadeFrom) -> None:
        super().__init__(copy._db)
        self._settings, self._made_from = settings, made_from
        self._held: frozenset[Origin] = frozenset()
        if (settings.data_dir / CATALOGUE).is_file():
            with closing(Database(settings.data_dir / CATALOGUE)) as own:
                self._held = Ledger(own).held()

    def nothing_went(self, own: Ledger) -> None:
        """Raise Unavailable where `own` lacks a document that it held, under any path."""
        now = own.held()
        paths, contents = {each.source for each in now}, {each.sha256 for each in now}
        for each in sorted(self._held - now):
            if each.source not in paths and each.sha256 not in contents:
                raise Unavailable(
                    f"{PurePath(each.source).name} was deleted while a copy of it was in use",
                    "run it again: the copy is made anew",
                )

    def record_lineage(
        self,
        kind: LineageKind,
        item: str,
        collection: str,
        origins: Iterable[Origin],
        location: str = "",
    ) -> None:
        origins = tuple(origins)
        file = self._settings.data_dir / CATALOGUE
        if kind == "evaluation" and file.is_file():
            # Not through an index: it would be locked all the time, or opened for every row.
            with closing(Database(file)) as database:
                own = Ledger(database)
                with own.together():
                    self.nothing_went(own)
                    own.record_lineage(kind, item, collection, self._users(origins), location)
        super().record_lineage(kind, item, collection, origins, location)

    def tell(self) -> None:
        """Tell the user's ledger what it does not know yet.

        That is what was made before it was there, or by a version that told it at the end. Its
        index is opened and sealed with that, unless a server owns it: it was written to beside it.
        """
        rows = [each for each in self.made(marked=False) if each.kind == "evaluation"]
        if not rows or not (self._settings.data_dir / CATALOGUE).is_file():
            return
        with ledger(self._settings) as own:
            known = {(each.item, each.location) for each in own.made()}
            for made in rows:
                if (made.item, made.location) not in known:
                    origins = self._users(self.origins(made.kind, made.item))
                    own.record_lineage(
                        made.kind, made.item, self._settings.collection, origins, made.location
                    )

    def _users(self, origins: Iterable[Origin]) -> list[Origin]:
        """The user's documents that these are, or were made from."""
        return [own for each in origins for own in self._made_from.get(each.source, (each,))]


def pages(pipeline: Pipeline) -> dict[str, list[str]]:
    """The documents of a pipeline's collection: the text of each page, by file name."""
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(settings.collection, fingerprint(settings))
    found: dict[str, list[str]] = {}
    for entry in index.catalogue.entries(held):
        document = index.catalogue.document(entry.id)
        if document:
            found[PurePath(entry.source).name] = [page.text for page in document.pages]
    return found


def quiet(events: Iterator[Progress | Report]) -> Report:
    """A `Watch` that shows nothing."""
    *_, report = events
    assert isinstance(report, Report), "an ingest ends with its report"
    return report


def _kept(docs: Sequence[Path], settings: Settings) -> Path:
    name = "\n".join([*(str(each.resolve()) for each in docs), fingerprint(settings)])
    return settings.data_dir / COPIES / hashlib.sha256(name.encode()).hexdigest()[:16]
