"""Promise: nothing is unreachable. Each distinct text finds itself, however often things changed.

The texts are alike as those of an office are: the same sentences with other names and numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ingest import sync
from ingest.report import Report
from ingest.sync import ingest
from rag_bot import index as index_module
from rag_bot.catalogue import Collection, Vectors
from rag_bot.config import Settings
from rag_bot.index import Index
from rag_bot.retrieve import retrieve
from tests.conftest import Encoder, WordEmbedder, drafts_here
from tests.reliability.conftest import Figures

ROUNDS = 5
PROMISED = 0.999
TOP = 10

FIRST = ("Anna", "Bernd", "Carla", "Dirk", "Elif", "Frank", "Gesa", "Hamid", "Ines", "Jonas")
LAST = ("Weber", "Yılmaz", "Krüger", "Novak", "Silva", "Fischer", "Okafor", "Larsen", "Rossi")
FIRMS = ("Halden Pumps", "Nordlicht", "Brenner & Sons", "Altmark Dairy", "Kessler", "Weidmann")
PLACES = ("Ulm", "Kassel", "Graz", "Bremen", "Zurich", "Halle", "Lübeck", "Mainz")
THINGS = ("pump", "valve", "filter", "gasket", "sensor", "boiler", "compressor", "gear")
MONTHS = ("January", "March", "April", "June", "August", "October", "November")

TEMPLATES = (
    "Invoice {n} of {day} {month}: {firm}, {place}, owes {amount} euros for {few} {thing}s.",
    "{first} {last} of {firm} called on {day} {month} about the {thing} number {n} in {place}.",
    "The {thing} {n} in {place} was inspected on {day} {month}. Pressure {few} bar, no leak found.",
    "Contract {n} between us and {firm} in {place} ends on {day} {month}. Notice is {few} weeks.",
    "{first} {last} has {few} days of leave left and is away from {day} {month}. Staff number {n}.",
    "Order {n}: {few} {thing}s for {firm}, {amount} euros, to be sent to {place} by {day} {month}.",
    "Complaint {n}: the {thing} that {firm} received on {day} {month} was broken. Refund {amount}.",
    "Minutes {n} of {day} {month}: {first} {last} says that {place} needs {few} new {thing}s.",
)


def texts(chance: random.Random) -> Iterator[str]:
    """Texts without end, each once."""
    said = set()
    while True:
        text = chance.choice(TEMPLATES).format(
            n=chance.randrange(10_000, 100_000),
            day=chance.randrange(1, 29),
            month=chance.choice(MONTHS),
            firm=chance.choice(FIRMS),
            place=chance.choice(PLACES),
            thing=chance.choice(THINGS),
            few=chance.randrange(2, 40),
            amount=f"{chance.randrange(10, 9000)}.{chance.randrange(100):02}",
            first=chance.choice(FIRST),
            last=chance.choice(LAST),
        )
        if text not in said:
            said.add(text)
            yield text


class Remembering:
    """An embedder that embeds each text once, and each question once and alone, as they come."""

    def __init__(self, embedder: Encoder) -> None:
        self._embedder = embedder
        self._known: dict[str, Vectors] = {}
        self._asked: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in texts if text not in self._known]
        if new:
            self._known |= zip(new, self._embedder.encode(new), strict=True)
        return np.stack([self._known[text] for text in texts])

    def question(self, text: str) -> Given:
        if text not in self._asked:
            self._asked[text] = self._embedder.encode([text])
        return Given(self._asked[text])


class Given(NamedTuple):
    """One question's vector."""

    vectors: Vectors

    def encode(self, _texts: Sequence[str]) -> Vectors:
        return self.vectors


