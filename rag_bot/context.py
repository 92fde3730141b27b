"""From ranked sources to what the model is shown of them.

Prefill is most of the wait on a CPU, and a small model answers better from little. So each source
brings the sentence that answers first, then what stands around it, nearest first, as far as the
budget goes; one whose answer does not fit is left out, and so are all after it. A source keeps its
number whatever is shown of it, and claims are still held against the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from rag_bot.prompt import where
from rag_bot.sentences import Span, passages
from rag_bot.types import Source

_FRAME = 8
"""Tokens around a source: its number, line feeds, marks of omission."""


class _Part(NamedTuple):
    away: int
    """Passages from the evidence; 0 is the evidence."""
    source: int
    passage: int


def fit(sources: Sequence[Source], budget: int, count: Callable[[str], int]) -> tuple[Source, ...]:
    """The leading sources, each with what of it is shown, within `budget` tokens.

    At least the first source's evidence is always shown. Where no reader pointed at evidence, a
    source is shown whole or not at all.
    """
    if any(source.reading is None for source in sources):
        return _whole(sources, budget, count)
    spans = [passages(source.chunk.text) for source in sources]
    costs = [
        [count(source.chunk.text[a:b]) for a, b in each]
        for source, each in zip(sources, spans, strict=True)
    ]
    shown: list[set[int]] = [set() for _ in sources]
    opened = 0
    for part in _by_worth(sources, spans):
        cost = costs[part.source][part.passage]
        if not shown[part.source]:
            # An earlier one did not fit, and numbers have no gaps; or its own evidence did not.
            if part.source > opened or part.away:
                continue
            cost += count(where(sources[part.source])) + _FRAME
        if cost > budget and opened:
            continue
        budget -= cost
        opened = max(opened, part.source + 1)
        shown[part.source].add(part.passage)
    return tuple(
        replace(source, shown=_merged(each, kept))
        for source, each, kept in zip(sources[:opened], spans, shown, strict=False)
    )


def _by_worth(sources: Sequence[Source], spans: Sequence[Sequence[Span]]) -> list[_Part]:
    """All passages: the evidence of each source by rank, then by the distance from it."""
    ranked: list[_Part] = []
    for n, (source, each) in enumerate(zip(sources, spans, strict=True)):
        assert source.reading is not None
        start, end = source.reading.start, max(source.reading.end, source.reading.start + 1)
        hit = [k for k, (a, b) in enumerate(each) if a < end and start < b] or [0]
        for k in range(len(each)):
            ranked.append(_Part(max(hit[0] - k, k - hit[-1], 0), n, k))
    return sorted(ranked)


def _merged(spans: Sequence[Span], kept: set[int]) -> tuple[tuple[int, int], ...]:
    """Neighbouring passages as one slice, white space between them included."""
    merged: list[tuple[int, int]] = []
    last = -2
    for n in sorted(kept):
        if n == last + 1:
            merged[-1] = (merged[-1][0], spans[n].end)
        else:
            merged.append((spans[n].start, spans[n].end))
        last = n
    return tuple(merged)


def _whole(
    sources: Sequence[Source], budget: int, count: Callable[[str], int]
) -> tuple[Source, ...]:
    kept: list[Source] = []
    for source in sources:
        budget -= count(source.chunk.text) + count(where(source)) + _FRAME
        if budget < 0 and kept:
            break
        kept.append(source)
    return tuple(kept)
