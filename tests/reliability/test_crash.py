"""Promise: killed anywhere and run again, an index equals one that was never disturbed.

First at moments of time, wherever the process happens to be; then before and after each step of
every operation that changes the index. A hash embedder and Chroma, tantivy, SQLite, the tokenizer
and the parsers as they are; once with the real embedder.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import docx
import fpdf
import numpy as np
import pytest

from tests.reliability.child import LIMITS
from tests.reliability.conftest import Children, Figures

SEED = 20260
SAME_COSINE = 0.9999
SMALL_BATCHES = {"ingest.batch_chunks": 24}
OTHER_CHUNKS = {"ingest.chunk_tokens": 48}

Look = dict[str, Any]
Hits = Sequence[tuple[str, float]]


# A folder


def words(seed: str, count: int) -> list[str]:
    """Words that no other seed gives, and no stemmer changes."""
    chance = random.Random(seed)
    return [f"{seed}q{chance.randrange(10_000):04}" for _ in range(count)]


def sentences(seed: str, count: int) -> str:
    """Some text: each seed has its own words."""
    given = words(seed, 12 * count)
    return " ".join(" ".join(given[i : i + 12]) + "." for i in range(0, len(given), 12))


def write(path: Path, seed: str, length: int = 12) -> None:
    """A document of the kind that its name says, dated an hour ago as if it had lain there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [sentences(f"{seed}{part}", length) for part in "abc"]
    if path.suffix == ".docx":
        document = docx.Document()
        for part in parts:
            document.add_heading(f"About {part[:8]}")
            document.add_paragraph(part)
        document.save(str(path))
    elif path.suffix == ".pdf":
        pdf = fpdf.FPDF()
        pdf.set_font("Helvetica", size=10)
        for part in parts:
            pdf.add_page()
            pdf.multi_cell(0, 5, part)
        pdf.output(str(path))
    else:
        path.write_text(
            {
                ".md": "\n\n".join(f"# About {part[:8]}\n\n{part}" for part in parts),
                ".html": "".join(f"<h1>About {part[:8]}</h1><p>{part}</p>" for part in parts),
                ".csv": "name,said\n" + "\n".join(f"{part[:8]},{part}" for part in parts),
                ".txt": "\n\n".join(parts),
            }[path.suffix]
        )
    age(path)


def age(path: Path) -> None:
    """Date a file an hour ago: what was written just now is read again."""
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


def write_folder(folder: Path, count: int, length: int) -> None:
    """So many files of several kinds, in folders, with twins, and some that are rejected."""
    kinds = itertools.cycle([".txt", ".md", ".html", ".csv", ".docx", ".txt", ".pdf", ".md"])
    for number, kind in zip(range(count - 4), kinds, strict=False):
        write(folder / f"part{number % 3}" / f"file{number:02}{kind}", f"f{number:02}", length)
    shutil.copy2(folder / "part0" / "file00.txt", folder / "twin.txt")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nbroken")
    (folder / "tail.txt").write_text(sentences("tail", 3))
    for name in ("empty.txt", "broken.pdf", "tail.txt"):
        age(folder / name)


# What an index says


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def nearest(look: Look, clean: Look) -> float:
    """The least cosine between vectors of the same chunk, in the catalogue and in Chroma."""
    cosines = [
        cosine(look[place][chunk], clean["vectors"][chunk])
        for place in ("vectors", "held")
        for chunk in clean["vectors"]
    ]
    return min(cosines, default=1.0)


def assert_equal(look: Look, clean: Look) -> None:
    """Both hold the same; nothing lies about."""
    assert look["documents"] == clean["documents"]
    assert look["generation"] == clean["generation"]
    assert look["vectors"].keys() == look["held"].keys() == clean["vectors"].keys()
    assert nearest(look, clean) >= SAME_COSINE
    for name in ("rejected", "forgotten", "roots", "feedback", "made"):
        assert look[name] == clean[name], name
    assert look["differences"] == look["damaged"] == look["debris"] == []


def assert_answers_equal(look: Look, clean: Look) -> None:
    """Both find the same, with the same scores."""
    assert look["found"].keys() == clean["found"].keys()
    for word, (lexical, dense) in clean["found"].items():
        assert_same_hits(look["found"][word][0], lexical)
        assert_same_hits(look["found"][word][1], dense)


