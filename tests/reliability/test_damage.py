"""Promise: a flipped or cut file of the index is found when the index is opened. The answers are
right, or there is a clear error; never a wrong answer.

First after a clean end, where a damaged cache is never even opened; then after a kill, where
Chroma may take the process down once, and not twice.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from rag_bot.index import CATALOGUE
from tests.conftest import WordEmbedder
from tests.reliability.child import LIMITS
from tests.reliability.conftest import Children, Ended, Figures
from tests.reliability.test_crash import (
    Look,
    age,
    assert_same_hits,
    cosine,
    sentences,
    words,
)

SEED = 20267
MANY_CHUNKS = {"ingest.chunk_tokens": 32}
"""More than a thousand: with fewer, Chroma keeps all of them in its log, and has no HNSW files."""
DOCUMENTS = 6
PAGE = 4096


class Store(NamedTuple):
    """A data directory that is not to be changed, and what is in it."""

    data: Path
    clean: Look
    asked: list[str]


class Harm(NamedTuple):
    """What happens to one file."""

    file: str
    what: str
    change: Callable[[bytearray], bytearray | None]


@pytest.fixture(scope="module")
def whole(children: Children, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An index that was closed."""
    folder = tmp_path_factory.mktemp("whole")
    docs = folder / "docs"
    docs.mkdir()
    for number in range(DOCUMENTS):
        text = "\n\n".join(sentences(f"f{number}{part}", 22) for part in "abc")
        (docs / f"file{number}.txt").write_text(text)
        age(docs / f"file{number}.txt")
    children.do("ingest", folder / "data", paths=[str(docs)], settings=MANY_CHUNKS)
    asked = [word for n in range(DOCUMENTS) for word in words(f"f{n}b", 30)[::29]]
    shutil.copytree(folder / "data", folder / "looked")
    clean = children.do("look", folder / "looked", words=asked)
    assert len(clean["documents"]) == DOCUMENTS
    assert len(clean["vectors"]) > 1000
    assert all(clean["found"].values())
    assert list((folder / "data").rglob("data_level0.bin"))
    return Store(folder / "data", clean, asked)


