"""Why an answer is wrong: one row for each cause, along the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eval.cases import GoldenCase
from eval.failures import REMEDIES, Cause, Failure, failure, first_rank
from eval.rows import Row

MakeCase = Callable[..., GoldenCase]
MakeRow = Callable[..., Row]
LEAVE, PUMP, TAX = ("leave.txt", 2), ("pump.txt", 1), ("tax.txt", 1)
FOUND = [TAX, PUMP, LEAVE]


@pytest.mark.parametrize(
    ("answer", "fields", "cause", "rank"),
    [
        ("9 days", {"found": [TAX, PUMP], "missing": (0,)}, Cause.NOT_PARSED, None),
        ("9 days", {"found": FOUND, "shown": [TAX], "missing": (0,)}, Cause.NOT_PARSED, 3),
        ("9 days", {"found": [TAX, PUMP], "shown": [TAX]}, Cause.NOT_RETRIEVED, None),
        ("9 days", {"found": FOUND, "shown": [TAX]}, Cause.RANKED_LOW, 3),
        ("9 days", {"found": FOUND, "shown": [TAX], "cut": [PUMP]}, Cause.RANKED_LOW, 3),
        ("9 days", {"found": FOUND, "shown": [TAX], "cut": [PUMP, LEAVE]}, Cause.CUT, 3),
        # What a part of the question found, the question as a whole may not.
        ("9 days", {"found": [TAX], "shown": [TAX], "cut": [LEAVE]}, Cause.CUT, None),
        ("9 days", {"found": FOUND, "shown": FOUND}, Cause.WRONG_GENERATION, 3),
        ("", {"found": FOUND, "shown": FOUND}, Cause.WRONG_ABSTENTION, 3),
        ("", {"found": FOUND, "shown": [TAX]}, Cause.RANKED_LOW, 3),
        (
            "28 days",
            {"found": FOUND, "shown": FOUND, "cited": [("tax.txt", 1, True)]},
            Cause.WRONG_CITATION,
            3,
        ),
        # Right by luck, from a page that no one named.
        ("28 days", {"found": [TAX], "cited": [("tax.txt", 1, True)]}, Cause.WRONG_CITATION, None),
    ],
)
def test_an_answer_is_lost_at_the_first_place_where_its_page_was(
    case: MakeCase,
    row: MakeRow,
    answer: str,
    fields: dict[str, Any],
    cause: Cause,
    rank: int | None,
) -> None:
    assert failure(row(case("a", LEAVE), answer, **fields)) == Failure(cause, rank)


def test_a_right_answer_has_not_failed(case: MakeCase, row: MakeRow) -> None:
    asked = case("a", LEAVE)
    cited = [("tax.txt", 1, True), ("leave.txt", 2, True)]
    assert failure(row(asked, "28 days", found=FOUND, shown=FOUND, cited=cited)) is None
    assert failure(row(asked, "28 days", found=FOUND, shown=FOUND)) is None


def test_an_unanswerable_case_fails_only_by_an_answer(case: MakeCase, row: MakeRow) -> None:
    assert failure(row(case("a"), "", found=FOUND)) is None
    assert failure(row(case("a"), "28 days", found=FOUND)) == Failure(Cause.SHOULD_ABSTAIN, None)


def test_what_was_not_scored_has_not_failed(case: MakeCase, row: MakeRow) -> None:
    asked = case("a", LEAVE)
    assert failure(row(asked)) is None
    assert failure(replace(row(asked, "9 days"), error="RuntimeError: no")) is None
    unknown = case("b", LEAVE, references=())
    assert failure(row(unknown, "9 days", found=FOUND)) is None
    assert failure(row(unknown, "", found=FOUND, shown=FOUND)) is None


def test_the_first_page_that_was_lost_is_the_cause(case: MakeCase, row: MakeRow) -> None:
    both = case("a", LEAVE, PUMP)
    wrong = row(both, "9 days", found=FOUND, shown=[TAX, LEAVE], missing=())
    assert failure(wrong) == Failure(Cause.RANKED_LOW, 2)
    assert failure(replace(wrong, missing=(1,))) == Failure(Cause.NOT_PARSED, 2)
    # The second page is the one that is missing, and the first one was not found.
    neither = row(both, "9 days", found=[TAX, PUMP], shown=[TAX], missing=(1,))
    assert failure(neither) == Failure(Cause.NOT_RETRIEVED, 2)


def test_a_page_that_was_shown_without_the_words_that_answer_was_not_parsed(
    case: MakeCase, row: MakeRow
) -> None:
    wrong = row(case("a", LEAVE), "9 days", found=FOUND, shown=FOUND, missing=(0,))
    assert failure(wrong) == Failure(Cause.NOT_PARSED, 3)


def test_any_page_of_a_document_will_do_where_none_is_named(case: MakeCase, row: MakeRow) -> None:
    asked = case("a", ("leave.txt", None))
    wrong = row(asked, "9 days", found=[TAX, ("leave.txt", 1)], shown=[("leave.txt", 1)])
    assert failure(wrong) == Failure(Cause.WRONG_GENERATION, 2)
    cited = row(asked, "28 days", found=FOUND, cited=[("leave.txt", 9, True)])
    assert failure(cited) is None


def test_the_first_rank_is_that_of_any_right_page(case: MakeCase, row: MakeRow) -> None:
    found = [TAX, TAX, PUMP, LEAVE]
    assert first_rank(row(case("a", LEAVE, PUMP), found=found)) == 3
    assert first_rank(row(case("a", ("leave.txt", 1)), found=found)) is None
    assert first_rank(row(case("a"), found=found)) is None


def test_each_cause_says_what_can_be_done(case: MakeCase) -> None:
    assert REMEDIES.keys() == set(Cause)
    assert all(REMEDIES.values())
