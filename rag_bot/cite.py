"""Markers in a stream of text: `[2]`, `[1, 3]`, `[1][2]`.

A model may write them; code decides what they are worth. They are taken out of the text as it
streams, never shown by half, and put back at the end of the sentence when they have been checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rag_bot.sentences import UNDECIDED, sentences

_LIST = r"\d{1,3}(?:\s?[,;]\s?\d{1,3}){0,9}"
_MARKER = re.compile(rf"[ \t]*[\[【]\s?({_LIST})\s?[\]】]")
# What is quoted keeps the footnotes that the document has.
_EARNED = re.compile(r"(?P<quoted>“[^”]*”)|\s*\[(?P<marker>\d+)\]")
# The longest tail that more text could still turn into a marker.
_PARTIAL = re.compile(r"[ \t]+$|[ \t]*(?:[\[【][\d,;\s]{0,60})+$")


def without_markers(answer: str) -> str:
    """The text of a finished answer, in which code has put the markers."""
    return _EARNED.sub(lambda match: match["quoted"] or "", answer)


def _numbers(marker: re.Match[str]) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", marker[1])]


def printed(text: str) -> set[int]:
    """The numbers in brackets that a text has of its own, such as those of its footnotes."""
    return {n for match in _MARKER.finditer(text) for n in _numbers(match)}


def renumbered(answer: str, places: Mapping[int, int]) -> str:
    """A finished answer with its markers replaced; those that have no place are left out."""

    def put(match: re.Match[str]) -> str:
        if match["quoted"]:
            return match[0]
        place = places.get(int(match["marker"]))
        return match[0].replace(match["marker"], str(place)) if place else ""

    return _EARNED.sub(put, answer)


class Claim(NamedTuple):
    """A finished sentence: white space before it, its text, and the markers written in it."""

    lead: str
    text: str
    markers: tuple[int, ...]


class Piece(NamedTuple):
    """Text that may be shown at once: part of the sentence being written."""

    text: str


class ClaimStream:
    """Text in any cutting in; the same claims out.

    `feed` and `close` yield `Piece`s whose concatenation, sentence by sentence, is the `Claim`
    that follows them (`lead + text`).
    """

    def __init__(self) -> None:
        self._held = ""
        self._sentence = ""
        self._shown = 0
        self._markers: list[int] = []

    def feed(self, text: str) -> Iterator[Piece | Claim]:
        """Take more text."""
        self._held += text
        while match := _MARKER.search(self._held):
            if match.end() == len(self._held) and not self._held.endswith(("]", "】")):
                break
            before, after = self._held[: match.start()], self._held[match.end() :]
            # "[1,[2]3]": what is left may be a marker in its turn.
            opened = _PARTIAL.search(before)
            cut = opened.start() if opened else len(before)
            yield from self._write(before[:cut])
            self._markers += _numbers(match)
            self._held = before[cut:] + after
        partial = _PARTIAL.search(self._held)
        cut = partial.start() if partial else len(self._held)
        yield from self._write(self._held[:cut])
        self._held = self._held[cut:]

    def close(self) -> Iterator[Piece | Claim]:
        """The text has ended: what was held back is no marker."""
        yield from self._write(self._held.rstrip())
        self._held = ""
        if self._sentence.strip():
            yield from self._show(len(self._sentence.rstrip()))
            yield self._claim(len(self._sentence.rstrip()))

    def _write(self, text: str) -> Iterator[Piece | Claim]:
        self._sentence += text
        while len(spans := sentences(self._sentence)) > 1:
            yield from self._show(spans[0].end)
            yield self._claim(spans[0].end)
        undecided = UNDECIDED.search(self._sentence)
        certain = self._sentence[: undecided.start()] if undecided else self._sentence
        yield from self._show(len(certain.rstrip()))

    def _show(self, end: int) -> Iterator[Piece]:
        if end > self._shown:
            yield Piece(self._sentence[self._shown : end])
            self._shown = end

    def _claim(self, end: int) -> Claim:
        whole = self._sentence[:end]
        text = whole.lstrip()
        claim = Claim(whole[: len(whole) - len(text)], text, tuple(self._markers))
        self._sentence = self._sentence[end:]
        self._shown = 0
        self._markers = []
        return claim


def parse(text: str) -> list[Claim]:
    """All claims of a finished text."""
    stream = ClaimStream()
    events = [*stream.feed(text), *stream.close()]
    return [event for event in events if isinstance(event, Claim)]
