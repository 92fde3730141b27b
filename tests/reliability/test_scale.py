"""Promise: no change, no work. Many small files, once and again, by the real command."""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.reliability.conftest import Figures

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 5.0
LIMIT_MB = 1500
# fmt: off
WORDS = (
    "pump", "valve", "contract", "invoice", "leave", "pressure", "bar", "refund", "notice",
    "order", "filter", "month", "site", "report", "staff", "repair", "annual", "boiler",
    "sensor", "gasket", "office", "lease", "salary", "training", "safety", "delivery",
)
# fmt: on

# The command with an embedder that counts words: ten thousand files would take the real one hours.
HASHED = """
import re, sys, types, zlib
import numpy as np

class Embedder:
    dimension = 384

    @classmethod
    def from_settings(cls, settings):
        return cls()

    def encode(self, texts):
        vectors = np.full((len(texts), self.dimension), 1e-3, dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\\w+", text):
                row[zlib.crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

module = types.ModuleType("rag_bot.embed")
module.Embedder = Embedder
sys.modules["rag_bot.embed"] = module
from ui.cli import main
sys.exit(main(sys.argv[1:]))
"""
PLAIN = "import sys; from ui.cli import main; sys.exit(main(sys.argv[1:]))"


class Ran(NamedTuple):
    """A command's output, its seconds from start to end, its own and its child's peak memory."""

    output: str
    seconds: float
    cpu_seconds: float
    own_mb: float
    child_mb: float


def write_files(folder: Path, count: int) -> None:
    """Small texts of one to four paragraphs, a hundred to a folder."""
    chance = random.Random(7)
    for number in range(count):
        file = folder / f"{number // 100:03}" / f"file{number:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        paragraphs = [
            " ".join(chance.choice(WORDS) for _ in range(40)).capitalize() + "."
            for _ in range(chance.randrange(1, 5))
        ]
        file.write_text("\n\n".join([f"Document number {number}.", *paragraphs, ""]))


def run(code: str, data: Path, *arguments: str) -> Ran:
    """A command in a process of its own. It and its children are looked at while they live."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    own = child = 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=output,
            stderr=subprocess.DEVNULL,
            cwd=REPOSITORY,
            env={**os.environ, "RAG_BOT_DATA_DIR": str(data)},
        )
        while process.poll() is None:
            own = max(own, _peak_mb(process.pid))
            child = max([child, *map(_peak_mb, _children(process.pid))])
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        output.seek(0)
        said = output.read()
    assert process.returncode == 0, said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(said, seconds, cpu, own, child)


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1000


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def test_a_second_run_over_many_files_reads_and_embeds_nothing_and_is_quick(
    full: bool, tmp_path: Path, models_dir: Path, figures: Figures
) -> None:
    count = 10_000 if full else 100
    docs, data = tmp_path / "docs", tmp_path / "data"
    write_files(docs, count)
    time.sleep(2.1)  # what was written a moment ago is read once more
    arguments = ["ingest", str(docs), "--set", f"models.dir={models_dir}"]

    first = run(HASHED, data, *arguments, "--json")
    told: dict[str, Any] = json.loads(first.output)
    assert (told["found"], told["indexed"], told["embedded"] >= count) == (count, count, True)
    assert first.own_mb < LIMIT_MB
    assert first.child_mb < LIMIT_MB

    again = json.loads(run(PLAIN, data, *arguments, "--json").output)
    assert (again["unchanged"], again["embedded"]) == (count, 0)
    runs = [run(PLAIN, data, *arguments) for _ in range(3 if full else 1)]
    assert all(each.output.startswith(f"{count} unchanged in ") for each in runs)
    assert all(each.child_mb == 0 for each in runs), "a process was started to read files"
    seconds = statistics.median(each.seconds for each in runs)
    cpu_seconds = statistics.median(each.cpu_seconds for each in runs)
    assert cpu_seconds < LIMIT_SECONDS
    load = os.getloadavg()[0]
    busy = (
        f", for others kept the machine busy (load {load:.1f})" if seconds > LIMIT_SECONDS else ""
    )
    figures(
        "7 scale",
        f"{count} small files: {count / first.seconds:.0f} files/s with a hash embedder, peak"
        f" memory {first.own_mb:.0f} MB + {first.child_mb:.0f} MB in the process that reads; the"
        f" second run embeds nothing and takes {seconds:.1f} s{busy} ({cpu_seconds:.1f} s of one"
        f" core, {max(each.own_mb for each in runs):.0f} MB)",
    )
