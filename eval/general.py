"""What an adapter costs elsewhere: perplexity on general text, and time for each token.

    python -m eval.general --text FILE [--tokens 50000]

sets the live adapter beside the model alone. One that was tuned to a single task may lose its
language; here is by how much. Perplexity is `exp` of the mean negative log-likelihood of the
tokens, each given 512 to 1,023 before it (Jelinek et al., 1977; windows that overlap by half).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eval.metrics.perplexity import perplexity
from rag_bot import adapters, config, generate, models
from rag_bot.config import Settings
from rag_bot.embed import precision, use_threads
from rag_bot.errors import UsageError
from rag_bot.generate import LocalChatModel

_WINDOW = 1024
_PIECES = 48
_ANSWERS = 5


class Cost(NamedTuple):
    """`reading` and `writing` are median seconds for a window of tokens and for a piece of text."""

    perplexity: float
    reading: float
    writing: float


def costs(chats: Sequence[LocalChatModel], ids: Sequence[int], text: str) -> list[Cost]:
    """Each model's, window by window in turn, so that a busy machine slows all alike."""
    losses: list[list[float]] = [[] for _ in chats]
    reading: list[list[float]] = [[] for _ in chats]
    for window, scored in windows(len(ids)):
        for n, chat in enumerate(chats):
            begun = time.perf_counter()
            losses[n] += chat.nlls(ids[window], scored)
            reading[n].append(time.perf_counter() - begun)
        done = len(losses[0])
        print(f"\r{done}/{len(ids)} tokens", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    writing: list[list[float]] = [[] for _ in chats]
    for _ in range(_ANSWERS):
        for n, chat in enumerate(chats):
            at = [time.perf_counter() for _ in chat.stream(f"Tell me more about this: {text}")]
            writing[n] += [after - before for before, after in pairwise(at)]
    return [
        Cost(perplexity(of) or 0.0, median(read), median(written) if written else 0.0)
        for of, read, written in zip(losses, reading, writing, strict=True)
    ]


def windows(length: int) -> list[tuple[slice, int]]:
    """Slices of so many tokens, and how many of the last of each are scored: each one once."""
    half = _WINDOW // 2
    found: list[tuple[slice, int]] = []
    done = 1
    while done < length:
        end = min(_WINDOW if done == 1 else done + half, length)
        found.append((slice(max(0, end - _WINDOW), end), end - done))
        done = end
    return found


def chats(settings: Settings) -> tuple[LocalChatModel, LocalChatModel]:
    """The model alone, and with the live adapter. Raises UsageError where none is live."""
    adapter = adapters.located(settings)
    if adapter is None:
        raise UsageError("no adapter is live", "set models.adapter")
    use_threads(settings.models.threads)
    folder = models.locate(settings.models.llm, settings.models.dir)
    how = settings.generation.model_copy(update={"max_tokens": _PIECES})
    dtype = precision(settings.models.precision)
    return LocalChatModel(folder, dtype, how), LocalChatModel(folder, dtype, how, adapter)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each, and the ratios."""
    parser = argparse.ArgumentParser(prog="python -m eval.general", description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=50_000)
    options = parser.parse_args(arguments)
    settings = config.load().settings
    tokenizer = generate.tokenizer(models.locate(settings.models.llm, settings.models.dir))
    text = options.text.read_text("utf-8")
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: options.tokens]
    alone, adapted = costs(chats(settings), ids, text[:500])
    for name, cost in (("alone", alone), ("with adapter", adapted)):
        print(
            f"{name:13} perplexity {cost.perplexity:.2f}, {cost.reading:.3f} s for {_WINDOW}"
            f" tokens read, {cost.writing * 1000:.0f} ms for a piece written"
        )
    print(
        f"{'ratio':13} perplexity {adapted.perplexity / alone.perplexity:.3f},"
        f" reading {adapted.reading / alone.reading:.3f},"
        f" writing {adapted.writing / alone.writing:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
