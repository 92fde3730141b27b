"""Models are loaded one at a time, and once.

While transformers loads a model it patches PyTorch for every thread. An LLM that was loaded beside
an embedder lacked its output layer in five tries of six, and failed at its first word.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOCK = threading.RLock()
"""Held while a model is loaded."""


def alone(load: Callable[P, T]) -> Callable[P, T]:
    """What loads a model, made to wait for other loads."""

    @wraps(load)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        with LOCK:
            return load(*args, **kwargs)

    return waiting


def once(load: Callable[[], T]) -> Callable[[], T]:
    """What gives a model, loaded at the first call; a second one meanwhile waits for that."""
    found: list[T] = []

    def loaded() -> T:
        with LOCK:
            if not found:
                found.append(load())
            return found[0]

    return loaded
