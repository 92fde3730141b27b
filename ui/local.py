"""What can be asked of an index that this process owns. `ui.remote` is the same from elsewhere."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest import files as sources
from ingest.backup import BackupInfo, backup, restore
from ingest.delete import delete, drop, undelete, uploads
from ingest.forgotten import Forgetting, forgotten
from ingest.rebuild import rebuild
from ingest.repair import repair
from ingest.report import Progress, Report
from ingest.sync import PLAIN, Options, ingest, prepare
from ingest.verify import Finding, verify
from rag_bot import loading
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Settings
from rag_bot.digest import sha256_of
from rag_bot.errors import UsageError
from rag_bot.index import Index
from rag_bot.scope import Scope
from rag_bot.types import Answer, Event, Message, Source
from ui.upload import keep

if TYPE_CHECKING:
    from rag_bot.embed import Embedder
    from rag_bot.generate import Generator
    from rag_bot.read import Reader


class Local:
    """The index, opened, with models that load when first needed. A context manager."""

    def __init__(self, settings: Settings, *, url: str = "", wait: float = 0) -> None:
        self.settings = settings
        self.index = Index(settings.data_dir, url=url, wait=wait)
        self.pipeline = Pipeline(
            settings,
            self.index,
            lambda: self._loaded("_embedder"),
            self._writer,
            self._read_by,
        )
        self._writing = threading.Lock()
        self._stays = False
        self._written_by: tuple[Path | None, Generator] | None = None
        self._reader: tuple[Path | None, Reader | None] | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @cached_property
    def _embedder(self) -> Embedder:
        from rag_bot.embed import Embedder

        return Embedder.from_settings(self.settings)

    def warm_up(self) -> None:
        """Load the models now, so that the first question does not wait for them.

        This process will answer and index for a while: what indexing needs is kept ready.
        """
        self._stays = True
        self.pipeline.embedder().encode(["warm up"])
        self.pipeline.reader()
        self.pipeline.generator()

    def _writer(self) -> Generator:
        """The LLM with the adapter that is live now: a promotion needs no restart."""
        from rag_bot import adapters, generate

        with loading.LOCK:
            wanted = adapters.located(self.settings)
            if self._written_by is None or self._written_by[0] != wanted:
                self._written_by = wanted, generate.load(self.settings)
            return self._written_by[1]

    def _read_by(self) -> Reader | None:
        """The reader that is live now."""
        from rag_bot import read

        with loading.LOCK:
            wanted = read.located(self.settings)
            if self._reader is None or self._reader[0] != wanted:
                self._reader = wanted, read.load(self.settings)
            return self._reader[1]

    def _loaded(self, model: str) -> Any:
        with loading.LOCK:
            return getattr(self, model)

    # Asking

    def search(
        self,
        query: str,
        collection: str | None = None,
        limit: int | None = None,
        scope: Scope | None = None,
    ) -> tuple[Source, ...]:
        """See `Pipeline.search`."""
        return self.pipeline.search(query, collection=collection, limit=limit, scope=scope)

    def ask(
        self,
        question: str,
        history: Sequence[Message] = (),
        collection: str | None = None,
        scope: Scope | None = None,
    ) -> Iterator[Event]:
        """See `Pipeline.answer`."""
        return self.pipeline.answer(question, history, collection=collection, scope=scope)

    def documents(self, collection: str | None = None) -> list[Entry]:
        """The documents of a collection; none where it does not exist yet."""
        found = self._collection(collection)
        return self.index.catalogue.entries(found) if found else []

    def collections(self) -> list[str]:
        """Names of the collections that exist."""
        return [each.name for each in self.index.catalogue.collections()]

    def record_feedback(
        self, answer: Answer, collection: str, thumb: int, reason: str, correction: str
    ) -> bool:
        """Remember what a person thought of an answer.

        Returns False, and remembers nothing, if a document behind the answer has been deleted
        since.
        """
        return self.index.record_feedback(
            {source.chunk.document_id for source in answer.sources},
            collection=collection,
            question=answer.question,
            answer=dataclasses.asdict(answer),
            thumb=thumb,
            reason=reason,
            correction=correction,
        )

    # Changing. One after the other: a second one waits for the first.

    def ingest(
        self,
        paths: Sequence[Path],
        collection: str | None = None,
        options: Options = PLAIN,
        *,
        kind: str = "ingest",
    ) -> Iterator[Progress | Report]:
        """See `ingest.sync.ingest`."""
        with self._writing:
            yield from ingest(
                paths,
                self.index,
                self.pipeline.embedder,
                self.settings,
                collection or self.settings.collection,
                options,
                kind=kind,
            )
            if self._stays:
                prepare(self.index, collection or self.settings.collection, self.settings)

    def delete(
        self, names: Sequence[str], collection: str | None = None, *, everything: bool = False
    ) -> list[Entry]:
        """Delete documents, by id, path or file name, and every trace of them. Returns which.

        Raises UsageError for a name that fits none, or several in different folders.
        """
        with self._writing:
            entries = self.documents(collection)
            gone = entries if everything else [_one(name, entries) for name in names]
            found = self._collection(collection)
            if found and everything:
                drop(self.index, found, self.settings)
            elif found and gone:
                delete(self.index, found, gone, self.settings)
            return gone

    def undelete(self, names: Sequence[str], collection: str | None = None) -> list[str]:
        """Let deleted documents come back with the next ingest. Returns their paths."""
        name = collection or self.settings.collection
        with self._writing:
            return [each.source for each in undelete(self.index, name, names)]

    def repair(self, collection: str | None = None) -> Iterator[Progress | Report]:
        """See `ingest.repair.repair`; all collections, or one."""
        with self._writing:
            yield from repair(self.index, self.pipeline.embedder, self.settings, collection)

    def rebuild(
        self, collection: str | None, embedder: str, chunk_tokens: int
    ) -> Iterator[Progress | Report]:
        """See `ingest.rebuild.rebuild`. From the flip on, this process uses these settings."""
        settings = self.settings.model_copy(
            update={
                "models": self.settings.models.model_copy(update={"embedder": embedder}),
                "ingest": self.settings.ingest.model_copy(update={"chunk_tokens": chunk_tokens}),
            }
        )
        with self._writing:
            same = embedder == self.settings.models.embedder
            new = Other(settings) if not same else None

            def adopt() -> None:
                self.settings = self.pipeline.settings = settings
                if new:
                    self.__dict__["_embedder"] = new.embedder()

            yield from rebuild(
                self.index,
                new.embedder if new else self.pipeline.embedder,
                settings,
                collection or self.settings.collection,
                adopt=adopt,
            )

    def restore(self, file: Path) -> BackupInfo:
        """See `ingest.backup.restore`."""
        with self._writing:
            return restore(self.index, self.settings, file)

    # Looking after

    def backup(self, file: Path, *, overwrite: bool = False) -> BackupInfo:
        """See `ingest.backup.backup`."""
        return backup(self.index, self.settings, file, overwrite=overwrite)

    def verify(self, collection: str | None = None) -> list[Finding]:
        """See `ingest.verify.verify`; all collections, or one."""
        with self._writing:
            return list(verify(self.index, self.settings, collection))

    def forgotten(
        self, name: str, collection: str | None = None, text: Sequence[str] = ()
    ) -> Forgetting:
        """See `ingest.forgotten.forgotten`."""
        with self._writing:
            return forgotten(
                self.index, self.settings, name, collection, self.pipeline.embedder, text=text
            )

    def keep_upload(self, temporary: Path, collection: str | None = None) -> Path:
        """Take a file that a person gave to the page into the collection's folder of uploads."""
        name = collection or self.settings.collection
        place = keep(temporary, uploads(self.settings) / name)
        # Whoever uploads a deleted document again wants it back, wherever it was before.
        self.index.let_in(name, sources.name(place.resolve()), sha256_of(place))
        return place

    def _collection(self, name: str | None) -> Collection | None:
        return self.index.catalogue.collection(name or self.settings.collection)


class Other:
    """Another embedder than the one in use, loaded once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def embedder(self) -> Embedder:
        """Raises ModelMissing or ModelBroken."""
        return self._embedder

    @cached_property
    def _embedder(self) -> Embedder:
        from rag_bot.embed import Embedder

        return Embedder.from_settings(self._settings)


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
