"""Adapters and readers that were trained: their cards, and which of them is live.

A candidate is a folder below `adapters/` with its weights and `card.json`. Promoting one adds its
name to those of its model (`rag_bot.adapters`), rolling back takes the last one away: weights are
never changed in place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

import rag_bot
from eval import bench
from eval.metrics.squad import normalize
from finetune.train import Trained
from rag_bot import adapters, models
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken, ModelMissing, UsageError
from rag_bot.index import CATALOGUE
from rag_bot.ledger import Ledger, Made, Origin
from rag_bot.read import located

ASKED = "asked.json"
Kind = Literal["adapter", "reader"]
OTHER: Mapping[Kind, Kind] = {"adapter": "reader", "reader": "adapter"}
State = Literal["candidate", "promotable", "refused", "promoted"]


@dataclass(frozen=True, slots=True)
class Card:
    """What a candidate is and where it comes from. It never names or quotes a document.

    `base_weights` says which model it fits, `data_sha256` what it learned from. `verdict` is what
    the last evaluation found (`finetune.promotion`), nothing before one.
    """

    id: str
    created: str
    base: str
    base_weights: str
    recipe: Mapping[str, Any]
    data_sha256: str
    kinds: Mapping[str, int]
    documents: int
    steps: int
    validation: tuple[float, float]
    minutes: float
    peak_gb: float
    machine: str
    version: str
    begin: str = ""
    kind: Kind = "adapter"
    verdict: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate as `list` shows it. `lost`: a document it learned from was deleted since."""

    card: Card
    folder: Path
    live: bool
    lost: bool

    @property
    def state(self) -> State:
        if self.live:
            return "promoted"
        if not self.card.verdict:
            return "candidate"
        return "promotable" if self.card.verdict.get("passed") else "refused"