def assert_same_hits(hits: Hits, wanted: Hits) -> None:
    """The same scores, and above the last of them, where ties are cut off, the same chunks."""
    scores = sorted(score for _, score in hits)
    assert scores == pytest.approx(sorted(score for _, score in wanted), rel=1e-3, abs=1e-6)
    if scores:
        last = scores[0] * 1.01 if len(scores) in LIMITS else -1.0
        assert [i for i, score in hits if score > last] == [i for i, s in wanted if s > last]


# At any moment


class Bench(NamedTuple):
    """Where rounds take place: a folder, and what a clean build of it is, and how long it takes."""

    folder: Path
    docs: Path
    clean: Look
    asked: list[str]
    seconds: float


def set_up(children: Children, folder: Path, count: int, length: int = 8, **request: Any) -> Bench:
    docs = folder / "docs"
    write_folder(docs, count, length)
    run = {"paths": [str(docs)], "parser": "forked", "settings": SMALL_BATCHES} | request
    begun = time.perf_counter()
    children.do("ingest", folder / "clean", **run)
    seconds = time.perf_counter() - begun
    asked = [words(f"f{number:02}b", 1)[0] for number in range(0, count - 4, 5)] + ["about"]
    clean = children.do("look", folder / "clean", words=asked, **request)
    assert len(clean["documents"]) == count - 2
    assert set(clean["rejected"].values()) == {"empty", "damaged"}
    assert all(clean["found"].values())
    return Bench(folder, docs, clean, asked, seconds)


def play(
    children: Children,
    bench: Bench,
    name: str,
    moments: Sequence[float],
    parser: str,
    **request: Any,
) -> float:
    """Kill a run at each moment, one after the other, then let it end. The least cosine.

    A run that ended before its moment is begun once more, and killed earlier.
    """
    data = bench.folder / name
    run = {"paths": [str(bench.docs)], "parser": parser, "settings": SMALL_BATCHES} | request
    for moment in moments:
        while (taken := children.kill(moment, "ingest", data, **run)) is not None:
            shutil.rmtree(data)
            moment = 0.7 * taken
        if parser == "spawned":
            wait_until(lambda: not children.left_behind())
        children.clear()
    children.do("ingest", data, **run)
    look = children.do("look", data, words=bench.asked, **request)
    assert_equal(look, bench.clean)
    assert_answers_equal(look, bench.clean)
    shutil.rmtree(data)
    return nearest(look, bench.clean)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Raises AssertionError if it does not become true in time."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def moments(count: int, seconds: float, chance: random.Random) -> list[float]:
    """One moment in each of so many equal parts of a run."""
    return [(part + chance.random()) * seconds / count for part in range(count)]


def test_killed_at_any_moment_and_run_again_an_ingest_equals_a_clean_build(
    children: Children, tmp_path: Path, full: bool, figures: Figures
) -> None:
    begun = time.perf_counter()
    chance = random.Random(SEED)
    bench = set_up(children, tmp_path, 60 if full else 12)
    least = 1.0
    # Started as it is in earnest, a parser needs some seconds for its imports.
    for parser, count, seconds in (
        ("forked", 40 if full else 1, bench.seconds),
        ("spawned", 10 if full else 1, bench.seconds + 3),
    ):
        for number, moment in enumerate(moments(count, seconds, chance)):
            # Every third run is killed once more, while it mends what the first kill left.
            again = [chance.random() * seconds] if number % 3 == 2 else []
            nearby = play(children, bench, f"{parser}{number}", [moment, *again], parser)
            least = min(least, nearby)
    seconds = time.perf_counter() - begun
    rounds = "50 of 50" if full else "2 of 2"
    figures("crash", f"{rounds} equal a clean build, cosine {least:.6f}, {seconds:.0f} s")


