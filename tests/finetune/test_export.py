"""A merged model behind a real OpenAI-compatible server, `transformers serve`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from finetune import export
from rag_bot import adapters, config, generate, prompt
from rag_bot.types import Reading, Source

SERVER = "transformers.cli.transformers"
SOURCES = (
    ("leave.txt", "Staff have 28 days of leave a year. Unused ones lapse in March.", "28 days"),
    ("cars.txt", "The company car may be taken abroad for two weeks.", "two weeks"),
)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """The default LLM with the shipped adapter in its weights."""
    folder = tmp_path_factory.mktemp("export") / "merged"
    plain = config.load(flags={"models.dir": models_dir}, environ={}).settings
    export.merge(plain, adapters.SHIPPED, folder)
    return folder


@pytest.fixture(scope="module")
def url(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server answers with that model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    at = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w") as told:
        server = subprocess.Popen(
            [sys.executable, "-m", SERVER, "serve", str(merged), "--device", "cpu", "--port", port],
            stdout=told,
            stderr=told,
        )
    try:
        patience = time.monotonic() + 120
        while not _healthy(at):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < patience, log.read_text()
            time.sleep(0.2)
        yield f"{at}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _healthy(at: str) -> bool:
    try:
        with urlopen(f"{at}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_an_export_says_behind_a_server_what_the_adapter_says_here(
    url: str, merged: Path, models_dir: Path, source: Callable[..., Source]
) -> None:
    found = []
    for number, (name, text, answer) in enumerate(SOURCES, start=1):
        start = text.index(answer)
        reading = Reading(0.0, 0.9 / number, start, start + len(answer), 0.0)
        found.append(replace(source(number, text, name), reading=reading))
    asked = prompt.build("How many days of leave do I have?", found)
    flags = {"models.dir": models_dir, "models.adapter": "shipped"}
    here = generate.load(config.load(flags=flags, environ={}).settings)
    assert "".join(here.stream(asked)) == "28 days [1]"
    flags = {"models.endpoint": url, "models.llm": str(merged)}
    there = generate.load(config.load(flags=flags, environ={}).settings)
    assert "".join(there.stream(asked)) == "28 days [1]"
