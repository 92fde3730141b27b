"""What a model has read of a prompt, kept for the next one that begins alike.

On a CPU reading the prompt is most of the wait. Every prompt begins with the same instructions, and
the likelihood of another answer is asked for right after a prompt's own. Nothing else is kept: what
a prompt happens to share with the one before it would make its answer depend on that one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import DynamicCache


class Kept:
    """Keys and values of one model's attention. Not for two threads at once.

    Of a model with other layers than plain attention nothing is kept: what slid out of a window
    can't be gone back to. Nor of soft prompts and prefixes, which put keys and values in front.
    """

    def __init__(self, model: Any) -> None:
        import peft
        import transformers
        from transformers.cache_utils import DynamicLayer

        self._model = model
        self._works = not isinstance(model, peft.PeftModel) and all(
            type(layer) is DynamicLayer
            for layer in transformers.DynamicCache(config=model.config).layers
        )
        self._opening: tuple[list[int], DynamicCache] | None = None
        self._last: tuple[list[int], DynamicCache] | None = None

    def opening(self, ids: Sequence[int], like: Sequence[int]) -> DynamicCache | None:
        """The part of a prompt that it shares with `like`, read: to be gone on from.

        Both are token ids. None if they share nothing.
        """
        shared = _shared(ids, like)
        if not self._works or not shared:
            return None
        if not self._opening or self._opening[0] != ids[:shared]:
            self._opening = (list(ids[:shared]), self._read(ids[:shared]))
        return copy.deepcopy(self._opening[1])

    def keep(self, ids: Sequence[int], cache: DynamicCache | None) -> None:
        """Remember a prompt that was read, with its cache; what follows in that is dropped."""
        self._last = None
        if cache is not None and cache.get_seq_length() >= len(ids):
            _cut(cache, len(ids))
            self._last = (list(ids), cache)

    def last(self, ids: Sequence[int]) -> DynamicCache | None:
        """The last prompt's cache, all of `ids` but the last token, if it began with them."""
        if not self._last or self._last[0] != list(ids):
            return None
        cache = copy.deepcopy(self._last[1])
        _cut(cache, len(ids) - 1)
        return cache

    def _read(self, ids: Sequence[int]) -> DynamicCache:
        import torch
        import transformers

        cache = transformers.DynamicCache(config=self._model.config)
        with torch.inference_mode():
            self._model(
                input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1
            )
        return cache


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return n
    return min(len(one), len(other))


def _cut(cache: DynamicCache, length: int) -> None:
    more = cache.get_seq_length() - length
    if more > 0:
        cache.crop(-more)
