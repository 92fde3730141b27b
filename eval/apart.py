"""A task in a process of its own, watched from outside: what it gives, and the memory it takes.

A fresh process owes nothing to the one before it: no cache, no model still loaded, and a peak of
memory that is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rag_bot.errors import Unavailable

ROOT = Path(__file__).parents[1]
_INTERVAL = 0.05
_OFFLINE = {
    # Nothing calls home or asks a hub while the clock runs, and no GPU is used where others
    # have none.
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}


class Ended(NamedTuple):
    """What a task gave. `memory_mb`: the most that it and its children held at one moment.

    Resident memory, summed over the processes every 50 ms: pages that two of them share count
    twice.
    """

    result: dict[str, Any]
    memory_mb: float


def run(python: Path, module: str, task: Mapping[str, object], patience: float) -> Ended:
    """`python -m module`, given a task as JSON. `main` below is what the module answers with.

    Raises Unavailable with the process's last words when it fails, or takes longer than
    `patience` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="rag-bot-bench-") as scratch:
        work = Path(scratch)
        given, got, said = work / "task.json", work / "result.json", work / "said.txt"
        given.write_text(json.dumps(task), "utf-8")
        environ = {**os.environ, **_OFFLINE, "PYTHONPATH": str(ROOT)}
        with said.open("w") as output:
            process = subprocess.Popen(
                [python, "-m", module, given, got],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=work,
                env=environ,
                start_new_session=True,
            )
            try:
                peak = _watch(process, patience)
            finally:
                # With all that it started.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode or not got.is_file():
            raise Unavailable(_last_words(said))
        return Ended(json.loads(got.read_text("utf-8")), peak)


def main(arguments: list[str], answer: Callable[[Any], object]) -> int:
    """The other side: read the task, carry it out, write the result."""
    given, got = map(Path, arguments)
    result = answer(json.loads(given.read_text("utf-8")))
    got.write_text(json.dumps(result), "utf-8")
    return 0


def folder_mb(folder: Path) -> float:
    """What the files below a folder take, in megabytes of 10⁶ bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _watch(process: subprocess.Popen[bytes], patience: float) -> float:
    """Wait for the end. Returns the peak in MB."""
    end = time.monotonic() + patience
    peak = 0.0
    while process.poll() is None:
        if time.monotonic() > end:
            raise Unavailable(f"took longer than {patience:.0f} s", "raise --patience")
        peak = max(peak, sum(_resident_mb(pid) for pid in _tree(process.pid)))
        time.sleep(_INTERVAL)
    return peak


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:  # it has ended
            continue
        for child in children:
            found += _tree(child)
    return found


def _resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line) / 1000


def _last_words(said: Path) -> str:
    lines = [line.strip() for line in said.read_text("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "ended without a word")
