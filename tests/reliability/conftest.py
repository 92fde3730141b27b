"""What the checks share: processes that can be killed, and the figures that they show."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FIGURES = "RELIABILITY_FIGURES"

Figures = Callable[[str, str], None]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Says what a check has shown: `figures("crash", "50 of 50 equal a clean build")`.

    The lines are printed at the end, and added to the file of JSON lines that
    RELIABILITY_FIGURES names.
    """

    def note(name: str, line: str) -> None:
        record_property(name, line)
        if FIGURES in os.environ:
            with Path(os.environ[FIGURES]).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({name: line}, ensure_ascii=False) + "\n")

    return note


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.timeout(3600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("passed", [])
    lines = dict(line for each in reports for line in each.user_properties)
    if lines:
        terminalreporter.section("reliability")
    for name, line in lines.items():
        terminalreporter.write_line(f"{name}: {line}")


class Ended(Exception):
    """A child ended with an error that its task did not foresee."""


class Children:
    """A process that forks: each child does one task of `child.py` to an index.

    One child at a time; from one thread.
    """

    _names = itertools.count()

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder = folder
        environ = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py"), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            cwd=folder,
        )

    def close(self) -> None:
        """End it; a child that still runs is killed first."""
        self._process.communicate(timeout=30)

    def do(self, task: str, data: Path, **request: Any) -> dict[str, Any]:
        """Let a child do a task to its end. Raises Ended."""
        out = self._ask(task, data, request)
        status = self._line()
        if status != 0:
            raise Ended(self._result(out).get("trace", f"exit status {status}"))
        return self._result(out)

    def kill(self, after: float, task: str, data: Path, **request: Any) -> float | None:
        """Let a child begin a task and kill it `after` seconds.

        Returns None, or how long the task took if it had ended before. Raises Ended if it failed.
        """
        begun = time.perf_counter()
        out = self._ask(task, data, request)
        taken = after
        # By a handle, not by its number, which may be another's when it is sent.
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self._child)
            select.select([handle], [], [], max(0.0, after - (time.perf_counter() - begun)))
            taken = time.perf_counter() - begun
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        return None if self._killed(out) else taken

    def left_behind(self) -> bool:
        """Whether a process that the last child started is still there."""
        try:
            os.killpg(self._child, 0)
        except ProcessLookupError:
            return False
        return True

    def clear(self) -> None:
        """End what the last child started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)

    def die(self, at: int, task: str, data: Path, **request: Any) -> bool:
        """Let a child do a task until its `at`-th step, where it kills itself. Whether it did."""
        return self._killed(self._ask(task, data, request | {"die_at": at}))

    def _killed(self, out: Path) -> bool:
        status = self._line()
        if status not in (0, -signal.SIGKILL):
            raise Ended(self._result(out).get("trace", f"exit status {status}"))
        return status != 0

    def _ask(self, task: str, data: Path, request: dict[str, Any]) -> Path:
        out = self._folder / f"result-{next(self._names)}"
        line = json.dumps({"task": task, "data": str(data), "out": str(out), **request})
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._child = self._line()
        return out

    def _line(self) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Ended("the process that forks is gone")
        return int(line)

    def _result(self, out: Path) -> dict[str, Any]:
        try:
            with out.open("rb") as stream:
                result: dict[str, Any] = pickle.load(stream)
        except FileNotFoundError:
            return {}
        out.unlink()
        return result


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """Children with a hash embedder."""
    made = Children(tmp_path_factory.mktemp("children"))
    yield made
    made.close()
