"""Accuracy by inclusion, case by case."""

from __future__ import annotations

import pytest

from eval.metrics.contains import contains
from eval.metrics.nuggets import nugget_recall


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("the Normans", "They were called Normans, people say."),
        ("31 March 2031", "The lease ends on the 31 March, 2031."),
        ("COVID-19", "because of covid-19"),
        ("5a", "see Annex 5A."),
        # the same number, spelt otherwise
        ("1,234.5", "It is 1 234,5 exactly."),
        ("1 234,5", "It is 1,234.50 exactly."),
        ("1234567", "1.234.567 people"),
        ("1,234,567.89 USD", "1.234.567,89 $"),
        ("0.125", "0,125"),
        ("12", "In 2020, 12 of them"),
        ("EUR 1.234", "The rent is EUR 1,234."),
        # within 1 %
        ("EUR 1.234", "about 1,240 euros"),
        ("$1.2 million", "It cost 1.21 million dollars."),
        ("5 %", "5.05 per cent"),
        ("200 km", "It is 198 km away."),
        ("200 km", "It is 202km away."),
        ("2,000 employees", "some 1,990 employees"),
    ],
)
def test_an_answer_that_holds_the_reference_is_right(reference: str, answer: str) -> None:
    assert contains(answer, [reference]) == 1


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("no", "nothing is known"),
        ("March 31", "31 March"),
        ("red wine", "red or white wine"),
        ("rain", ""),
        # SQuAD's normalising alone would make these the same
        ("1.2 million", "12 million"),
        ("$1.5m", "$15m"),
        ("3.2.1", "321"),
        # off by more than 1 %, or of another unit
        ("EUR 1.234", "about 1,250 euros"),
        ("200 km", "203 km"),
        ("200 km", "197.9 km"),
        ("200 km", "198 miles"),
        ("EUR 1,234", "USD 1,240"),
        # never only nearly right: years, ordinals, names, bare numbers, several numbers
        ("1998 Olympics", "the 2000 Olympics"),
        ("300 BC", "301 BC"),
        ("512th Fighter Wing", "513th Fighter Wing"),
        ("page 512", "page 513"),
        ("512", "513"),
        ("200 km or 300 km", "201 km or 301 km"),
    ],
)
def test_an_answer_that_holds_something_else_is_wrong(reference: str, answer: str) -> None:
    assert contains(answer, [reference]) == 0


def test_one_accepted_answer_is_enough() -> None:
    assert contains("It was built in 1889.", ["in the 1880s", "1889"]) == 1


def test_with_no_accepted_answer_only_silence_is_right() -> None:
    assert contains("", []) == 1
    assert contains("", ["."]) == 1
    assert contains("Something.", []) == 0


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("It ends on 31 March 2031, with 12 months' notice.", 1),
        ("It ends on 31 March 2031.", 1 / 2),
        ("Twelve months.", 1 / 2),
        ("It ends in March.", 0),
        ("", 0),
    ],
)
def test_nugget_recall_is_the_share_of_facts_said(answer: str, share: float) -> None:
    nuggets = [["31 March 2031"], ["twelve months", "12 months"]]
    assert nugget_recall(answer, nuggets) == share


def test_without_nuggets_there_is_nothing_to_recall() -> None:
    assert nugget_recall("It ends.", []) is None
    assert nugget_recall("It ends.", [[], [""]]) is None
