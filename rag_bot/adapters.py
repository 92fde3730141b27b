"""What of the user's own training is live: the adapter of the LLM, and the reader.

Candidates lie in `adapters/` below the data directory, a folder each; `live.json` there names,
for each model, those that were promoted, in order. It is read at every question, so that a server
takes what is promoted without a restart. Where nothing was, the shipped ones are live.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from rag_bot import models
from rag_bot.config import Settings
from rag_bot.digest import sha256_of
from rag_bot.errors import ModelBroken, ModelMissing

SHIPPED = Path(__file__).parent / "data" / "adapter"
"""The adapter that comes with the project, trained by `rag-bot finetune`."""
CARD, LIVE = "card.json", "live.json"


def folder(settings: Settings) -> Path:
    """Where the candidates lie."""
    return settings.data_dir / "adapters"


def located(settings: Settings) -> Path | None:
    """The folder of the adapter that answers now; None for the model alone.

    Raises ModelMissing for an LLM or adapter that is not there.
    """
    wanted = settings.models.adapter
    if settings.models.endpoint or not wanted:
        return None
    if wanted == "shipped":
        if not _fits(SHIPPED, base(settings)):
            raise ModelMissing(
                f"the shipped adapter is not for {settings.models.llm}",
                "set models.adapter to another, or to nothing",
            )
        return SHIPPED
    if wanted != "promoted":
        return Path(wanted).expanduser()
    weights = base(settings)
    return _live(settings, weights, "adapter", "rag-bot finetune rollback") or (
        SHIPPED if _fits(SHIPPED, weights) else None
    )


def reader(settings: Settings) -> Path | None:
    """The folder of the reader promoted for the embedder; None for the shipped one.

    Raises ModelMissing for an embedder or reader that is not there.
    """
    return _live(settings, reader_base(settings), "reader", "rag-bot finetune rollback --reader")


def reader_base(settings: Settings) -> str:
    """What a reader fits: the embedder, whose word embeddings and tokenizer it shares."""
    place = models.locate(settings.models.embedder, settings.models.dir)
    return f"reader on {models.weights(place)}"


def base(settings: Settings) -> str:
    """A hash of the LLM's weights: what an adapter fits. Raises ModelMissing or ModelBroken."""
    return models.weights(models.locate(settings.models.llm, settings.models.dir))


def promoted(settings: Settings, weights: str) -> list[str]:
    """Names of the adapters promoted for a model, the last one live. Raises ModelBroken."""
    return list(_all(settings).get(weights, ()))


@contextmanager
def choosing(settings: Settings) -> Iterator[None]:
    """While it is held, nobody else says what is live: what was looked up stays so."""
    file = folder(settings) / "live.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file):
        yield


def set_promoted(settings: Settings, weights: str, names: Sequence[str]) -> None:
    """Replace them, in one step that survives a power cut."""
    file = folder(settings) / LIVE
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as stream:
        json.dump({**_all(settings), weights: list(names)}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)


def fingerprint(place: Path) -> str:
    """A short hash of an adapter or reader, whatever stands on its card."""
    names = (models.ADAPTER, models.ADAPTER_CONFIG, "reader.safetensors", "reader.json")
    files = [place / name for name in names]
    found = "".join(sha256_of(file) for file in files if file.is_file())
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def card(place: Path) -> dict[str, Any]:
    """What an adapter's card says; nothing for one without. Raises ModelBroken."""
    try:
        found = json.loads((place / CARD).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelBroken(f"{place / CARD} can't be read: {error}", "copy it again") from None
    if not isinstance(found, dict):
        raise ModelBroken(f"{place / CARD} is no card", "copy it again")
    return found


def check_fits(place: Path, llm: Path) -> None:
    """Raise ModelBroken for an adapter whose card says that it was trained on another LLM."""
    wanted = card(place).get("base_weights")
    if wanted and wanted != models.weights(llm):
        raise ModelBroken(f"{place} was trained on another model than {llm.name}", "set models.llm")


def _fits(place: Path, weights: str) -> bool:
    return place.is_dir() and card(place).get("base_weights") == weights


def _live(settings: Settings, weights: str, what: str, back: str) -> Path | None:
    """The folder promoted last for a model. Raises ModelMissing if it is gone."""
    names = promoted(settings, weights)
    if not names:
        return None
    place = folder(settings) / names[-1]
    if not place.is_dir():
        raise ModelMissing(f"the promoted {what} {place} is gone", f"`{back}` takes the one before")
    return place


def _all(settings: Settings) -> Mapping[str, Sequence[str]]:
    file = folder(settings) / LIVE
    try:
        found = json.loads(file.read_text("utf-8"))
        return {str(key): [str(name) for name in names] for key, names in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelBroken(
            f"{file} can't be read: {error}", "delete it: the shipped adapter answers then"
        ) from None
