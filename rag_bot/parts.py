"""Questions that ask several things: "When does the lease end, and what is the notice period?"

By rules, like follow-ups (`rag_bot.rewrite`): each part keeps the user's own words, in their
order, and what it leaves unsaid is added behind it. In English, and where German or French makes it
plain. Cautious: what may be one question ("the difference between what A says and what B says")
stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from rag_bot.rewrite import completed, standalone
from rag_bot.types import Message
from rag_bot.words import INSIDE, content

MOST = 4
"""A question of more parts than this is asked as one."""
_LONGEST = 2000
"""Characters; what is longer is a text, and not looked through."""
_FEW = 3
"""Content words: a later part with no more than these hardly stands alone."""

_HOW = (
    r"how(?:\s+(?:much|many|long|often|far|soon|quickly|fast|big|large|high|old|thick|wide|deep))?"
)
_ENGLISH = rf"(?:{_HOW}|what|why|who|whom|whose|which|where|when)(?![-\w])"
_OTHER = (
    r"(?:wer|wen|wem|wessen|was|wann|wo|wohin|woher|wozu|wie(?:\s+(?:viele?|lange|oft|weit|hoch))?"
    r"|wieviele?|warum|weshalb|welche[rnms]?"
    r"|quand|où|comment|combien|pourquoi|qui|quel(?:le)?s?)\b"
)
_ASKS = rf"(?:{_ENGLISH}|{_OTHER})"
_AFTER = (
    r"(?:at|by|for|from|in|of|on|since|to|under|until|up\s+to|with|within"
    r"|ab|an|auf|bei|bis|für|in|mit|nach|seit|über|um|von|zu|à|de|jusqu'à|depuis|pour|sur|dans)"
)
# A word that begins a clause after a question word, and no question: "how it is paid".
_SUBJECT = (
    r"(?:i|we|you|he|she|it|they|there|the|a|an|my|our|your|his|her|its|their|this|that|these|those"
    r"|ich|wir|du|er|sie|es|ihr|der|die|das|ein|eine|mein|unser"
    r"|je|tu|il|elle|on|nous|vous|ils|elles|le|la|les|un|une)\b"
)
_AUXILIARY = (
    r"(?:am|is|are|was|were|do|does|did|has|have|had|can|could|may|must|shall|should|will|would)"
)
_SINGULAR = (
    r"(?:is|was|has|does)\s+(?:he|she|it|there|the|an?|my|our|your|his|her|its|their|this|that)\b"
)
_PLURAL = (
    r"(?:am|are|were|have|do)\s+"
    r"(?:i|we|you|they|there|the|my|our|your|his|her|its|their|these|those)\b"
)
_EITHER = (
    r"(?:did|had|can|could|may|must|shall|should|will|would)\s+"
    r"(?:i|we|you|he|she|it|they|there|the|an?|my|our|your|his|her|its|their|this|that|these|those)\b"
)
_DOES = rf"(?:{_SINGULAR}|{_PLURAL}|{_EITHER})"
_NOUNS = rf"(?:\s+(?!{_SUBJECT})[\w'’%²³-]+){{0,6}}?"

_DIRECT = re.compile(
    # "when does", "which of them is", "how many days of it have": an auxiliary follows.
    rf"(?:{_AFTER}\s+)?{_ENGLISH}(?!\s+{_SUBJECT}){_NOUNS}\s+{_AUXILIARY}\b"
    # "who pays", "which supplier delivers": what is asked for is the subject.
    rf"|(?:who|what|which|how\s+many)\s+(?!{_SUBJECT})\w"
    rf"|(?:{_AFTER}\s+)?{_OTHER}\s+(?!{_SUBJECT})\w"
    rf"|(?:{_AFTER}\s+)?(?:{_HOW}|when|where|why|wann|wo|warum|quand|où|combien)\W*$"
    rf"|{_DOES}",
    re.IGNORECASE,
)
_DOES_THAT = re.compile(
    rf"(?i:{_DOES})|(?:is|was|does|did|has|can|may|must|will|should)\s+[A-ZÀ-Þ]"
)
_YES_OR_NO = re.compile(rf"{_AUXILIARY}\s", re.IGNORECASE)
_ALSO_YES_OR_NO = re.compile(
    r"(?:is|are|was|were|do|does|did|can|may|must|will|has)\s+"
    r"(?!be\b|been\b|have\b|not\b|also\b|only\b|still\b|it\b|able\b)[\w-]+\s+\w",
    re.IGNORECASE,
)
_AND = re.compile(r",?\s+(?:and|or|und|oder|et|ou)\s+(?:also\s+|then\s+)?", re.IGNORECASE)
_COMMA = re.compile(r",\s+")
_ASKED_FOR = re.compile(
    r"(?:please\s+)?(?:(?:can|could|would)\s+you\s+)?(?:please\s+)?"
    r"(?:tell\s+me|let\s+me\s+know|explain|list|show\s+me|i\s+(?:want|need|would\s+like)\s+to\s+know"
    r"|i'd\s+like\s+to\s+know)\s+",
    re.IGNORECASE,
)
_CLAUSE = re.compile(rf"(?:{_AFTER}\s+)?{_ASKS}\s+\w", re.IGNORECASE)
_JOINED = re.compile(r"(?:and|or|but|und|oder|et|ou|if\s+(?:so|not),)\s+", re.IGNORECASE)
_UNFINISHED = re.compile(rf"\b(?:{_ASKS}|whether|between)[\s,;]*$", re.IGNORECASE)
_BETWEEN = re.compile(r"\b(?:between|zwischen|entre)\b", re.IGNORECASE)
_LIMITED = re.compile(
    rf"(?:{_AFTER}\s+)?(?:what|which|how\s+(?:many|much)|quel(?:le)?s?|welche[rnms]?|wie\s*viele?)\b",
    re.IGNORECASE,
)
_LIMITED_NOUN = re.compile(rf"{_LIMITED.pattern}\s+(?!{_AUXILIARY}\b)", re.IGNORECASE)
_VERB = re.compile(
    rf"\b{_AUXILIARY}\b|\b(?:ist|sind|war|hat|haben|kann|muss|müssen|darf|dürfen|brauche\w*"
    r"|est|sont|a|ont|peut|doit|faut)\b|\w-(?:t-)?(?:il|elle|on|ils|elles|je|tu|nous|vous|ce)\b",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"\b(?:it|its|they|them|their|he|him|his|she|her|there|that|this|those|these|then|one"
    r"|ihn|ihm|sie|er|es|dafür|dazu|davon|il|elle|ils|elles|en|y)\b",
    re.IGNORECASE,
)
_RELATIVE = ("who", "which", "whose", "whom")
_NAME = re.compile(rf"{INSIDE}|\b(?:19|20)\d\d\b|\b(?=[\w-]*\d)(?=[\w-]*[^\W\d])[\w-]+\b")
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+")
_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|«[^»]*»")
_NUMBER = re.compile(r"\(?\d{1,2}[.)]")


class Part(NamedTuple):
    """One thing that was asked: in the user's words, and so that it stands alone."""

    said: str
    query: str


