"""Sentences with their places: the unit of a claim and of a quote.

A rule-based splitter, because a quote must be an exact slice and a streaming answer must be cut
the same way however its tokens arrive. A boundary is only seen once the first character after it
is there, so the sentences of a beginning of a text never change as more of it comes, except for
the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_BOUNDARY = re.compile(
    r"(?P<stop>[.!?…]['\"”’)\]]*)[ \t]*\s(?=\s*\S)"  # a full stop, white space, and more
    r"|(?P<cjk>[。！？])(?=\S)"
    r"|\n[ \t]*(?=\n\s*\S)"  # a paragraph
    r"|\n(?=[ \t]*(?:[-*•▪–]|\(?\d{1,3}[.)]|[a-z]\))[ \t]+\S)"  # an item of a list
)
UNDECIDED = re.compile(r"\n[ \t]*(?:[-*•▪–]|\(?\d{0,3}[.)]?|[a-z]\)?)[ \t]*$")
"""A tail that may yet turn out to begin an item of a list."""
_ROW = re.compile(r"\n(?=[^\n|]*\|)|(?<=\|)\n")
_LINE = re.compile(r"\n")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[a-zA-Z]\.[a-zA-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|Nos|Nr|Art|Sec|Fig|Figs|cf|vs|"
    r"etc|approx|ca|max|min|Inc|Ltd|Co|Corp|al|ed|pp?|vol|bzw|bspw|usw|Abs|Jan|Feb|Mar|Apr|Jun|Jul|"
    r"Aug|Sept?|Oct|Nov|Dec|e\.g|i\.e|z\.B|d\.h)|(?:^|\n)[ \t]*\(?\d{1,3})\.$"
)
_NEXT = re.compile(r"\S")
_LONG = 320
_SHORT = 0.6
"""A line shorter than this share of the others was not broken by the page's width."""
_UNITS = 3
_PARAGRAPH = 2
"""Line feeds."""
_GOES_ON = re.compile(
    r"(?:[,;:–—/(&-]|\b(?:the|an?|and|or|of|in|on|at|to|for|from|by|with|as|than|is|are|der|die|das|den|"
    r"dem|des|und|oder|mit|von|vom|zu|zum|zur|im|am|für|le|la|les|un|une|du|de|des|et|ou|à|au|aux))\s*$",
    re.IGNORECASE,
)


class Span(NamedTuple):
    """`text[start:end]`, without white space at either end."""

    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """The sentences of a text, in order. Every character but white space lies in one."""
    found: list[Span] = []
    start = 0
    for cut in _cuts(text):
        found += _stripped(text, start, cut)
        start = cut
    found += _stripped(text, start, len(text))
    return found


def passages(text: str) -> list[Span]:
    """Sentences for quoting: rows of tables stand alone, and nothing is too long to quote.

    Lines that are units of their own without a full stop (headings, slides, boxes of facts) are
    told from those that a page's width broke. A table that lost its ruling in a PDF is one long
    "sentence" of many lines; it is cut at them.
    """
    found: list[Span] = []
    width = _width(text)
    for span in sentences(text):
        start = span.start
        for cut in _line_cuts(text, span, width):
            found += _stripped(text, start, cut)
            start = cut
        found += _stripped(text, start, span.end)
    return found


def _line_cuts(text: str, span: Span, width: int) -> Iterator[int]:
    """Where a sentence of several lines is cut, `width` being that of the lines around it."""
    lines = {
        match.start(): text[text.rfind("\n", 0, match.start()) + 1 : match.start()].rstrip()
        for match in _LINE.finditer(text, *span)
    }
    long = span.end - span.start > _LONG
    ends = {cut for cut, line in lines.items() if _begins(text, cut) and not _GOES_ON.search(line)}
    units = len(lines) >= _UNITS and len(ends) == len(lines)
    rows = {match.start() for match in _ROW.finditer(text, *span)}
    for cut, line in lines.items():
        if long or units or cut in rows or (cut in ends and len(line) < _SHORT * width):
            yield cut


def _width(text: str) -> int:
    """The length of the longer lines that are no row of a table: three in four are no longer."""
    lengths = sorted(len(line) for line in text.split("\n") if line.strip() and "|" not in line)
    return lengths[len(lengths) * 3 // 4] if lengths else 0


def _begins(text: str, cut: int) -> bool:
    """Whether the line after a line feed looks like the beginning of something."""
    found = _NEXT.search(text, cut)
    return found is not None and (found[0].isupper() or found[0].isdigit())


def _cuts(text: str) -> Iterator[int]:
    for match in _BOUNDARY.finditer(text):
        end = match.end("stop") if match["stop"] else match.end()
        if match["stop"] and match["stop"][0] == ".":
            after = text[end:]
            following = after.lstrip()
            gap = after[: len(after) - len(following)]
            line = text[max(0, end - 24) : match.start("stop") + 1]
            goes_on = following[:1].islower() and gap.count("\n") < _PARAGRAPH
            if goes_on or _ABBREVIATION.search(line):
                continue
        yield end


def _stripped(text: str, start: int, end: int) -> Iterator[Span]:
    part = text[start:end]
    left = len(part) - len(part.lstrip())
    if left < len(part):
        yield Span(start + left, start + len(part.rstrip()))
