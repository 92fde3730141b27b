from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.errors import UsageError
from rag_bot.scope import Scope, fitting, made, take, without

LEASE = "/home/me/docs/contracts/Office Lease.pdf"
NOTES = "/home/me/docs/notes/2025/lease.txt"


def day(text: str) -> int:
    """Noon of a day on this machine, in nanoseconds."""
    return int(datetime.fromisoformat(f"{text}T12:00").timestamp()) * 10**9


def fits(scope: Scope, source: str = LEASE, changed: str = "2025-06-01") -> bool:
    return fitting([scope])(source, day(changed))


@pytest.mark.parametrize(
    ("question", "plain", "scope"),
    [
        (
            "What is the rent in:contracts/*.pdf",
            "What is the rent",
            Scope(patterns=("contracts/*.pdf",)),
        ),
        ("What is the rent in:lease.pdf?", "What is the rent?", Scope(patterns=("lease.pdf",))),
        ("type:pdf what is it", "what is it", Scope(types=("pdf",))),
        ("type:.PDF,docx Rent?", "Rent?", Scope(types=("pdf", "docx"))),
        ('Is doc:"office lease.pdf" signed?', "Is signed?", Scope(documents=("office lease.pdf",))),
        (
            "Is doc:“office lease.pdf”, signed?",
            "Is, signed?",
            Scope(documents=("office lease.pdf",)),
        ),
        (
            "After:2025-01-01 rent before:2026-01-01 due IN:a IN:!b",
            "rent due",
            Scope(patterns=("a", "!b"), after=date(2025, 1, 1), before=date(2026, 1, 1)),
        ),
        (
            "rent after:2024-01-01 after:2025-01-01 before:2026-01-01 before:2025-07-01",
            "rent",
            Scope(after=date(2025, 1, 1), before=date(2025, 7, 1)),
        ),
        ("in:lease.pdf", "", Scope(patterns=("lease.pdf",))),
        ("in:lease.pdf, what is due?", "what is due?", Scope(patterns=("lease.pdf",))),
    ],
)
def test_filters_are_taken_out_of_the_question(question: str, plain: str, scope: Scope) -> None:
    assert take(question) == (plain, scope)


@pytest.mark.parametrize(
    "question",
    [
        "type: what is it",
        "At 10:30, who comes in: you or me?",
        "in:",
        "in: doc: after: before:",
        'in:? in:[ in:! in:/ in:"" doc:" doc:“x',
        "after:lunch before:you go",
        "within:contracts (in:contracts) xin:contracts",
        "type:a+b http://in:80/",
        'in:"a"b in:a"b',
        "  two   spaces\tand a tab  ",
    ],
)
def test_what_is_no_filter_stays_in_the_question(question: str) -> None:
    assert take(question) == (question, Scope())


@pytest.mark.parametrize(
    "bad",
    ["after:2025-13-01", "before:2025-02-30", "after:01.02.2025", "before:2025", "after:٢٠٢٥"],
)
def test_a_bad_date_is_named(bad: str) -> None:
    with pytest.raises(UsageError, match=f"^{bad} is not a date"):
        take(f"rent {bad}?")
    assert without(f"rent {bad}?") == f"rent {bad}?"


def test_what_a_flag_may_not_say_is_named() -> None:
    with pytest.raises(UsageError, match="after:yesterday is not a date"):
        made(after="yesterday")
    with pytest.raises(UsageError, match="'drafts/\\[' is not a pattern"):
        made(patterns=["drafts/["])
    with pytest.raises(UsageError, match="type:a b is not a file ending"):
        made(types=["a b"])


WORDS = st.lists(st.from_regex(r"[a-zA-Z0-9:?.\"'-]{1,8}", fullmatch=True), max_size=8)
VALUES = st.from_regex(r"[a-z*/!?. -]{1,9}", fullmatch=True)
DAYS = st.one_of(st.none(), st.dates(date(1900, 1, 1), date(2999, 12, 31)))


