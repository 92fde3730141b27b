"""The same questions as `ui.local`, put to a running `rag-bot serve` over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from pydantic import TypeAdapter

from ingest.backup import BackupInfo
from ingest.forgotten import Forgetting
from ingest.report import Progress, Report
from ingest.sync import PLAIN, Options
from ingest.verify import Finding
from rag_bot.catalogue import Entry
from rag_bot.errors import Unavailable
from rag_bot.index import Owner
from rag_bot.scope import Scope
from rag_bot.types import Event, Message, Source
from ui.wire import error_from_json, event_from_json, scope_to_json, source_from_json

_CONNECT_SECONDS = 5.0


class Remote:
    """A running server, reached with the token it left in the data directory."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._http = httpx.Client(
            base_url=owner.url,
            headers={"Authorization": f"Bearer {owner.token}"},
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            trust_env=False,  # a proxy has no business between us and this machine
        )

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def search(
        self,
        query: str,
        collection: str | None = None,
        limit: int | None = None,
        scope: Scope | None = None,
    ) -> tuple[Source, ...]:
        """See `Local.search`."""
        body = {
            "query": query,
            "collection": collection,
            "limit": limit,
            "scope": scope_to_json(scope or Scope()),
        }
        found = self._call("POST", "/api/search", json=body)
        return tuple(map(source_from_json, found["results"]))

    def ask(
        self,
        question: str,
        history: Sequence[Message] = (),
        collection: str | None = None,
        scope: Scope | None = None,
    ) -> Iterator[Event]:
        """See `Local.ask`."""
        turns = [{"role": message.role, "text": message.text} for message in history]
        body = {
            "question": question,
            "history": turns,
            "collection": collection,
            "scope": scope_to_json(scope or Scope()),
        }
        for event in self._stream("/api/ask", body):
            assert not isinstance(event, Progress | Report)
            yield event

    def ingest(
        self,
        paths: Sequence[Path],
        collection: str | None = None,
        options: Options = PLAIN,
        *,
        kind: str = "ingest",
    ) -> Iterator[Progress | Report]:
        """See `Local.ingest`. Relative paths are meant from here, not from the server."""
        return self._work(
            "/api/ingest",
            paths=[str(path.expanduser().absolute()) for path in paths],
            collection=collection,
            options=options._asdict(),
            kind=kind,
        )

    def repair(self, collection: str | None = None) -> Iterator[Progress | Report]:
        """See `Local.repair`."""
        return self._work("/api/repair", collection=collection)

    def rebuild(
        self, collection: str | None, embedder: str, chunk_tokens: int
    ) -> Iterator[Progress | Report]:
        """See `Local.rebuild`. The server goes over to these settings."""
        return self._work(
            "/api/rebuild", collection=collection, embedder=embedder, chunk_tokens=chunk_tokens
        )

    def documents(self, collection: str | None = None) -> list[Entry]:
        """See `Local.documents`."""
        query = {"collection": collection} if collection else {}
        found = self._call("GET", "/api/documents", params=query)
        return [Entry(**each) for each in found["documents"]]

    def delete(
        self, names: Sequence[str], collection: str | None = None, *, everything: bool = False
    ) -> list[Entry]:
        """See `Local.delete`."""
        body = {"names": list(names), "collection": collection, "everything": everything}
        return [Entry(**each) for each in self._call("POST", "/api/delete", json=body)["documents"]]

    def undelete(self, names: Sequence[str], collection: str | None = None) -> list[str]:
        """See `Local.undelete`."""
        body = {"names": list(names), "collection": collection}
        found: list[str] = self._call("POST", "/api/undelete", json=body)["paths"]
        return found

    def verify(self, collection: str | None = None) -> list[Finding]:
        """See `Local.verify`."""
        found = self._call("POST", "/api/verify", json={"collection": collection})
        return TypeAdapter(list[Finding]).validate_python(found["findings"])

    def forgotten(
        self, name: str, collection: str | None = None, text: Sequence[str] = ()
    ) -> Forgetting:
        """See `Local.forgotten`."""
        body = {"name": name, "collection": collection, "text": list(text)}
        found = self._call("POST", "/api/forgotten", json=body)
        return TypeAdapter(Forgetting).validate_python(found)

    def backup(self, file: Path, *, overwrite: bool = False) -> BackupInfo:
        """See `Local.backup`. A relative path is meant from here."""
        body = {"file": str(file.expanduser().absolute()), "overwrite": overwrite}
        found = self._call("POST", "/api/backup", json=body)
        return TypeAdapter(BackupInfo).validate_python(found)

    def restore(self, file: Path) -> BackupInfo:
        """See `Local.restore`. A relative path is meant from here."""
        body = {"file": str(file.expanduser().absolute())}
        return TypeAdapter(BackupInfo).validate_python(
            self._call("POST", "/api/restore", json=body)
        )

    def _work(self, path: str, **body: object) -> Iterator[Progress | Report]:
        for event in self._stream(path, body):
            assert isinstance(event, Progress | Report)
            yield event

    def _call(self, method: str, path: str, **parts: Any) -> Any:
        try:
            response = self._http.request(method, path, **parts)
            return self._checked(response).json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._gone(error) from error

    def _stream(self, path: str, body: object) -> Iterator[Event | Progress | Report]:
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                for line in self._checked(response).iter_lines():
                    yield event_from_json(json.loads(line))
        except (httpx.HTTPError, ValueError) as error:
            raise self._gone(error) from error

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if not response.is_error:
            return response
        try:
            told = error_from_json(response.json())
        except (ValueError, KeyError, TypeError):
            response.raise_for_status()
            raise
        raise told

    def _gone(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the server at {self._owner.url} (process {self._owner.pid}) failed: {error}",
            "restart `rag-bot serve`, or stop it and try again",
        )
