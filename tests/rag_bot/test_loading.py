"""Models that load at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from rag_bot import generate, loading, read
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.types import Message


def together(*tasks: Callable[[], object]) -> list[object]:
    """What each gives or raises, all begun at once."""
    found: list[object] = [None] * len(tasks)
    ready = threading.Barrier(len(tasks))

    def run(n: int) -> None:
        ready.wait()
        try:
            found[n] = tasks[n]()
        except Exception as error:  # to be looked at by the test
            found[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_models_loaded_at_once_all_work(settings: Settings) -> None:
    asked = [Message("user", "Say hello.")]

    def written() -> str:
        return next(generate.load(settings).stream(asked))

    def embedded() -> float:
        return float(Embedder.from_settings(settings).encode(["hello"]).sum())

    def answered() -> float:
        reader = read.load(settings)
        assert reader
        return reader.read("Who is here?", [("", "Anna is here.")])[0].answerable

    alone = [written(), embedded(), answered()]
    assert together(written, embedded, answered) == alone


def test_a_model_is_loaded_once_by_whoever_comes_first() -> None:
    begun: list[int] = []

    def load() -> object:
        begun.append(1)
        time.sleep(0.05)
        return object()

    model = loading.once(load)
    first, second = together(model, model)
    assert first is second
    assert len(begun) == 1


def test_what_failed_to_load_is_tried_again() -> None:
    tries = iter([True, False])

    def load() -> str:
        if next(tries):
            raise OSError("not yet")
        return "a model"

    model = loading.once(load)
    with pytest.raises(OSError, match="not yet"):
        model()
    assert model() == "a model"