def scoped(
    documents: list[str], patterns: list[str], types: list[str], after: date | None, to: date | None
) -> Scope | None:
    try:
        scope = made(documents=documents, patterns=patterns, types=types)
    except UsageError:
        return None
    return Scope(scope.documents, scope.patterns, scope.types, after, to)


SCOPES = st.builds(
    scoped,
    st.lists(VALUES.filter(str.strip), max_size=2),
    st.lists(VALUES, max_size=2),
    st.lists(st.sampled_from(["pdf", "txt", "md"]), max_size=2),
    DAYS,
    DAYS,
).filter(lambda scope: scope is not None)


@given(SCOPES)
def test_a_scope_reads_back_as_it_is_written(scope: Scope) -> None:
    assert take(str(scope)) == ("", scope)


@given(WORDS, SCOPES, WORDS)
def test_every_other_word_is_kept_in_order(
    before: list[str], scope: Scope, after: list[str]
) -> None:
    try:
        kept = take(" ".join(before + after))
    except UsageError:
        return
    plain, found = take(" ".join([*before, str(scope), *after]))
    if not kept[1]:
        assert plain.split() == [*before, *after]
        assert found == scope


@given(st.text())
def test_any_text_is_a_question(text: str) -> None:
    plain, scope = take(text.replace("after:", "").replace("before:", ""))
    assert scope or plain == text.replace("after:", "").replace("before:", "")
    assert isinstance(without(text), str)


@pytest.mark.parametrize(
    ("pattern", "lease", "notes"),
    [
        ("*.pdf", True, False),
        ("contracts/*.pdf", True, False),
        ("CONTRACTS/", True, False),
        ("./contracts", True, False),
        ("/home/me/docs/contracts/", True, False),
        ("/contracts/", False, False),
        ("docs/**/lease*", False, True),
        ("docs/*", True, True),
        ("docs/*.txt", False, False),
        ("*lease*", True, True),
        ("!contracts/", False, True),
    ],
)
def test_a_pattern_matches_every_end_of_a_path(pattern: str, lease: bool, notes: bool) -> None:
    scope = made(patterns=[pattern])
    assert (fits(scope), fits(scope, NOTES)) == (lease, notes)


def test_a_name_is_literal_and_may_be_a_part_of_the_path() -> None:
    assert fits(made(documents=["office lease.pdf"]))
    assert fits(made(documents=["contracts/Office Lease.pdf"]))
    assert fits(made(documents=[LEASE]))
    assert not fits(made(documents=["lease.pdf"]))
    assert not fits(made(documents=["*.pdf"]))
    assert fits(made(documents=["*.pdf"]), "/odd/*.pdf")
    assert fits(made(documents=["mu\u0308ller.txt"]), "/a/M\u00dcLLER.txt")


def test_names_and_patterns_are_alternatives_and_the_rest_is_not() -> None:
    either = made(documents=["lease.txt"], patterns=["contracts/"])
    assert fits(either)
    assert fits(either, NOTES)
    assert not fits(made(patterns=["contracts/", "!*.pdf"]))
    assert not fits(made(patterns=["contracts/"], types=["txt"]))
    assert fits(made(types=["txt", "PDF"]))
    assert not fits(made(types=["df"]))
    assert not fitting([made(types=["pdf"]), made(types=["txt"])])(LEASE, 0)
    assert fitting([])(LEASE, 0)


def test_after_is_the_first_day_and_before_the_first_that_is_out() -> None:
    year = made(after="2025-01-01", before="2026-01-01")
    days = ("2024-12-31", "2025-01-01", "2025-12-31", "2026-01-01")
    assert [fits(year, changed=each) for each in days] == [False, True, True, False]


@pytest.mark.parametrize(("mtime_ns", "late"), [(2**80, True), (-(2**80), False)])
def test_a_file_may_have_any_number_for_a_date(mtime_ns: int, late: bool) -> None:
    assert fitting([made(after="2025-01-01")])(LEASE, mtime_ns) is late
