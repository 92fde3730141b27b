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
    can't be gone back to; `plain` says which it is. The keys and values that a soft prompt or a
    prefix puts in front are in every cache, `front` of them, so `model` is without it.
    """

    def __init__(self, model: Any) -> None:
        import peft
        import transformers
        from transformers.cache_utils import DynamicLayer

        adapted = isinstance(model, peft.PeftModel)
        self.model = model.get_base_model() if adapted else model
        soft = _soft(model) if adapted and model.active_peft_config.is_prompt_learning else None
        self._empty = soft or transformers.DynamicCache(config=self.model.config)
        self.front: int = self._empty.get_seq_length()
        self.plain = all(type(layer) is DynamicLayer for layer in self._empty.layers)
        self._opening: tuple[list[int], DynamicCache] | None = None
        self._last: tuple[list[int], DynamicCache] | None = None

    def empty(self) -> DynamicCache:
        """A cache of no prompt yet."""
        return copy.deepcopy(self._empty)

    def opening(self, ids: Sequence[int], like: Sequence[int]) -> DynamicCache:
        """The part of a prompt that it shares with `like`, read: to be gone on from.

        Both are token ids. At least the prompt's last token is left to read.
        """
        shared = min(_shared(ids, like), len(ids) - 1)
        if not self.plain or shared < 1:
            return self.empty()
        if not self._opening or self._opening[0] != ids[:shared]:
            self._opening = (list(ids[:shared]), self._read(ids[:shared]))
        return copy.deepcopy(self._opening[1])

    def keep(self, ids: Sequence[int], cache: DynamicCache) -> None:
        """Remember a prompt that was read, with its cache; what follows in that is dropped."""
        self._last = None
        if self.plain and self.length(cache) >= len(ids):
            self._cut(cache, len(ids))
            self._last = (list(ids), cache)

    def last(self, ids: Sequence[int]) -> DynamicCache | None:
        """The last prompt's cache, all of `ids` but the last token, if it began with them."""
        if not self._last or self._last[0] != list(ids):
            return None
        cache = copy.deepcopy(self._last[1])
        self._cut(cache, len(ids) - 1)
        return cache

    def length(self, cache: DynamicCache) -> int:
        """Tokens of the prompt and the answer in a cache."""
        held: int = cache.get_seq_length()
        return held - self.front

    def _read(self, ids: Sequence[int]) -> DynamicCache:
        import torch

        cache = self.empty()
        with torch.inference_mode():
            self.model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1)
        return cache

    def _cut(self, cache: DynamicCache, length: int) -> None:
        more = self.length(cache) - length
        if more > 0:
            cache.crop(-more)


def _soft(model: Any) -> DynamicCache:
    """The keys and values of a soft prompt or a prefix, read once."""
    import torch
    import transformers

    base = model.get_base_model()
    with torch.inference_mode():
        front = model.get_prompt(batch_size=1)
        if isinstance(front, transformers.DynamicCache):
            return front
        cache = transformers.DynamicCache(config=base.config)
        base(inputs_embeds=front.to(base.dtype), past_key_values=cache, logits_to_keep=1)
    return cache


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return n
    return min(len(one), len(other))
