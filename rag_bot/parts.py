"""Questions that ask several things: "When does the lease end, and what is the notice period?"

By rules, like follow-ups (`rag_bot.rewrite`): each part keeps the user's own words, in their
order, and what it leaves unsaid is added behind it. English, German and French; questions in other
languages stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rag_bot.rewrite import completed, standalone
from rag_bot.types import Message
from rag_bot.words import content

MOST = 4
"""A question of more parts than this is asked as one."""

_HOW = r"how(?:\s+(?:much|many|long|often|far|soon|quickly|big|large|high|old))?"
_RELATIVE = r"who|whom|whose|which|where|when"
_ASKS = (
    rf"(?:{_HOW}|what|why|{_RELATIVE}"
    r"|wer|wen|wem|was|wann|wo|wie|wieviel\w*|warum|weshalb|welche[rnms]?"
    r"|quand|où|comment|combien|pourquoi|quel(?:le)?s?)\b"
)
_AFTER = r"(?:at|by|for|from|in|of|on|since|to|under|until|up\s+to|with|within|über|bis|ab|à|de)"
_AUXILIARY = r"(?:is|are|was|were|do|does|did|has|have|can|could|may|must|should|will|would)"
_OF_IT = r"(?:i|we|you|he|she|it|they|there|the|a|an|my|our|your|his|her|its|their|this|that)\b"
_DOES = rf"{_AUXILIARY}\s+{_OF_IT}"
_AND = re.compile(
    rf"(?P<comma>[,;]?)\s+(?:and|und|et)\s+(?:also\s+)?"
    rf"(?=(?P<asks>(?:{_AFTER}\s+)?{_ASKS})|(?P<does>{_AUXILIARY}\s+\w))",
    re.IGNORECASE,
)
_LISTED = re.compile(rf",\s+(?=(?P<asks>{_HOW}\b|what\b|why\b))", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:am|is|are|was|were|be|do|does|did|has|have|had|can|could|may|might|must|shall|should|will|"
    r"would|ist|sind|war|hat|haben|kann|muss|müssen|darf|dürfen|est|sont|a|ont|peut|doit|faut)\b"
    r"|\w-(?:t-)?(?:il|elle|on|ils|elles|je|tu|nous|vous|ce)\b",
    re.IGNORECASE,
)
_NOUN_FOLLOWS = re.compile(
    r"\b(?:what|which|how\s+(?:many|much)|quel(?:le)?s?|welche[rnms]?|wie\s*viele?)\b",
    re.IGNORECASE,
)
_FEW = 4
_UNFINISHED = re.compile(rf"\b{_ASKS}[\s,;]*$", re.IGNORECASE)
_NAME = re.compile(
    r"(?<=[\w,;:)] )[A-ZÀ-Þ][\w'’-]+|\b(?:19|20)\d\d\b|\b(?=[\w-]*\d)(?=[\w-]*[^\W\d])[\w-]+\b"
)
_OPENS = re.compile(rf"(?:{_AFTER}\s+)?(?:{_ASKS}|{_DOES})", re.IGNORECASE)
_INSIDE = re.compile(rf"\b{_ASKS}|\b{_DOES}", re.IGNORECASE)
_BARE = re.compile(r"\W*|(?:what|who|whom|whose|which)\W*", re.IGNORECASE)
_YES_OR_NO = re.compile(rf"\s*{_AUXILIARY}\s", re.IGNORECASE)
_DOES_NEXT = re.compile(_DOES, re.IGNORECASE)
_INVERTED = re.compile(rf"\w+(?:\s+{_AUXILIARY}\b|\W*$)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+")


class Part(NamedTuple):
    """One thing that was asked: in the user's words, and so that it stands alone."""

    said: str
    query: str


def parts(question: str) -> tuple[Part, ...]:
    """What a question asks, in order; nothing if it is one thing, or more than `MOST`.

    `question` stands alone. A statement before the first part ("The lease: when …") belongs to
    all of them.
    """
    setting, asked = _asked(" ".join(question.split()))
    if not 1 < len(asked) <= MOST:
        return ()
    found = [Part(asked[0], f"{setting} {asked[0]}".strip())]
    before = [Message("user", _topic(found[0].query))]
    for said in asked[1:]:
        query = standalone(said, before)
        if query == said:
            # It says what it asks for, but perhaps not of whom or of which year.
            names = _NAME.findall(f"{setting} . {asked[0]}")
            query = completed(said, f"{setting} {' '.join(names)}")
        found.append(Part(said, query))
        before.append(Message("user", _topic(said)))
    return tuple(found)


def _topic(text: str) -> str:
    return _INSIDE.sub(" ", text)


def _asked(question: str) -> tuple[str, list[str]]:
    """What is said ahead of the first thing asked, and each thing asked."""
    setting: list[str] = []
    asked: list[str] = []
    marked = "?" in question
    for sentence in _SENTENCE.split(question):
        states = sentence.endswith(":") or (marked and not sentence.endswith("?"))
        if states and not asked and not _OPENS.match(sentence):
            setting.append(sentence)
        elif asked and not _OPENS.match(sentence):
            asked[-1] += f" {sentence}"  # "… what may I bring? I have a dog."
        else:
            asked += _coordinated(sentence)
    return " ".join(setting), asked


def _coordinated(sentence: str) -> Iterator[str]:
    start = 0
    cuts = [*_AND.finditer(sentence), *_LISTED.finditer(sentence)]
    for cut in sorted(cuts, key=lambda match: match.start()):
        left = sentence[start : cut.start()]
        if cut.start() >= start and _splits(left, cut, sentence[cut.end() :]):
            yield left.strip()
            start = cut.end()
    yield sentence[start:].strip()


def _splits(left: str, cut: re.Match[str], right: str) -> bool:
    """Whether what stands before is a question of its own, and what comes begins another."""
    opened = _INSIDE.search(left) or _YES_OR_NO.match(left)
    if opened is None or not content(left) or _BARE.fullmatch(right):
        return False
    begun = left[opened.start() :]
    if _NOUN_FOLLOWS.match(begun) and len(begun.split()) <= _FEW and not _VERB.search(begun):
        return False  # "Which price and what discount apply?": its verb comes later
    if cut.re is _LISTED:
        return True
    if _UNFINISHED.search(left):
        return False  # "Where and when …", "I know who and what …"
    if cut["does"]:
        return bool(_DOES_NEXT.match(right) or _YES_OR_NO.match(left))
    # Without a comma, "who leads Sales and who signs contracts" may go on with a clause, and so
    # may "before it is dug and when it is filled".
    first = cut["asks"].split()[0].casefold()
    if cut["comma"] or not re.fullmatch(_RELATIVE, first):
        return True
    if re.search(rf"\b{re.escape(first)}\b", begun[len(opened[0]) :], re.IGNORECASE):
        return False
    direct = not left[: opened.start()].strip()
    return not (direct and first in ("when", "where")) or bool(_INVERTED.match(right))
