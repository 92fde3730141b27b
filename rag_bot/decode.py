"""Token by token, and several at once where an answer repeats its prompt.

Most of what a grounded answer says stands in its sources. So the tokens that follow there are tried
in one pass of the model, and kept as far as it would have taken them one by one: the text is the
same, written in fewer passes, and on a CPU a pass over ten tokens takes hardly longer than one.
This is prompt lookup decoding (A. Saxena, 2023), the drafting of speculative decoding (Leviathan et
al., 2023, arXiv:2211.17192) without a second model. transformers has it too, but reads a prompt
again whose opening is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

Choose = Callable[["Tensor"], list[int]]
"""From logits of shape (positions, vocabulary) to a token for each position."""

_AHEAD = 10
"""Tokens tried at once."""
_ALIKE = (3, 2, 1)
"""So many of the last tokens have to stand in the prompt, best first."""


def decode(
    model: Any,
    ids: Sequence[int],
    cache: DynamicCache,
    choose: Choose,
    *,
    most: int,
    ends: Sequence[int],
    front: int = 0,
    lookup: bool = True,
) -> Iterator[list[int]]:
    """What follows a prompt, as it comes: at most so many tokens, or to the first of `ends`.

    `cache` holds keys and values of the prompt's beginning, less than all of it, behind `front`
    of a soft prompt's. Afterwards it holds all but the last token. `lookup` needs a cache that can
    be cut.
    """
    text = list(ids)
    left = most
    while left > 0:
        # Before the first token there is nothing yet that the answer repeats.
        guess = ahead(text)[: left - 1] if lookup and left < most else []
        fed = text[cache.get_seq_length() - front :] + guess
        taken = _taken(model, fed, cache, choose, guess)
        if len(taken) <= len(guess):
            cache.crop(len(taken) - len(guess) - 1)
        stop = next((n for n, token in enumerate(taken, 1) if token in ends), None)
        text += taken[:stop]
        left -= len(taken[:stop])
        yield taken[:stop]
        if stop:
            return


def ahead(text: Sequence[int]) -> list[int]:
    """What may come next: what followed where the end of a text stood before.

    The longest end that did is looked for, and of its places the first: in a prompt, the best
    source's.
    """
    for alike in _ALIKE:
        end = text[-alike:]
        for at in range(len(text) - alike):
            if text[at] == end[0] and text[at : at + alike] == end:
                return list(text[at + alike : at + alike + _AHEAD])
    return []


def greedy(logits: Tensor) -> list[int]:
    """The likeliest tokens."""
    likeliest: list[int] = logits.argmax(-1).tolist()
    return likeliest


def drawn(temperature: float, seed: int) -> Choose:
    """Tokens drawn at random: a guess that is drawn, too, is as good as any other draw."""
    import torch

    chance = torch.Generator().manual_seed(seed)

    def choose(logits: Tensor) -> list[int]:
        probabilities = (logits.float() / temperature).softmax(-1)
        tokens: list[int] = torch.multinomial(probabilities, 1, generator=chance)[:, 0].tolist()
        return tokens

    return choose


def _taken(
    model: Any, fed: Sequence[int], cache: DynamicCache, choose: Choose, guess: Sequence[int]
) -> list[int]:
    """The guessed tokens that the model takes, and the one that it puts behind them."""
    import torch

    # Within one pass: between two, whoever reads the answer computes in the same thread.
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([fed]), past_key_values=cache, logits_to_keep=len(guess) + 1
        ).logits[0]
        chosen = choose(logits)
    same = next((n for n, token in enumerate(guess) if token != chosen[n]), len(guess))
    return chosen[: same + 1]
