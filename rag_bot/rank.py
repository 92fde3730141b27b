"""The fused ranking, read again: the best candidates in the order the reader gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from rag_bot.config import Retrieval
from rag_bot.types import Reading, Source, probability

if TYPE_CHECKING:
    from rag_bot.read import Reader

_FALL = 0.9
"""What a rank lower counts against the reader's probability; `val-v2` can't tell .85 from .95."""


def reranked(
    query: str, sources: Sequence[Source], reader: Reader, settings: Retrieval
) -> tuple[Source, ...]:
    """All sources, the leading ones read and reordered; numbered anew.

    Read are `settings.read`, and no fewer than an answer is made of (`top_k`).
    """
    depth = max(settings.read, settings.top_k)
    read, rest = sources[:depth], sources[depth:]
    readings = reader.read(query, [(header(source), source.chunk.text) for source in read])
    scored = [
        (score(source.score, reading, settings.reader_weight), replace(source, reading=reading))
        for source, reading in zip(read, readings, strict=True)
    ]
    scored.sort(key=lambda each: each[0], reverse=True)
    ordered = [*(source for _, source in scored), *rest]
    return tuple(replace(source, marker=n) for n, source in enumerate(ordered, start=1))


def distinct(sources: Sequence[Source], count: int) -> tuple[Source, ...]:
    """The leading sources that say something else than those before them, numbered anew.

    The same page in two files, or a footer on every page, would fill a prompt with one text.
    """
    kept: dict[str, Source] = {}
    for source in sources:
        kept.setdefault(" ".join(source.chunk.text.casefold().split()), source)
    return tuple(
        replace(source, marker=n) for n, source in enumerate(list(kept.values())[:count], start=1)
    )


def merged(
    rankings: Iterable[Sequence[Source]], numbers: Mapping[str, int] | None = None
) -> tuple[Source, ...]:
    """The sources of several rankings in turn, each passage once with all that is shown of it.

    Numbered in this order, or by `numbers` (by chunk id).
    """
    kept: dict[str, Source] = {}
    for source in (each for ranking in rankings for each in ranking):
        known = kept.get(source.chunk.id)
        if known is None:
            number = numbers[source.chunk.id] if numbers else len(kept) + 1
            kept[source.chunk.id] = replace(source, marker=number)
        else:
            shown = _union(known.shown, source.shown) if known.shown and source.shown else ()
            kept[source.chunk.id] = replace(known, shown=shown)
    return tuple(kept.values())


def likeliest(sources: Sequence[Source]) -> Source | None:
    """The source that is both well ranked and, by the reader, likely to answer; None if unread."""
    read = [
        (each.reading.answerable * _FALL**each.marker, each) for each in sources if each.reading
    ]
    return max(read, key=lambda each: each[0])[1] if read else None


def header(source: Source) -> str:
    """Where a passage stands, for the reader: its file and the headings above it."""
    name = PurePath(source.document).stem.replace("_", " ")
    return f"{name} > {source.chunk.heading}" if source.chunk.heading else name


def score(fused: float, reading: Reading, weight: float) -> float:
    """What a candidate is ranked by: how retrieval fused it, and the reader's probability.

    A probability, not its log-odds: however sure the reader is, it only says so much.
    """
    return fused + weight * probability(reading.relevance)


def _union(
    one: Sequence[tuple[int, int]], two: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted([*one, *two]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)