def test_the_same_with_the_real_embedder(tmp_path: Path, full: bool, figures: Figures) -> None:
    if not full:
        pytest.skip("only with --full")
    children = Children(tmp_path, "--real")
    bench = set_up(children, tmp_path, 24, 2, real_embedder=True)
    count = 5
    chance = random.Random(SEED)
    least = min(
        play(children, bench, f"real{number}", [moment], "forked", real_embedder=True)
        for number, moment in enumerate(moments(count, bench.seconds, chance))
    )
    children.close()
    figures("crash with the real embedder", f"{count} of {count}, cosine {least:.6f}")


# At each step


class Operation(NamedTuple):
    """Something that changes an index: what happens in the folder first, and what is asked then.

    `gone` are the seeds of the documents of which no trace may be left afterwards.
    """

    name: str
    change: Callable[[Path], None]
    task: str
    request: Mapping[str, Any] = {}
    gone: tuple[str, ...] = ()


def nothing(_: Path) -> None:
    """Leave the folder as it is."""


def add(docs: Path) -> None:
    write(docs / "new" / "g00.txt", "g00", 4)
    write(docs / "new" / "g01.md", "g01", 4)
    (docs / "bad.pdf").write_bytes(b"%PDF-1.7\nbroken")
    age(docs / "bad.pdf")


def edit(docs: Path) -> None:
    write(docs / "part0" / "file00.txt", "g00", 4)
    write(docs / "part1" / "file01.md", "g01", 4)


def remove(docs: Path) -> None:
    (docs / "part1" / "file01.md").unlink()


def rename(docs: Path) -> None:
    (docs / "part1" / "file01.md").rename(docs / "part1" / "renamed.md")
    (docs / "moved").mkdir()
    (docs / "part2" / "file02.html").rename(docs / "moved" / "file02.html")


def all_at_once(docs: Path) -> None:
    (docs / "part2" / "file02.html").rename(docs / "part2" / "renamed.html")
    remove(docs)
    write(docs / "part0" / "file00.txt", "g00", 4)
    write(docs / "new" / "g01.md", "g01", 4)


SYNC = {"paths": ["DOCS"], "settings": {"ingest.batch_chunks": 4}}
OPERATIONS = (
    Operation("add", add, "ingest", SYNC),
    Operation("edit", edit, "ingest", SYNC),
    Operation("removal by sync", remove, "ingest", SYNC, ("f01",)),
    Operation("rename", rename, "ingest", SYNC),
    Operation("all at once", all_at_once, "ingest", SYNC, ("f01",)),
    Operation(
        "delete", nothing, "delete", {"sources": ["DOCS/part1/file01.md"]}, ("f01", "feedback")
    ),
    Operation(
        "delete of an upload", nothing, "delete", {"sources": ["DATA/uploads/u.txt"]}, ("u",)
    ),
    Operation("drop", nothing, "drop", {}, ("f00", "f01", "f02", "u")),
    Operation("compaction", nothing, "compact"),
    Operation("flip", nothing, "rebuild", {"settings": OTHER_CHUNKS}),
)
NAMED = ("edit", "delete", "rename", "flip")
"""Tried at each of their steps in the full form; the others at fifteen."""


