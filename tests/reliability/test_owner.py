"""Promise: two ingests and a chat at once. Nothing hangs, nothing is lost, and nothing that was
edited away, deleted or left behind by a flip is ever answered again.

Real processes: a server, the commands beside it, and a client that asks all the time.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from rag_bot.index import Owner, owner
from tests.reliability.conftest import HERE, Figures

SEED = 20262
PATIENCE = 120.0
"""Seconds after which a request or a command counts as hanging."""

_VERSION = re.compile(r"\bdoc[a-z]\d+v\d+\b")


class Commands:
    """`rag-bot` commands over one data folder."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environ = os.environ | {
            "PYTHONPATH": str(HERE.parents[1]),
            "RAG_BOT_DATA_DIR": str(self.data),
            "RAG_BOT_RETRIEVAL__FLOOR": "0",
            **environ,
        }

    def start(self, *words: str, alone: bool = True, **environ: str) -> subprocess.Popen[str]:
        """Begin one; its output is kept. Beside a server it needs no stand-ins."""
        program = [str(HERE / "command.py")] if alone else ["-m", "ui.cli"]
        return subprocess.Popen(
            [sys.executable, *program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environ | environ,
        )

    @contextmanager
    def serving(self) -> Iterator[Owner]:
        """A server, while it is needed."""
        server = self.start("serve", "--port", "0")
        try:
            assert server.stdout
            assert "Serving at" in server.stdout.readline(), server.communicate()[1]
            who = owner(self.data)
            assert who
            assert who.url
            yield who
        finally:
            server.send_signal(signal.SIGTERM)
            _, said = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0, said
        assert owner(self.data) is None


def ended(command: subprocess.Popen[str], status: int = 0) -> str:
    """What a command said; it must end in time, and with this status."""
    try:
        out, said = command.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        command.kill()
        raise AssertionError(f"hangs: {command.args!r}") from None
    assert command.returncode == status, said
    return out + said


# Documents with versions: in each of its chunks a document says its name and its version


class Folder:
    """Files of one folder: `versions` on disk, `answered` after the last ingest."""

    def __init__(self, place: Path, letter: str) -> None:
        self.place, self.letter = place, letter
        self.versions: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self._next = 0
        place.mkdir()
        for _ in range(8):
            self.add()

    def add(self) -> None:
        name = f"doc{self.letter}{self._next}"
        self._next += 1
        self._write(name, 0)

    def edit(self, name: str) -> None:
        self._write(name, self.versions[name] + 1)

    def remove(self, name: str) -> None:
        (self.place / f"{name}.txt").unlink()
        del self.versions[name]

    def _write(self, name: str, version: int) -> None:
        says = f"The document {name} is in its version {name}v{version} and says so."
        filler = " ".join(f"{name}w{number}" for number in range(30))
        text = "\n\n".join(f"{says} {filler}." for _ in range(3))
        # At once, as an editor does it: a file that changes while it is read is another matter.
        new = self.place / f".{name}.new"
        new.write_text(text)
        new.replace(self.place / f"{name}.txt")
        self.versions[name] = version


class Truth:
    """What may be answered, as far as a client can know: told after each ingest has returned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sure: dict[str, int] = {}
        """Documents that are answered with this version and no other."""
        self.gone: set[str] = set()
        """Versions that are never answered again."""

    def unsettle(self, folder: Folder) -> None:
        """An ingest begins: what differs may be answered as it was or as it will be."""
        with self._lock:
            for name, version in folder.answered.items():
                if folder.versions.get(name) != version:
                    self.sure.pop(name, None)

    def settle(self, folder: Folder) -> None:
        """It has ended."""
        with self._lock:
            for name, version in folder.answered.items():
                if folder.versions.get(name) != version:
                    self.gone.add(f"{name}v{version}")
            folder.answered = dict(folder.versions)
            self.sure |= folder.versions

    def known(self) -> tuple[dict[str, int], set[str]]:
        with self._lock:
            return dict(self.sure), set(self.gone)


class Client:
    """Asks all the time, and holds each answer against what is known."""

    def __init__(self, who: Owner, truth: Truth, chance: random.Random) -> None:
        headers = {"Authorization": f"Bearer {who.token}"}
        self._http = httpx.Client(
            base_url=who.url, headers=headers, timeout=PATIENCE, trust_env=False
        )
        self._truth, self._chance = truth, chance
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest = 0.0

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(2 * PATIENCE)
        self._http.close()

    def _run(self) -> None:
        while not self._done.wait(0.02):
            try:
                self._ask_one()
            except Exception as error:  # whatever went wrong: an answer was due
                self.counts["failed"] += 1
                self.wrong.append(repr(error))

    def _ask_one(self) -> None:
        sure, gone = self._truth.known()
        gone_names = [each.split("v")[0] for each in gone]
        name = self._chance.choice([*sure, *gone_names] or ["doc"])
        begun = time.monotonic()
        chat = self._chance.random() < 0.3
        texts = self.chat(name) if chat else self.search(name)
        self.longest = max(self.longest, time.monotonic() - begun)
        self.counts["chat" if chat else "search"] += 1
        still, _ = self._truth.known()
        self.judge(name, texts, sure, still, gone)

    def judge(
        self,
        name: str,
        texts: list[str],
        before: Mapping[str, int],
        after: Mapping[str, int],
        gone: set[str],
    ) -> None:
        """Nothing stale, nothing lost, nothing of two versions at once."""
        versions = {version for text in texts for version in _VERSION.findall(text)}
        if stale := versions & gone:
            self.counts["stale"] += 1
            self.wrong.append(f"{name}: stale {stale}")
        own = {version for version in versions if version.startswith(f"{name}v")}
        if len(own) > 1:
            self.counts["mixed"] += 1
            self.wrong.append(f"{name}: {own} at once")
        if name in before and after.get(name) == before[name] and own != {f"{name}v{before[name]}"}:
            self.counts["lost"] += 1
            self.wrong.append(f"{name}: {own} instead of version {before[name]}")

    def search(self, name: str) -> list[str]:
        """The passages that a search shows."""
        answer = self._http.post("/api/search", json={"query": name, "limit": 30})
        answer.raise_for_status()
        return [each["chunk"]["text"] for each in answer.json()["results"]]

    def chat(self, name: str) -> list[str]:
        """The passages and the words of an answer."""
        body = {"question": f"Which version has the document {name}?"}
        answer = self._http.post("/api/ask", json=body)
        answer.raise_for_status()
        events = [json.loads(line) for line in answer.text.splitlines()]
        assert events[-1]["event"] == "finished", events[-1]
        said = events[-1]["answer"]
        shown = [each for event in events for each in event.get("sources", [])]
        return [said["text"], *(each["chunk"]["text"] for each in [*shown, *said["sources"]])]

    def documents(self) -> set[str]:
        """The files that are listed."""
        answer = self._http.get("/api/documents")
        answer.raise_for_status()
        return {Path(each["source"]).stem for each in answer.json()["documents"]}


class Scene(NamedTuple):
    """Two folders, the commands over their common index, and what is known of it."""

    commands: Commands
    folders: tuple[Folder, Folder]
    truth: Truth

    @property
    def versions(self) -> dict[str, int]:
        return self.folders[0].versions | self.folders[1].versions


def scene(folder: Path, **environ: str) -> Scene:
    folders = Folder(folder / "a", "a"), Folder(folder / "b", "b")
    return Scene(Commands(folder, **environ), folders, Truth())


def churn(folder: Folder, chance: random.Random) -> None:
    """Two documents are edited, one comes and one goes."""
    first, second, third = chance.sample(sorted(folder.versions), 3)
    folder.edit(first)
    folder.edit(second)
    folder.remove(third)
    folder.add()


def ingest_both(scene: Scene, *also: str) -> None:
    """Two ingests at once, and perhaps another command; what is known follows their ends."""
    for folder in scene.folders:
        scene.truth.unsettle(folder)

    def one(folder: Folder) -> None:
        ended(scene.commands.start("ingest", str(folder.place), alone=False))
        scene.truth.settle(folder)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(one, folder) for folder in scene.folders]
        if also:
            ended(scene.commands.start(*also, alone=False))
        for each in running:
            each.result()


def play(scene: Scene, rounds: int, flips: Mapping[int, int]) -> Client:
    """Rounds of changes with a server and a client; `flips` has chunk sizes to rebuild with."""
    chance = random.Random(SEED)
    with ExitStack() as stack:
        who = stack.enter_context(scene.commands.serving())
        ingest_both(scene)  # before it, there is no collection to ask
        client = stack.enter_context(Client(who, scene.truth, chance))
        for number in range(rounds):
            for folder in scene.folders:
                churn(folder, chance)
            size = flips.get(number)
            also = ("ingest", "rebuild", "--set", f"ingest.chunk_tokens={size}") if size else ()
            ingest_both(scene, *also)
            # What has just returned is answered now, and what is gone is not.
            assert client.documents() == scene.versions.keys()
            sure, gone = scene.truth.known()
            assert sure == scene.versions
            for name in sure:
                client.judge(name, client.search(name), sure, sure, gone)
            assert not client.wrong
        said = ended(scene.commands.start("ingest", "verify", alone=False))
        assert "equals its folders" in said
    assert client.counts["search"]
    assert client.counts["chat"]
    return client


def told(client: Client, rounds: int, seconds: float) -> str:
    """The figure that a check shows."""
    counts = client.counts
    return (
        f"{rounds} rounds, {counts['search']} searches and {counts['chat']} chats meanwhile:"
        f" 0 hangs (longest {client.longest:.1f} s), {counts['failed']} failed,"
        f" {counts['lost']} lost, {counts['stale']} stale, {counts['mixed']} mixed, {seconds:.0f} s"
    )


# The checks


def test_two_ingests_and_a_chat_at_once(tmp_path: Path, full: bool, figures: Figures) -> None:
    begun = time.perf_counter()
    rounds = 20 if full else 2
    flips = {number: 64 if number % 8 == 3 else 200 for number in range(3, rounds, 4)}
    where = scene(tmp_path, CHECK_PARSER="here")
    client = play(where, rounds, flips if full else {1: 64})
    figures("two ingests and a chat", told(client, rounds, time.perf_counter() - begun))


def test_the_same_with_the_real_embedder_and_parser(
    tmp_path: Path, full: bool, figures: Figures
) -> None:
    if not full:
        pytest.skip("takes a minute: only with --full")
    begun = time.perf_counter()
    client = play(scene(tmp_path, CHECK_REAL_EMBEDDER="1"), 2, {1: 64})
    seconds = time.perf_counter() - begun
    figures("two ingests and a chat, real embedder", told(client, 2, seconds))


def test_without_a_server_one_ingest_waits_or_is_refused_at_once(
    tmp_path: Path, full: bool
) -> None:
    where = scene(tmp_path, CHECK_PARSER="here")
    commands = where.commands
    chance = random.Random(SEED)
    for _ in range(3 if full else 1):
        both = [commands.start("ingest", str(each.place), "--wait", "60") for each in where.folders]
        for each in both:
            ended(each)
        listed = json.loads(ended(commands.start("documents", "--json")))["documents"]
        assert {Path(each["source"]).stem for each in listed} == where.versions.keys()
        for folder in where.folders:
            churn(folder, chance)
    first = commands.start("ingest", str(where.folders[0].place), CHECK_SLOW="10")
    until = time.monotonic() + PATIENCE
    while owner(commands.data) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    second = ended(commands.start("ingest", str(where.folders[1].place)), status=3)
    assert first.poll() is None, "it was to be refused while the other one was at work"
    assert f"process {first.pid}" in second
    ended(first)
