"""Finding many strings and vectors at once in bytes of any length, whatever format they are in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt

from rag_bot.catalogue import Vectors

SHORTEST = 4
"""Bytes a string must have to be looked for."""
BLOCK = 1 << 22
_BITS = 20
_WINDOW = 64
"""So many components of a vector are looked for: a whole one may be split over two pages."""
_NEAR = 4e-3
"""How far a component may be off: bfloat16 shifts vectors by about 1e-3 with the batch's padding,
and Chroma brings them to unit length."""
_SAME = 0.99


@dataclass(frozen=True)
class Needles:
    """What to look for: strings, each with its kind and number, and vectors.

    Strings with the same kind and number are forms of one thing. `vectors` has shape
    `(n, dimension)`. A string inside one of `explained` does not count.
    """

    strings: Mapping[bytes, tuple[str, int]]
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    explained: tuple[bytes, ...] = ()


@dataclass
class Hits:
    """Which were found: the strings, and the rows of the vectors."""

    strings: set[bytes] = field(default_factory=set)
    vectors: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.strings or self.vectors)

    def kinds(self, needles: Needles) -> Counter[str]:
        """How many different things of each kind."""
        found = Counter(kind for kind, _ in {needles.strings[each] for each in self.strings})
        if self.vectors:
            found["vector"] = len(self.vectors)
        return found


class Search:
    """Made once for its needles; a first look at all bytes leaves few places to compare."""

    def __init__(self, needles: Needles) -> None:
        if short := [each for each in needles.strings if len(each) < SHORTEST]:
            raise ValueError(f"too short to look for: {short}")
        self._starts: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._table = np.zeros(1 << _BITS, bool)
        for each in needles.strings:
            self._starts[each[:4]].append(each)
            self._table[_keys(each[:4])] = True
        self._explained = {
            each: [
                (longer, at)
                for longer in needles.explained
                if each in longer
                for at in _places(each, longer)
            ]
            for each in needles.strings
        }
        longest = max(map(len, (*needles.strings, *needles.explained)), default=SHORTEST)
        self._reach = max(longest, 4 * _WINDOW)
        self._windows = _Windows(needles.vectors) if needles.vectors.size else None

    def stream(self, stream: IO[bytes]) -> Hits:
        """What is in a file, read once from where it stands to its end."""
        return self.blocks(iter(lambda: stream.read(BLOCK), b""))

    def blocks(self, blocks: Iterable[bytes]) -> Hits:
        """What is in these bytes taken together."""
        hits = Hits()
        kept, begin = b"", 0
        for last, each in _with_last(blocks):
            # A place near an edge is judged where all that is around it can be seen.
            block = kept + each
            end = len(block) if last else max(begin, len(block) - self._reach)
            self._look(block, begin, end, hits)
            cut = max(0, end - self._reach)
            kept, begin = block[cut:], end - cut
        return hits

    def _look(self, block: bytes, begin: int, end: int, hits: Hits) -> None:
        if len(block) < SHORTEST:
            return
        for at in np.flatnonzero(self._table[_keys(block)]).tolist():
            if begin <= at < end:
                for each in self._starts.get(block[at : at + 4], ()):
                    new = each not in hits.strings and block.startswith(each, at)
                    if new and not self._is_explained(block, at, each):
                        hits.strings.add(each)
        if self._windows:
            hits.vectors |= self._windows.found(block)

    def _is_explained(self, block: bytes, at: int, string: bytes) -> bool:
        return any(
            at >= offset and block.startswith(longer, at - offset)
            for longer, offset in self._explained[string]
        )


class _Windows:
    """A part of each vector, around its largest component: few numbers are as large."""

    def __init__(self, vectors: Vectors) -> None:
        width = min(_WINDOW, vectors.shape[1])
        peak = np.argmax(np.abs(vectors), axis=1)
        start = np.clip(peak - width // 2, 0, vectors.shape[1] - width)
        rows = np.arange(len(vectors))
        order = np.argsort(vectors[rows, peak])
        self._rows = rows[order]
        self._peaks = vectors[rows, peak][order]
        self._offsets = (peak - start)[order]
        self._windows = vectors[rows[:, None], start[:, None] + np.arange(width)][order]
        self._least = max(float(np.abs(self._peaks).min()) - _NEAR, _NEAR)

    def found(self, block: bytes) -> set[int]:
        """The vectors in these bytes, as float16 or float32 at any place."""
        rows: set[int] = set()
        for number, bits in (("<f2", "<u2"), ("<f4", "<u4")):
            size = np.dtype(number).itemsize
            for shift in range(min(size, len(block))):
                count = (len(block) - shift) // size
                # Most of them are not numbers of ours: their bits are compared, which is faster.
                low, high = (_bits(each, number, bits) for each in (self._least, 1 + _NEAR))
                found = np.frombuffer(block, bits, count, shift)
                large = np.flatnonzero((found & ((1 << (8 * size - 1)) - 1)) - low <= high - low)
                with np.errstate(invalid="ignore", over="ignore"):
                    rows |= self._among(np.frombuffer(block, number, count, shift), large)
        return rows

    def _among(self, numbers: npt.NDArray[np.floating], large: npt.NDArray[np.intp]) -> set[int]:
        values = numbers[large].astype(np.float32)
        low = np.searchsorted(self._peaks, values - _NEAR)
        many = np.searchsorted(self._peaks, values + _NEAR) - low
        # Each large number with each vector whose largest component it may be.
        begun = np.repeat(np.cumsum(many) - many, many)
        which = np.repeat(low, many) + np.arange(many.sum()) - begun
        start = np.repeat(large, many) - self._offsets[which]
        width = self._windows.shape[1]
        inside = (start >= 0) & (start <= len(numbers) - width)
        start, which = start[inside], which[inside]
        for column in range(width):
            part = numbers[start + column].astype(np.float32)
            near = np.abs(part - self._windows[which, column]) < _NEAR
            start, which = start[near], which[near]
        parts = numbers[start[:, None] + np.arange(width)].astype(np.float32)
        wanted = self._windows[which]
        norms = np.linalg.norm(parts, axis=1) * np.linalg.norm(wanted, axis=1)
        same = (parts * wanted).sum(axis=1) > _SAME * norms
        return set(self._rows[which[same]].tolist())


def _bits(value: float, number: str, bits: str) -> int:
    return int(np.array(value, number).view(bits))


def _keys(block: bytes) -> npt.NDArray[np.uint32]:
    """A number of `_BITS` bits for each four bytes that follow one another."""
    words = np.ndarray((len(block) - 3,), "<u4", block, strides=(1,))
    hashed: npt.NDArray[np.uint32] = (words * np.uint32(2654435761)) >> np.uint32(32 - _BITS)
    return hashed


def _places(part: bytes, whole: bytes) -> list[int]:
    return [at for at in range(len(whole)) if whole.startswith(part, at)]


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Each block, and whether it is the last."""
    before: bytes | None = None
    for each in blocks:
        if before is not None:
            yield False, before
        before = each
    if before is not None:
        yield True, before
