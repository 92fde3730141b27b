"""From examples to token ids, and from token ids to batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from finetune.examples import QAExample
from rag_bot.generate import render


class Encoded(NamedTuple):
    """One example: the prompt, what should follow, and what should not.

    `rejected` is empty where nothing is to be preferred.
    """

    prompt: list[int]
    answer: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        """Tokens that training reads of it."""
        longest = len(self.prompt) + len(self.answer)
        return longest + len(self.prompt) + len(self.rejected) if self.rejected else longest


def encode(tokenizer: Any, example: QAExample) -> Encoded:
    """The prompt as serving renders it; an answer ends with the token that ends a turn."""
    end = [tokenizer.eos_token_id]

    def said(text: str) -> list[int]:
        # A base model's prompt ends in a word, after which a space belongs to the answer.
        lead = "" if tokenizer.chat_template else " "
        ids: list[int] = tokenizer(lead + text, add_special_tokens=False)["input_ids"]
        return ids + end

    prompt = tokenizer(render(tokenizer, example.messages), add_special_tokens=False)["input_ids"]
    return Encoded(prompt, said(example.answer), said(example.rejected) if example.rejected else [])


def batches(encoded: Sequence[Encoded], tokens: int, seed: int) -> list[list[int]]:
    """One epoch: every example once, those of like length together, in random order.

    A batch pads to its longest row, and holds `tokens` at most with the padding; one row at least.
    """
    rng = random.Random(seed)
    order = list(range(len(encoded)))
    rng.shuffle(order)
    # Like lengths within windows: wholly sorted, an epoch's batches would be the same each time.
    window = 64
    found: list[list[int]] = []
    for first in range(0, len(order), window):
        near = sorted(order[first : first + window], key=lambda n: encoded[n].length)
        found += _cut(near, encoded, tokens)
    rng.shuffle(found)
    return found


def _cut(order: Sequence[int], encoded: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for n in order:  # the last is the longest
        if batch and encoded[n].length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch
