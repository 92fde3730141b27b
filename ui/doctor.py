"""What is wrong, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rag_bot import adapters, models, read
from rag_bot.config import Loaded, Settings
from rag_bot.errors import RagBotError, Unavailable, UsageError
from rag_bot.index import fingerprint, owner

_LOW_DISK = 1_000_000_000


class Finding(NamedTuple):
    """One thing looked at. `status` is 0 if it is well, else the exit status it deserves."""

    what: str
    status: int
    detail: str
    remedy: str = ""


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Look at everything that an answer needs. Raises nothing."""
    settings = loaded.settings
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("python", _python),
        ("embedder", lambda s: _model(s, s.models.embedder)),
        ("reader", _reader),
        ("llm", _llm),
        ("adapter", _adapter),
        ("data directory", _data_dir),
        ("index", _index),
    )
    layers = sorted(set(loaded.origins.values()))
    yield Finding("settings", 0, ", ".join(layers) or "all defaults")
    for what, check in checks:
        try:
            yield Finding(what, 0, check(settings))
        except RagBotError as error:
            yield Finding(what, error.exit_status, error.message, error.remedy)


def _python(_settings: Settings) -> str:
    return f"{sys.version.split()[0]} in {sys.prefix}"


def _model(settings: Settings, name: str) -> str:
    place = models.locate(name, settings.models.dir)
    models.verify(place, deep=True)
    return f"{name}, whole, in {place}"


def _reader(settings: Settings) -> str:
    folder = read.located(settings)
    if folder is None:
        return "none: models.reader is empty"
    _nothing_lost(settings, folder, "finetune reader DIR", "rollback --reader")
    return f"whole, in {folder}"


def _llm(settings: Settings) -> str:
    if not settings.models.endpoint:
        return _model(settings, settings.models.llm)
    import httpx

    url = settings.models.endpoint.rstrip("/") + "/models"
    headers = {"Authorization": f"Bearer {settings.models.endpoint_key or 'none'}"}
    try:
        httpx.get(url, headers=headers, timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"{url}: {error}", "check models.endpoint and its server") from None
    return f"{settings.models.llm} at {settings.models.endpoint}"


def _adapter(settings: Settings) -> str:
    place = adapters.located(settings)
    if place is None:
        return "none"
    models.check_adapter(place)
    _nothing_lost(settings, place, "finetune loop DIR", "rollback")
    return f"whole, in {place}"


def _nothing_lost(settings: Settings, place: Path, again: str, back: str) -> None:
    """Refuse what learned from a document that was deleted since."""
    from finetune import registry

    if place.parent == adapters.folder(settings) and registry.lost(settings, place):
        raise UsageError(
            f"{place.name} learned from a document that was deleted",
            f"`rag-bot {again}` trains another, `rag-bot finetune {back}` goes back",
        )


def _data_dir(settings: Settings) -> str:
    place = settings.data_dir
    existing = next(each for each in (place, *place.parents) if each.exists())
    if not os.access(existing, os.W_OK):
        raise Unavailable(f"{existing} is not writable", "change that, or set RAG_BOT_DATA_DIR")
    free = shutil.disk_usage(existing).free
    if free < _LOW_DISK:
        raise Unavailable(f"only {free / 1e6:.0f} MB free at {existing}", "make room")
    return f"{place}, {free / 1e9:.0f} GB free"


def _index(settings: Settings) -> str:
    who = owner(settings.data_dir)
    if who:
        at = f" and serves it at {who.url}" if who.url else ""
        return f"process {who.pid} has it open{at}"
    if not (settings.data_dir / "catalogue.sqlite").exists():
        return "none yet; `ingest PATH` makes it"
    from rag_bot.index import Index

    with Index(settings.data_dir) as index:
        found = []
        for each in index.catalogue.collections():
            collection = index.collection(each.name, fingerprint(settings))
            index.lexical(collection, "anything", 1)
            found.append(f"{each.name} ({index.catalogue.chunk_count(collection)} chunks)")
    return "collections " + ", ".join(found) if found else "no collections yet"