@pytest.fixture(scope="module")
def killed(children: Children, whole: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same index, whose process was killed when it had written everything and sealed nothing.

    What it wrote last is still in SQLite's log.
    """
    folder = tmp_path_factory.mktemp("killed")
    docs = whole.data.parent / "docs"
    run = {"paths": [str(docs)], "settings": MANY_CHUNKS}
    steps: list[str] = children.do("ingest", folder / "counted", die_at=-1, **run)["steps"]
    settled = [n for n, step in enumerate(steps, start=1) if step == "after Database.settle"]
    assert len(settled) == 2  # when the run seals, and when the index is closed
    assert children.die(settled[0] - 1, "ingest", folder / "data", **run)
    log = folder / "data" / f"{CATALOGUE}-wal"
    assert log.stat().st_size > PAGE
    return Store(folder / "data", whole.clean, whole.asked)


# What happens to files


def flip(place: int, bit: int = 0) -> Callable[[bytearray], bytearray]:
    def change(content: bytearray) -> bytearray:
        content[place] ^= 1 << bit
        return content

    return change


def cut(share: float) -> Callable[[bytearray], bytearray]:
    return lambda content: content[: int(len(content) * share)]


def lose(_content: bytearray) -> None:
    return None


def harms(store: Store, chance: random.Random, rounds: int) -> Iterator[Harm]:
    """Each file cut, emptied, lost, and flipped in places, so many of each."""
    for path in sorted(each for each in store.data.rglob("*") if each.is_file()):
        size, name = path.stat().st_size, path.relative_to(store.data).as_posix()
        if name in ("lock", "owner.json") or name.endswith("-shm") or not size:
            continue
        yield Harm(name, "lost", lose)
        yield Harm(name, "emptied", cut(0))
        for _ in range(rounds):
            share = chance.random()
            yield Harm(name, f"cut to {share:.3f}", cut(share))
            for place in (chance.randrange(min(size, 100)), chance.randrange(size)):
                bit = chance.randrange(8)
                yield Harm(name, f"bit {bit} of byte {place}", flip(place, bit))


def catalogue_harms(store: Store, chance: random.Random) -> Iterator[Harm]:
    """What is worst in the catalogue: its header, heads of pages, text and vectors."""
    content = (store.data / CATALOGUE).read_bytes()
    for place in (0, 16, 17, 18, 19, 20, 24, 28, 31, 35, 39, 43, 47, 59, 63, 95, 100, 103, 105):
        yield Harm(CATALOGUE, f"header byte {place}", flip(place, chance.randrange(8)))
    pages = range(PAGE, len(content), PAGE)
    for page in chance.sample(pages, 8):
        place = page + chance.randrange(12)
        yield Harm(CATALOGUE, f"head of a page, byte {place}", flip(place, chance.randrange(8)))
    for word in ("f0aq", "f3bq", "f5cq"):
        found = [each.start() for each in re.finditer(word.encode(), content)]
        for bit in (0, 7):  # another letter, and no text any more
            place = chance.choice(found)
            yield Harm(CATALOGUE, f"text at byte {place}, bit {bit}", flip(place, bit))
    for vector in list(store.clean["vectors"].values())[:: len(store.clean["vectors"]) // 3]:
        place = content.find(vector.astype(np.float16).tobytes()[:64])
        if place >= 0:
            yield Harm(CATALOGUE, f"vector at byte {place}", flip(place + 1, 6))


# What comes of it


class Came(NamedTuple):
    """How an index with a damaged file was opened."""

    end: str
    crashes: int


def open_harmed(children: Children, store: Store, harm: Harm, data: Path) -> Came:
    """Open a copy with the harm done, and judge every answer. Raises AssertionError."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(store.data, data)
    changed = harm.change(bytearray((data / harm.file).read_bytes()))
    if changed is None:
        (data / harm.file).unlink()
    else:
        (data / harm.file).write_bytes(changed)
    crashes = 0
    while True:
        try:
            look = children.do("look", data, words=store.asked)
        except Ended as error:
            said = str(error)
            if re.fullmatch(r"exit status -\d+", said):
                crashes += 1
                assert crashes < 2, "the process was taken down twice"
                continue
            last = said.strip().splitlines()[-1]
            assert last.startswith("rag_bot.errors.IndexDamaged: "), said
            assert CATALOGUE in last
            assert "`ingest" in last
            return Came("refused", crashes)
        return Came(judge(look, store), crashes)


def judge(look: Look, store: Store) -> str:
    """Whether all answers are right, and what it took."""
    held, clean = look["documents"], store.clean["documents"]
    assert all(clean[source] == document for source, document in held.items())
    missing = clean.keys() - held.keys()
    assert set(look["damaged"]) in (missing, set())
    if not held:
        # Before the collection was made, or while it was still empty.
        assert look["generation"] in (None, store.clean["generation"])
        return "an older state"
    assert look["differences"] == []
    gone = {chunk for source in missing for chunk, *_ in clean[source][4]}
    assert look["vectors"].keys() == store.clean["vectors"].keys() - gone
    for word, (lexical, dense) in store.clean["found"].items():
        if not missing:
            assert_same_hits(look["found"][word][0], lexical)
        elif len(lexical) < LIMITS[0]:
            assert {i for i, _ in look["found"][word][0]} == {i for i, _ in lexical} - gone
        right = cosines(word, look["vectors"])
        found = dict(look["found"][word][1])
        assert found == pytest.approx({chunk: right[chunk] for chunk in found}, abs=1e-3)
        assert max(found.values()) == pytest.approx(max(right.values()), abs=1e-3)
        assert len(found) == min(len(dense), len(right))
        # HNSW may miss some, and the best among them; what it finds is there, as near as it says.
        near = dict(look["nearest"][word])
        assert near == pytest.approx({chunk: right[chunk] for chunk in near}, abs=1e-3)
        assert len(near) == len(found)
    if not missing:
        return "made anew"
    return "documents taken out and named" if look["damaged"] else "an older state"


def cosines(word: str, vectors: Mapping[str, Any]) -> dict[str, float]:
    query = WordEmbedder().encode([word])[0]
    return {chunk: cosine(query, vector) for chunk, vector in vectors.items()}


def thinned(harms: Sequence[Harm], count: int, chance: random.Random) -> list[Harm]:
    """So many of them, of every file at least one."""
    files = list(dict.fromkeys(harm.file for harm in harms))
    chosen = [chance.choice([harm for harm in harms if harm.file == file]) for file in files]
    rest = [harm for harm in harms if harm not in chosen]
    return chosen + chance.sample(rest, max(0, min(len(rest), count - len(chosen))))


def play(
    children: Children, store: Store, chosen: Sequence[Harm], data: Path
) -> tuple[Counter[str], int]:
    """How each ended, and how often the process was taken down."""
    ends: Counter[str] = Counter()
    crashes = 0
    for harm in chosen:
        try:
            came = open_harmed(children, store, harm, data)
        except (AssertionError, Ended) as error:
            raise AssertionError(f"{harm.file}: {harm.what}: {error}") from error
        ends[came.end] += 1
        crashes += came.crashes
        # Only damage to the catalogue may cost a document. What a log says that SQLite finds torn
        # was never written, as far as anybody can tell.
        assert harm.file.startswith(CATALOGUE) or came.end == "made anew", harm
        assert harm.file.endswith("-wal") or came.end != "an older state", harm
    return ends, crashes


def test_after_a_clean_end_damage_to_any_file_is_noticed_and_crashes_nothing(
    children: Children, whole: Store, tmp_path: Path, full: bool, figures: Figures
) -> None:
    chance = random.Random(SEED)
    worst = list(catalogue_harms(whole, chance))
    each = list(harms(whole, chance, 2 if full else 1))
    chosen = worst + each if full else chance.sample(worst, 4) + thinned(each, 8, chance)
    ends, crashes = play(children, whole, chosen, tmp_path / "data")
    assert crashes == 0
    figures("damage", f"{len(chosen)} files damaged after a clean end, all noticed: {dict(ends)}")


def test_after_a_kill_damage_to_any_file_gives_no_wrong_answer(
    children: Children, killed: Store, tmp_path: Path, full: bool, figures: Figures
) -> None:
    chance = random.Random(SEED + 1)
    each = list(harms(killed, chance, 2 if full else 1))
    chosen = each if full else thinned(each, 6, chance)
    ends, crashes = play(children, killed, chosen, tmp_path / "data")
    figures(
        "damage after a kill",
        f"{len(chosen)} files damaged, no wrong answer: {dict(ends)}; Chroma took the process"
        f" down {crashes} times, never twice",
    )
