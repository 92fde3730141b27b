import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rag_bot.cite import (
    Claim,
    ClaimStream,
    Piece,
    parse,
    printed,
    renumbered,
    without_markers,
)

WORDS = [
    "The fee is 5 %",
    "Dr", "No", "It", " ends", ".", ". ", "!", "? ", "\n", "\n\n", " ", "  ", "\t",
    "[1]", " [2]", "[1, 2]", "【3】", "[ 4 ]", "[12;13]", "[", "]", "【", "[1", "1]", "[a]",
    "[1234]",
    "[1,", "- item", "\n- ", "\n1. ", "\n2) x", "a)", "(", ")", "”", "...", "。",
    "价", "\u00a0", "\r\n",
    "[\u00a01]", "[1\r]", "\u202f",
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=30).map("".join), st.text(max_size=60))


def run(*parts: str) -> list[Piece | Claim]:
    stream = ClaimStream()
    events = [event for part in parts for event in stream.feed(part)]
    return events + list(stream.close())


@st.composite
def cut_texts(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(cut_texts())
@settings(max_examples=400)
@example(["The fee is 5", " %", " [", "1", "]", ".", " It ends", ". "])
def test_however_the_text_is_cut_the_claims_are_the_same(parts: list[str]) -> None:
    claims = [event for event in run(*parts) if isinstance(event, Claim)]
    assert claims == parse("".join(parts))


@given(TEXTS)
@settings(max_examples=200)
def test_one_character_at_a_time_gives_the_same_claims(text: str) -> None:
    assert [event for event in run(*text) if isinstance(event, Claim)] == parse(text)


@given(cut_texts())
@settings(max_examples=300)
def test_what_was_shown_of_a_sentence_is_its_claim(parts: list[str]) -> None:
    shown = ""
    for event in run(*parts):
        if isinstance(event, Piece):
            assert event.text
            shown += event.text
        else:
            assert shown == event.lead + event.text
            assert event.text.strip() == event.text != ""
            assert not event.lead.strip()
            shown = ""
    assert shown == ""


@given(cut_texts())
@settings(max_examples=300)
def test_no_half_marker_is_ever_shown(parts: list[str]) -> None:
    """The bracket of what more text could turn into a marker is not on the screen yet."""
    stream = ClaimStream()
    fed = shown = ""
    for part in parts:
        fed += part
        shown += "".join(e.text for e in stream.feed(part) if isinstance(e, Piece))
        half = re.search(r"[\[【]\s?(\d{0,3}|\d{1,3}(\s?[,;]\s?\d{1,3}){0,9}\s?[,;]?)\s?$", fed)
        if half:
            certain = fed[: half.start()]
            assert len(re.findall(r"[\[【]", shown)) <= len(re.findall(r"[\[【]", certain))


@given(cut_texts())
@settings(max_examples=200)
def test_no_marker_is_shown_unchecked(parts: list[str]) -> None:
    assume(not re.search(r"[\[【][\d\s,;]*[\[【]", "".join(parts)))  # the next test's
    shown = "".join(event.text for event in run(*parts) if isinstance(event, Piece))
    assert not re.search(r"[\[【]\s?\d{1,3}\s?[\]】]", shown)


@pytest.mark.parametrize("text", ["It is 5 [[1]2].", "It is 5 [1,[2]3]."])
def test_a_marker_within_a_marker_leaves_none_behind(text: str) -> None:
    (claim,) = parse(text)
    assert not re.search(r"\[\s?\d{1,3}(\s?,\s?\d{1,3})*\s?\]", claim.text)


@given(TEXTS)
@example("[[\xa01]1]")
def test_nothing_but_markers_and_white_space_is_lost(text: str) -> None:
    kept = "".join(claim.text for claim in parse(text))
    listed = r"\d{1,3}(?:\s?[,;]\s?\d{1,3}){0,9}"
    without, found = text, 1
    while found:  # "[[1]2]": what is left is a marker in its turn
        without, found = re.subn(rf"[ \t]*[\[【]\s?(?:{listed})\s?[\]】]", "", without)
    assert "".join(kept.split()) == "".join(without.split())


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("It is 5 [2].", (2,)),
        ("It is 5. [2]", (2,)),
        ("It is 5 [1, 3].", (1, 3)),
        ("It is 5 [1][2].", (1, 2)),
        ("It is 5【1】.", (1,)),
        ("It is 5 [1;2].", (1, 2)),
        ("It is [a] 5 [].", ()),
        ("It is 5 [1234].", ()),
    ],
)
def test_markers_are_taken_out_and_kept_with_their_sentence(
    text: str, markers: tuple[int, ...]
) -> None:
    (claim,) = parse(text)
    assert claim.markers == markers
    assert claim.text == (text if not markers else "It is 5.")


def test_each_sentence_has_its_own_markers() -> None:
    assert parse("One [1]. Two [2][3].\n\nThree.") == [
        Claim("", "One.", (1,)),
        Claim(" ", "Two.", (2, 3)),
        Claim("\n\n", "Three.", ()),
    ]


def test_text_is_shown_before_its_sentence_ends() -> None:
    assert list(ClaimStream().feed("The fee is")) == [Piece("The fee is")]


def test_an_unfinished_bracket_at_the_end_is_text() -> None:
    assert parse("It is 5 [1") == [Claim("", "It is 5 [1", ())]


def test_no_text_makes_no_claims() -> None:
    assert parse("") == parse(" \n") == []


def test_footnotes_of_a_text_are_its_own_numbers() -> None:
    assert printed("Mont Blanc[14][15] is high [2, 3]. See [a] and 4.") == {2, 3, 14, 15}


def test_markers_get_their_places_and_those_without_one_go() -> None:
    assert renumbered("a [1]\n\nb [5], c [9].", {1: 2, 5: 1}) == "a [2]\n\nb [1], c."
    assert renumbered("It says: “a [1] b [9]” [1]", {1: 2}) == "It says: “a [1] b [9]” [2]"


def test_footnotes_in_a_quotation_are_no_markers() -> None:
    assert without_markers("It says: “a [1] b.” [1] c [2]") == "It says: “a [1] b.” c"