def parts(question: str) -> tuple[Part, ...]:
    """What a question asks, in order; nothing if it is one thing, or more than `MOST`.

    What stands before the first part ("The lease: when …", "If I am ill, what …") belongs to all.
    """
    if len(question) > _LONGEST or _QUOTED.search(question):
        return ()
    setting, asked = _asked(" ".join(question.split()))
    if not 1 < len(asked) <= MOST:
        return ()
    found = [Part(asked[0], f"{setting} {asked[0]}".strip())]
    before = [Message("user", _topic(found[0].query))]
    for said in asked[1:]:
        query = standalone(said, before)
        if query == said:
            # It says what it asks for, but perhaps not of whom or of which year.
            names = " ".join(_NAME.findall(f"{setting} . {asked[0]}"))
            short = len(content(said)) <= _FEW
            query = completed(said, f"{setting} {_topic(asked[0]) if short else names}")
        found.append(Part(said, query))
        before.append(Message("user", _topic(said)))
    return tuple(found)


def _topic(text: str) -> str:
    return re.sub(rf"\b{_ASKS}", " ", text, flags=re.IGNORECASE)


def _asked(question: str) -> tuple[str, list[str]]:
    """What is said ahead of the first thing asked, and each thing asked."""
    setting: list[str] = []
    asked: list[str] = []
    marked = "?" in question
    for sentence in _SENTENCE.split(question):
        if _NUMBER.fullmatch(sentence):
            continue
        if asked:
            joined = _JOINED.match(sentence)
            ahead, more = _coordinated(sentence[joined.end() :] if joined else sentence)
            if not more or (ahead and not joined):
                asked[-1] += f" {sentence}"  # "… what may I bring? I have a dog."
            else:
                asked += [f"{ahead} {more[0]}".strip(), *more[1:]]
        elif sentence.endswith(":") or (marked and not sentence.endswith("?")):
            setting.append(sentence)
        else:
            ahead, more = _coordinated(sentence)
            setting += [ahead] if ahead and more else []
            asked += more or [sentence]
    return " ".join(setting), asked


