"""What can be asked of an index that this process owns. `ui.remote` is the same from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.report import Progress, Report
from ingest.sync import ingest
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Entry
from rag_bot.config import Settings
from rag_bot.errors import UsageError
from rag_bot.index import Index
from rag_bot.types import Event, Message, Source

if TYPE_CHECKING:
    from rag_bot.embed import Embedder
    from rag_bot.generate import Generator


class Local:
    """The index, opened, with models that load when first needed. A context manager."""

    def __init__(self, settings: Settings, *, url: str = "", wait: float = 0) -> None:
        self.settings = settings
        self.index = Index(settings.data_dir, url=url, wait=wait)
        self.pipeline = Pipeline(
            settings,
            self.index,
            lambda: self._loaded("_embedder"),
            lambda: self._loaded("_generator"),
        )
        # One lock: a question that comes during the warm-up waits, and loads nothing twice.
        self._loading = threading.RLock()
        self._writing = threading.Lock()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @cached_property
    def _embedder(self) -> Embedder:
        from rag_bot.embed import Embedder

        return Embedder.from_settings(self.settings)

    @cached_property
    def _generator(self) -> Generator:
        from rag_bot import generate

        return generate.load(self.settings)

    def warm_up(self) -> None:
        """Load both models now, so that the first question does not wait for them."""
        self.pipeline.embedder().encode(["warm up"])
        self.pipeline.generator()

    def _loaded(self, model: str) -> Any:
        with self._loading:
            return getattr(self, model)

    def search(
        self, query: str, collection: str | None = None, limit: int | None = None
    ) -> tuple[Source, ...]:
        """See `Pipeline.search`."""
        return self.pipeline.search(query, collection=collection, limit=limit)

    def ask(
        self, question: str, history: Sequence[Message] = (), collection: str | None = None
    ) -> Iterator[Event]:
        """See `Pipeline.answer`."""
        return self.pipeline.answer(question, history, collection=collection)

    def ingest(
        self,
        paths: Sequence[Path],
        collection: str | None = None,
        *,
        allow_removal: bool = False,
    ) -> Iterator[Progress | Report]:
        """See `ingest.sync.ingest`. A second one waits for the first."""
        with self._writing:
            yield from ingest(
                paths,
                self.index,
                self.pipeline.embedder,
                self.settings,
                collection or self.settings.collection,
                allow_removal=allow_removal,
            )

    def documents(self, collection: str | None = None) -> list[Entry]:
        """The documents of a collection; none where it does not exist yet."""
        found = self.index.catalogue.collection(collection or self.settings.collection)
        return self.index.catalogue.entries(found) if found else []

    def delete(
        self, names: Sequence[str], collection: str | None = None, *, everything: bool = False
    ) -> list[Entry]:
        """Take documents out of the index, by id, path or file name. Returns what went.

        Raises UsageError for a name that fits none, or several in different folders.
        """
        with self._writing:
            entries = self.documents(collection)
            gone = entries if everything else [_one(name, entries) for name in names]
            found = self.index.catalogue.collection(collection or self.settings.collection)
            if found and gone:
                self.index.remove(found, [entry.id for entry in gone])
            for entry in gone:
                file = Path(entry.source)
                if file.is_relative_to(self.settings.data_dir / "uploads"):  # our own copy
                    file.unlink(missing_ok=True)
            if found and everything:
                self.index.drop(found)
            return gone

    def collections(self) -> list[str]:
        """Names of the collections that exist."""
        return [each.name for each in self.index.catalogue.collections()]


def _one(name: str, entries: Sequence[Entry]) -> Entry:
    absolute = str(Path(name).expanduser().absolute())
    exact = [entry for entry in entries if name == entry.id or absolute == entry.source]
    fitting = exact or [entry for entry in entries if Path(entry.source).name == name]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise UsageError(f"no document {name!r}", "`rag-bot documents` lists them")
    raise UsageError(
        f"{len(fitting)} documents are called {name!r}",
        "give the path: " + ", ".join(entry.source for entry in fitting),
    )