class Stage:
    """A small folder with an index of it, on which an operation is tried again and again."""

    def __init__(self, children: Children, folder: Path, operation: Operation) -> None:
        self.children, self.operation = children, operation
        self.docs, self.data = folder / "docs", folder / "data"
        self._before, self._killed = folder / "before", folder / "killed"
        write_folder(self.docs, 9, 4)
        write(self.data / "uploads" / "u.txt", "u", 4)
        rows = self.data / "rows.jsonl"
        rows.write_text('{"id": "row1", "said": "feedbackq1234"}\n{"id": "row2", "said": "kept"}\n')
        paths = [str(self.docs), str(self.data / "uploads")]
        children.do("ingest", self.data, paths=paths)
        source = str(self.docs / "part1" / "file01.md")
        text = "feedbackq1234"
        children.do("record", self.data, source=source, text=text, item="row1", rows=str(rows))
        self.asked = [words(f"{seed}{part}", 1)[0] for seed in SEEDS for part in "ac"]
        self.before = self.look()
        shutil.copytree(self.data, self._before)
        operation.change(self.docs)
        request = dict(operation.request)
        self.request: dict[str, Any] = json.loads(
            json.dumps(request).replace("DOCS", str(self.docs)).replace("DATA", str(self.data))
        )
        self.steps = children.do(operation.task, self.data, **self.request, die_at=0)["steps"]
        self.after = self.look()
        self.assert_no_trace()

    def look(self) -> Look:
        return self.children.do("look", self.data, words=self.asked)

    def kill_at(self, step: int) -> None:
        """Kill the operation there; look, and do it again. And without looking in between."""
        restore(self._before, self.data)
        assert self.children.die(step, self.operation.task, self.data, **self.request)
        restore(self.data, self._killed)
        self.assert_old_or_new(self.look())
        self._again()
        restore(self._killed, self.data)
        self._again()

    def _again(self) -> None:
        self.children.do(self.operation.task, self.data, **self.request)
        look = self.look()
        assert_equal(look, self.after)
        # Not the scores: BM25 counts what was taken out until the index is made anew.
        assert_answers(look)
        self.assert_no_trace()

    def assert_old_or_new(self, look: Look) -> None:
        """Each document as it was or as it will be, and found accordingly."""
        now, old, new = (each["documents"] for each in (look, self.before, self.after))
        assert all(now[source] in (old.get(source), new.get(source)) for source in now)
        assert old.keys() & new.keys() <= now.keys()
        assert contents(old) & contents(new) <= contents(now)
        if look["generation"] != self.before["generation"]:
            assert look["generation"] == self.after["generation"]
            assert now == new
        assert_answers(look)

    def assert_no_trace(self) -> None:
        """No word and no vector of what had to go is in any file."""
        needles = [
            word.encode()
            for seed in self.operation.gone
            for part in "abc"
            for word in words(f"{seed}{part}", 48)
        ]
        for kind in ("<f2", "<f4") if self.operation.gone else ():
            kept = {vector.astype(kind).tobytes() for vector in self.after["vectors"].values()}
            held = {vector.astype(kind).tobytes() for vector in self.before["vectors"].values()}
            needles += held - kept
        found = [
            (file.name, needle[:20])
            for file in self.data.rglob("*")
            if file.is_file()
            for content in [file.read_bytes()]
            for needle in needles
            if needle in content
        ]
        assert not found


SEEDS = [f"f{number:02}" for number in range(5)] + ["g00", "g01", "u"]


def restore(saved: Path, place: Path) -> None:
    """Make a folder what another one is."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(saved, place)


def contents(documents: Mapping[str, Any]) -> set[str]:
    return {sha256 for _, sha256, *_ in documents.values()}


def assert_answers(look: Look) -> None:
    """What is listed is found, by its words and by its vectors, and nothing else."""
    if look["generation"] is None:
        return
    assert look["differences"] == look["damaged"] == []
    chunks = {chunk: text for *_, held in look["documents"].values() for chunk, _, text in held}
    assert look["held"].keys() == look["vectors"].keys() == chunks.keys()
    for word, (lexical, dense) in look["found"].items():
        assert {chunk for chunk, _ in lexical} == {i for i, text in chunks.items() if word in text}
        assert len(dense) == min(LIMITS[1], len(chunks))


def chosen(stage: Stage, full: bool) -> list[int]:
    """At which steps to kill: all of them, fifteen, or two."""
    steps = list(range(1, len(stage.steps) + 1))
    if full and stage.operation.name in NAMED:
        return steps
    return random.Random(SEED).sample(steps, min(15 if full else 2, len(steps)))


@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.name for each in OPERATIONS])
def test_killed_at_each_step_an_operation_shows_old_or_new_and_can_be_done_again(
    children: Children, tmp_path: Path, full: bool, figures: Figures, operation: Operation
) -> None:
    if not full and operation.name not in NAMED:
        pytest.skip("only with --full")
    begun = time.perf_counter()
    stage = Stage(children, tmp_path, operation)
    steps = chosen(stage, full)
    for step in steps:
        try:
            stage.kill_at(step)
        except AssertionError as error:
            error.add_note(f"killed {stage.steps[step - 1]} (step {step})")
            raise
    seconds = time.perf_counter() - begun
    line = f"{len(steps)} of {len(steps)} old or new, then equal, {seconds:.0f} s"
    figures(f"crash at steps of {operation.name}", line)