def _coordinated(sentence: str) -> tuple[str, list[str]]:
    """What is fronted in a sentence, and the questions in it: none, if it asks nothing directly."""
    asked_for = _ASKED_FOR.match(sentence)
    if asked_for and _CLAUSE.match(sentence, asked_for.end()):
        return "", list(_cut(sentence, _splits_indirect, asked_for.end()))
    starts = [0, *(match.end() for match in _COMMA.finditer(sentence))]
    start = next((at for at in starts if _direct(sentence, at)), None)
    if start is None:
        return "", []
    ahead = sentence[:start].strip()
    return ahead, list(_cut(sentence[start:], partial(_splits, settled=bool(ahead))))


def _direct(text: str, at: int) -> bool:
    return bool(_DIRECT.match(text, at) or (at == 0 and _YES_OR_NO.match(text)))


def _cut(sentence: str, splits: Callable[[str, str], bool], opened: int = 0) -> Iterator[str]:
    start = 0
    cuts = [*_AND.finditer(sentence, opened), *_COMMA.finditer(sentence, opened)]
    for cut in sorted(cuts, key=lambda match: (match.start(), -match.end())):
        left = sentence[start : cut.start()]
        if cut.start() >= start and splits(left, sentence[cut.end() :]):
            yield left.strip()
            start = cut.end()
    yield sentence[start:].strip()


def _splits_indirect(left: str, right: str) -> bool:
    return not _UNFINISHED.search(left) and bool(content(left)) and bool(_CLAUSE.match(right))


def _splits(left: str, right: str, *, settled: bool) -> bool:
    """Whether what stands before is a question of its own, and what comes begins another.

    `settled` says that what it is about was said ahead.
    """
    if _UNFINISHED.search(left) or _BETWEEN.search(left):
        return False  # "Where and when …", "the difference between what …"
    if _DOES_THAT.match(right) or (_YES_OR_NO.match(left) and _ALSO_YES_OR_NO.match(right)):
        return bool(content(left)) or settled
    if not _DIRECT.match(right):
        return False
    first = right.split()[0].casefold()
    if first in _RELATIVE and re.search(rf"\w\s+{first}\b", left, re.IGNORECASE):
        return False  # "the person who leads Sales and who signs the contracts"
    if _LIMITED.match(left) and not _VERB.search(left) and _LIMITED_NOUN.match(right):
        return False  # "Which price and what discount apply?": its verb comes later
    if settled or _REFERS.search(left) or _REFERS.search(right):
        return True
    # "Who wrote and who signed the contract?": what the first is about comes later.
    here, there = content(_topic(left)), content(_topic(right.partition("?")[0]))
    return len(here) > 1 or len(there) <= len(here) > 0