def new(settings: Settings, method: str) -> Path:
    """A folder for a new candidate, named after the moment and the method."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for n in range(1, 100):
        place = adapters.folder(settings) / (f"{stamp}-{method}" + (f"-{n}" if n > 1 else ""))
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        return place
    raise AssertionError("a hundred candidates in one second")


class Learned(NamedTuple):
    """What a candidate learned from: how many of each kind, of how many documents, and a hash."""

    kinds: Mapping[str, int]
    documents: int
    sha256: str

    @classmethod
    def of(cls, lessons: Iterable[tuple[str, str, object]]) -> Learned:
        """From kind, document and content of each lesson."""
        found = list(lessons)
        text = "\n".join(sorted(repr(content) for _, _, content in found))
        return cls(
            dict(sorted(Counter(kind for kind, _, _ in found).items())),
            len({document for _, document, _ in found}),
            hashlib.sha256(text.encode()).hexdigest(),
        )


def register(
    place: Path,
    settings: Settings,
    kind: Kind,
    recipe: Mapping[str, Any],
    learned: Learned,
    trained: Trained,
    begin: Path | None = None,
) -> Card:
    """Write the card of what was trained into `place`."""
    model = settings.models.llm if kind == "adapter" else settings.models.embedder
    card = Card(
        id=place.name,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        base=models.locate(model, settings.models.dir).name,
        base_weights=base_of(settings, kind),
        recipe=recipe,
        data_sha256=learned.sha256,
        kinds=learned.kinds,
        documents=learned.documents,
        steps=trained.steps,
        validation=(round(trained.first, 4), round(trained.best, 4)),
        minutes=round(trained.seconds / 60, 1),
        peak_gb=round(trained.peak_gb, 1),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        version=rag_bot.__version__,
        begin=adapters.fingerprint(begin) if begin else "",
        kind=kind,
    )
    write(place, card)
    return card


def write(place: Path, card: Card) -> None:
    """Replace a card, all of it or nothing."""
    file = place / (adapters.CARD + ".new")
    file.write_text(json.dumps(dataclasses.asdict(card), indent=1) + "\n", "utf-8")
    file.replace(place / adapters.CARD)


def read(place: Path) -> Card:
    """The card of a candidate. Raises ModelBroken."""
    try:
        return _ADAPTER.validate_python(adapters.card(place))
    except ValidationError as error:
        said = error.errors()[0]
        raise ModelBroken(
            f"{place / adapters.CARD}: {'.'.join(map(str, said['loc']))}: {said['msg']}",
            "it is no candidate of ours; models.adapter takes any PEFT adapter",
        ) from None


_ADAPTER: TypeAdapter[Card] = TypeAdapter(Card)


def entries(settings: Settings) -> list[Entry]:
    """All candidates, oldest first."""
    there = adapters.folder(settings)
    places = sorted(each.parent for each in there.glob(f"*/{adapters.CARD}"))
    lost = {each.item for each in _made(settings) if each.marked}
    bases: dict[Kind, str] = {}
    found = []
    for place in places:
        card = read(place)
        if card.kind not in bases:
            try:
                bases[card.kind] = base_of(settings, card.kind)
            except ModelMissing:  # a server's, or not fetched yet: nothing here fits it
                bases[card.kind] = ""
        fits = card.base_weights == bases[card.kind]
        live = fits and adapters.promoted(settings, card.base_weights)[-1:] == [card.id]
        found.append(Entry(card, place, live, card.id in lost))
    return found


def entry(settings: Settings, name: str) -> Entry:
    """One candidate by its name, or the newest for no name. Raises UsageError."""
    found = [each for each in entries(settings) if each.card.id == name or not name]
    if found:
        return found[-1]
    raise UsageError(
        f"there is no candidate {name!r}" if name else "there is no candidate yet",
        "`rag-bot finetune list` names them" if name else "`rag-bot finetune train` makes one",
    )


def promote(settings: Settings, name: str) -> Card:
    """Let a candidate answer, if its evaluation allows it. Raises UsageError where it may not."""
    with adapters.choosing(settings):
        return _promoted(settings, name)


def _promoted(settings: Settings, name: str) -> Card:
    found = entry(settings, name)
    card = found.card
    check_live(settings, card.kind)
    weights = base_of(settings, card.kind)
    if card.base_weights != weights:
        model = "embedder" if card.kind == "reader" else "llm"
        raise UsageError(
            f"{card.id} was trained on {card.base}, not on {getattr(settings.models, model)}",
            f"set models.{model}, or train another",
        )
    before = adapters.promoted(settings, weights)
    if before[-1:] == [card.id]:
        return card
    if not card.verdict:
        raise UsageError(f"{card.id} was not evaluated", f"`rag-bot finetune evaluate {card.id}`")
    if not card.verdict.get("passed"):
        raise UsageError(f"{card.id} was refused: {card.verdict.get('why')}", "train another")
    if card.verdict.get("against") != against(settings, card.kind):
        raise UsageError(
            f"{card.id} was measured against another {card.kind} than the live one",
            f"`rag-bot finetune evaluate {card.id}` measures it again",
        )
    if card.verdict.get("beside") not in (None, beside(settings, card.kind)):
        raise UsageError(
            f"{card.id} was measured beside another {OTHER[card.kind]} than the live one",
            f"`rag-bot finetune evaluate {card.id}` measures it again",
        )
    if card.verdict.get("weights") != adapters.fingerprint(found.folder):
        raise UsageError(
            f"{card.id} is not what was measured: its files were changed",
            f"`rag-bot finetune evaluate {card.id}` measures it again",
        )
    if found.lost:
        raise UsageError(
            f"{card.id} learned from a document that was deleted", "train another without it"
        )
    adapters.set_promoted(settings, weights, [*before, card.id])
    return card


def check_live(settings: Settings, kind: Kind) -> None:
    """Raise UsageError where something else answers than what was promoted.

    A candidate would be measured against that, and go live in the place of what it never met.
    """
    named = getattr(settings.models, kind)
    if named != "promoted":
        raise UsageError(
            f"models.{kind} is {named!r}, so what is promoted does not answer",
            f'set models.{kind} to "promoted"',
        )
    if kind == "adapter" and settings.models.endpoint:
        raise UsageError("models.endpoint answers, which takes no adapter", "unset it")


def rollback(settings: Settings, kind: Kind = "adapter") -> tuple[str, str]:
    """Go back to what was live before. Returns what left and what is live, empty for the default.

    What is gone, or learned from a document deleted since, is passed over. Raises UsageError where
    nothing was promoted.
    """
    weights = base_of(settings, kind)
    with adapters.choosing(settings):
        names = adapters.promoted(settings, weights)
        if not names:
            raise UsageError(f"no {kind} was promoted", "`rag-bot finetune promote` does")
        gone = {each.item for each in _made(settings) if each.marked}
        there = adapters.folder(settings)
        left = [name for name in names[:-1] if name not in gone and (there / name).is_dir()]
        adapters.set_promoted(settings, weights, left)
        return names[-1], left[-1] if left else ""


def base_of(settings: Settings, kind: Kind) -> str:
    """What a candidate of this kind must have been trained on."""
    return adapters.base(settings) if kind == "adapter" else adapters.reader_base(settings)


def live(settings: Settings, kind: Kind) -> Path | None:
    """The folder of what is live; None for the LLM alone, or for no reader."""
    return adapters.located(settings) if kind == "adapter" else located(settings)


def against(settings: Settings, kind: Kind = "adapter") -> str:
    """The fingerprint of what is live now; empty for none."""
    place = live(settings, kind)
    return adapters.fingerprint(place) if place else ""


def beside(settings: Settings, kind: Kind) -> str:
    """The fingerprint of the live reader for an adapter, and of the live adapter for a reader."""
    return against(settings, OTHER[kind])


def write_asked(place: Path, questions: Iterable[str], begin: Path | None = None) -> None:
    """Note hashes of the questions that a candidate learns: it must not be judged by them.

    Those that its starting point `begin` had learned are among them.
    """
    found = {_hashed(question) for question in questions} | (_known(begin) if begin else set())
    (place / ASKED).write_text(json.dumps(sorted(found)) + "\n", "utf-8")


def was_asked(place: Path, questions: Iterable[str]) -> list[str]:
    """Which of these questions a candidate learned."""
    known = _known(place)
    return [question for question in questions if _hashed(question) in known]


def _known(place: Path) -> set[str]:
    file = place / ASKED
    return set(json.loads(file.read_text("utf-8"))) if file.is_file() else set()


def _hashed(question: str) -> str:
    return hashlib.sha256(normalize(question).encode()).hexdigest()[:16]


# Lineage


def lost(settings: Settings, place: Path) -> bool:
    """Whether a candidate learned from a document that was deleted since."""
    return any(each.item == place.name and each.marked for each in _made(settings))


def collections(settings: Settings, ids: Iterable[str]) -> set[str]:
    """The collections whose documents these examples were made from, and the one in use."""
    with bench.ledger(settings) as held:
        return held.collections("example", ids) | {settings.collection}


def record(
    settings: Settings,
    name: str,
    origins: Sequence[Origin],
    begin: Path | None = None,
    among: Iterable[str] = (),
    check: Callable[[Ledger], None] = lambda _: None,
) -> None:
    """Say what a candidate learned from: deleting one of these documents flags it.

    `among` names their collections (default: the one in use). What its starting point learned from
    counts too, whatever the collection. `check` may refuse it, in the same transaction. Raises
    UsageError where a document of its starting point was deleted.
    """
    home = adapters.folder(settings).resolve()
    ours = begin.resolve() if begin and begin.resolve().parent == home else None
    if ours and lost(settings, ours):
        raise UsageError(
            f"{ours.name} learned from a document that was deleted", "begin from another"
        )
    with bench.ledger(settings) as held, held.together():
        check(held)
        for collection in among or [settings.collection]:
            held.record_lineage("adapter", name, collection, origins)
        if ours:
            held.inherit_lineage("adapter", ours.name, name)


def forget(settings: Settings, name: str) -> None:
    """Take back what `record` said: there is no such candidate."""
    with bench.ledger(settings) as held:
        held.forget_made([Made("adapter", name, "", False)])


def _made(settings: Settings) -> list[Made]:
    if not (settings.data_dir / CATALOGUE).is_file():
        return []
    with bench.ledger(settings) as held:
        return [each for each in held.made() if each.kind == "adapter"]
