"""Accuracy by inclusion: does an accepted answer stand in what the bot said?

1 if the words of any reference, normalised as in `squad`, stand in the answer in a row, else 0.
A bot answers in sentences, which exact match calls wrong. Mallen et al., "When Not to Trust
Language Models", ACL 2023 (PopQA); Adlakha et al., "Evaluating Correctness and Faithfulness of
Instruction-Following Models for Question Answering", TACL 2024. Like there, an answer that says
the right thing and a wrong one beside it passes.

Numbers are compared by value, so 1,234.5 is 1 234,5. A single mark before three digits groups
thousands (EUR 1.234), unless a zero or more than three digits stand before it. Signs and number
words are not read. A quantity, that is a number with a unit and nothing else, may be off by 1 %
and have its unit on the other side (EUR 1.234, 1,230 euros). Years, ordinals and numbers without
a unit must be met.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from eval.metrics.squad import normalize

TOLERANCE = 0.01
"""How far a quantity may be off, as a share of the reference."""

_NUMBER = re.compile(
    r"""
    (?<!\w) (?<!\d[.,])
    (?: (?P<whole> [1-9]\d{0,2} (?P<mark>[.,'’ \u00a0\u202f]) \d{3} (?:(?P=mark)\d{3})* )
        (?: (?!(?P=mark)) [.,] (?P<part>\d+) )?
      | (?P<plain> \d+ ) (?: [.,] (?P<rest>\d+) )? )
    (?P<letter> [^\W\d_] (?!\w) )?   # 5a and 1.5m are words of their own; 5 km is two
    (?! [.,]?\d )
    """,
    re.VERBOSE,
)
_SIGNS = {"€": "eur", "$": "usd", "£": "gbp", "¥": "jpy", "%": "percent"}
_SPELT = {
    "euro": "eur", "euros": "eur", "dollar": "usd", "dollars": "usd", "pound": "gbp",
    "pounds": "gbp", "yen": "jpy",
}  # fmt: skip
_CURRENCIES = {"eur", "usd", "gbp", "jpy", "chf"}
_NO_UNITS = {"st", "nd", "rd", "th", "ad", "bc", "ce", "bce"}
_LONGEST_UNIT = 3

Token = str | float
"""A word, or a number's value."""


def contains(answer: str, references: Iterable[str]) -> float:
    """1 or 0. With no reference (unanswerable), 1 for an empty answer alone, as in `squad`."""
    accepted = [each for each in references if normalize(each)]
    if not accepted:
        return float(not normalize(answer))
    return float(any(_stands_in(each, answer) or _measures(each, answer) for each in accepted))


def _stands_in(reference: str, answer: str) -> bool:
    wanted = list(_tokens(reference))
    return bool(wanted) and wanted in _windows(list(_tokens(answer)), len(wanted))


def _measures(reference: str, answer: str) -> bool:
    """Is the reference a quantity, and does the answer have one alike?"""
    if (wanted := _quantity(reference)) is None:
        return False
    value, unit = wanted
    for window in _windows(list(_tokens(_with_units(answer))), len(unit) + 1):
        numbers = [each for each in window if isinstance(each, float)]
        words = sorted(each for each in window if isinstance(each, str))
        if len(numbers) == 1 and words == unit and _alike(numbers[0], value):
            return True
    return False


def _quantity(text: str) -> tuple[float, list[str]] | None:
    """The number and its sorted unit words, if the text is just that."""
    tokens = list(_tokens(_with_units(text)))
    numbers = [each for each in tokens if isinstance(each, float)]
    words = [each for each in tokens if isinstance(each, str)]
    if len(numbers) != 1 or not 1 <= len(words) <= _LONGEST_UNIT or _NO_UNITS & set(words):
        return None
    before = tokens[: tokens.index(numbers[0])]
    if not _CURRENCIES.issuperset(before):  # "page 512" and "Boeing 747" are names
        return None
    plain = re.search(r"(?<![\d.,])\d{4}(?![\d.,]*\d)", text)
    if plain and 1000 <= numbers[0] < 2100 and not _CURRENCIES & set(words):
        return None  # a year, for all we know: "1998 Olympics"
    return numbers[0], sorted(words)


def _alike(value: float, wanted: float) -> bool:
    # A hair more than the tolerance, for what binary fractions lose.
    return abs(value - wanted) <= TOLERANCE * wanted * (1 + 1e-9)


def _with_units(text: str) -> str:
    """Signs as words, which `normalize` would drop, and one spelling for each currency."""
    text = re.sub(r"\bper cent\b", "percent", text, flags=re.IGNORECASE)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, f" {word} ")
    return re.sub(r"[^\W\d_]+", lambda word: _SPELT.get(word[0].lower(), word[0]), text)


def _tokens(text: str) -> Iterator[Token]:
    end = 0
    for match in _NUMBER.finditer(text):
        yield from normalize(text[end : match.start()]).split()
        end = match.end()
        whole = re.sub(r"\D", "", match["whole"] or match["plain"])
        value = float(f"{whole}.{match['part'] or match['rest'] or 0}")
        yield f"{value}{match['letter'].lower()}" if match["letter"] else value
    yield from normalize(text[end:]).split()


def _windows(tokens: Sequence[Token], size: int) -> list[Sequence[Token]]:
    return [tokens[start : start + size] for start in range(len(tokens) - size + 1)]