class Folder:
    """Files of one text each, and five rounds of life for them."""

    def __init__(self, place: Path, count: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._new = texts(self._chance)
        self._place = place
        self._names = iter(range(10_000_000))
        self.files: dict[Path, str] = {}
        self._add(count)

    def churn(self) -> None:
        """Edit 20 %, delete 10 %, add 10 % and rename 5 %, never the same file twice."""
        paths = list(self.files)
        self._chance.shuffle(paths)
        share = len(paths) // 20
        edited, gone, renamed = paths[: 4 * share], paths[4 * share : 6 * share], paths[-share:]
        for path in edited:
            self._write(path, next(self._new))
        for path in gone:
            path.unlink()
            del self.files[path]
        for path in renamed:
            to = self._path()
            path.rename(to)
            self.files[to] = self.files.pop(path)
        self._add(2 * share)

    def _add(self, count: int) -> None:
        for _ in range(count):
            self._write(self._path(), next(self._new))

    def _path(self) -> Path:
        number = next(self._names)
        folder = self._place / f"{number % 20:02}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number}.txt"

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.files[path] = text


@pytest.fixture(scope="module")
def words() -> Remembering:
    return Remembering(WordEmbedder())


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> Callable[[], Remembering]:
    """The real embedder, loaded when it is asked for."""
    made: list[Remembering] = []

    def get() -> Remembering:
        if not made:
            made.append(Remembering(request.getfixturevalue("embedder")))
        return made[0]

    return get


@pytest.mark.parametrize("compacting", [True, False], ids=["compacting", "never compacting"])
@pytest.mark.parametrize("which", ["hash", "real"])
def test_each_distinct_text_finds_itself_after_five_rounds_of_churn(
    which: str,
    compacting: bool,
    full: bool,
    words: Remembering,
    real: Callable[[], Remembering],
    settings: Settings,
    tmp_path: Path,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if which == "real" and not (full and compacting):
        pytest.skip("with the real embedder once, in the full form")
    monkeypatch.setattr(sync, "drafts", drafts_here)
    monkeypatch.setattr(index_module, "_FEW", 0)  # Chroma's graph is what the removed ones burden
    if not compacting:
        monkeypatch.setattr(Index, "owes", lambda *_: False)
    embedder = real() if which == "real" else words
    # A tenth is deleted in each round: afterwards there are as many as before.
    folder = Folder(tmp_path / "docs", 5000 if full else 300, seed=6)
    with Index(settings.data_dir) as index:
        _ingest(index, folder, embedder, settings, tmp_path)
        for _ in range(ROUNDS):
            folder.churn()
            report = _ingest(index, folder, embedder, settings, tmp_path)
            assert report.complete
            assert report.as_json()["found"] == len(folder.files)
        collection = index.catalogue.collection("docs")
        assert collection
        debt = index.catalogue.debt(collection).chunks
        assert bool(debt) != compacting
        shares = _found(index, collection, folder, embedder, settings)
        assert index.differences(collection) == []
    name = f"6 churn, {which} embedder" + ("" if compacting else ", never compacted")
    figures(
        name,
        f"of {len(folder.files)} texts find themselves in the top {TOP}: "
        + ", ".join(f"{kind} {share:.2%}" for kind, share in shares.items())
        + (f" ({debt} removed chunks still in the caches' files)" if debt else ""),
    )
    assert shares["dense"] >= PROMISED
    assert shares["hybrid"] >= PROMISED


def _ingest(
    index: Index, folder: Folder, embedder: Any, settings: Settings, tmp_path: Path
) -> Report:
    *_, report = ingest([tmp_path / "docs"], index, lambda: embedder, settings, "docs")
    assert isinstance(report, Report)
    return report


def _found(
    index: Index,
    collection: Collection,
    folder: Folder,
    embedder: Remembering,
    settings: Settings,
) -> dict[str, float]:
    """The share of texts that are among the first hits for themselves."""
    texts = list(folder.files.values())
    assert len(set(texts)) == len(texts)
    hits = dict.fromkeys(("dense", "lexical", "hybrid"), 0)
    for text in texts:
        question: Any = embedder.question(text)
        vector = question.vectors[0]
        found = {
            "dense": index.dense(collection, vector, TOP),
            "lexical": index.lexical(collection, text, TOP),
            "hybrid": retrieve(
                index, question, collection, text, settings.retrieval, limit=TOP
            ).hits,
        }
        for kind, those in found.items():
            hits[kind] += text in {hit.chunk.text for hit in those}
    return {kind: count / len(texts) for kind, count in hits.items()}
