"""Markdown, kept as it is written; only its headings are found."""

from __future__ import annotations

import re

from ingest.parse.clean import clean
from ingest.parse.draft import Progress
from ingest.parse.parsed import Parsed, refuse_endless
from ingest.parse.plain import decode
from rag_bot.types import Heading

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]++(.+)")
_CLOSING = re.compile(r"(?<![ \t])[ \t]+#+$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}([>|#]|[-*+][ \t]|\d+[.)][ \t])")
_FRONT_MATTER = re.compile(r"---\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|$)", re.S)
_TITLE = re.compile(r"(?m)^title:(.*)$")


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page. The title is the front matter's, or the first heading of level 1."""
    text = clean(decode(data))
    refuse_endless(1, len(text))
    front = _FRONT_MATTER.match(text)
    body_start = front.end() if front else 0
    headings = tuple(_headings(text, body_start))
    named = _TITLE.search(front[1] or "") if front else None
    if named:
        title = named[1].strip(" \t\"'")
    else:
        title = next((h.text for h in headings if h.level == 1), "")
    progress(1, 1)
    return Parsed("text/markdown", (text,), title, headings)


def _headings(text: str, start: int) -> list[Heading]:
    """ATX and Setext headings outside code fences; offsets are where the heading's words begin."""
    found: list[Heading] = []
    fence = previous = ""
    position = previous_position = start
    for line in text[start:].split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
            line_for_setext = ""
        elif mark:
            fence, line_for_setext = mark[1], ""
        elif atx := _ATX.match(line):
            words = _CLOSING.sub("", atx[2].rstrip())
            found.append(Heading(position + atx.start(2), len(atx[1]), words))
            line_for_setext = ""
        elif (under := _UNDERLINE.match(line)) and not _NOT_A_PARAGRAPH.match(previous):
            indent = len(previous) - len(previous.lstrip())
            level = 1 if under[1][0] == "=" else 2
            found.append(Heading(previous_position + indent, level, previous.strip()))
            line_for_setext = ""
        else:
            line_for_setext = line
        previous, previous_position = line_for_setext, position
        position += len(line) + 1
    return found
