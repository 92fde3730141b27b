import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_bot.sentences import passages, sentences

TEXTS = st.one_of(
    st.text(max_size=120),
    st.lists(
        st.sampled_from(
            [
                "The fee is 5",
                "Dr",
                "No",
                "e.g",
                "A",
                "is",
                "12",
                "(3",
                "- item",
                "• dot",
                "a)",
                ".",
                ". ",
                "!",
                "?",
                "…",
                "”",
                ")",
                "]",
                "\n",
                "\n\n",
                " ",
                "\t",
                "\u00a0",
                "\r\n",
                "。",
                "价格",
                " | ",
                "\f",
                "\u2028",
                "ß",
                "[1]",
            ]
        ),
        max_size=40,
    ).map("".join),
)


def cut(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It ended.\n\nand then\nit began", ["It ended.", "and then\nit began"]),
        ("He said “no.” She left.", ["He said “no.”", "She left."]),
        ("See Fig. 3 for No. 7, Dr. Smith.", ["See Fig. 3 for No. 7, Dr. Smith."]),
        ("Use tape, e.g. duct tape. Then wait.", ["Use tape, e.g. duct tape.", "Then wait."]),
        ("It costs 3.50 euros. Cash only.", ["It costs 3.50 euros.", "Cash only."]),
        ("First line\nstill the first", ["First line\nstill the first"]),
        ("A heading\n\nA paragraph", ["A heading", "A paragraph"]),
        ("You need\n- a saw\n- a nail", ["You need", "- a saw", "- a nail"]),
        ("Steps:\n1. Open it.\n2. Close it.", ["Steps:", "1. Open it.", "2. Close it."]),
        ("价格是五元。不含税。", ["价格是五元。", "不含税。"]),
        ("Mit Abs. 2 Satz 1 gilt das. Ende.", ["Mit Abs. 2 Satz 1 gilt das.", "Ende."]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@given(TEXTS)
def test_every_character_but_white_space_lies_in_exactly_one(text: str) -> None:
    for split in (sentences, passages):
        spans = split(text)
        covered = [i for span in spans for i in range(span.start, span.end)]
        assert covered == sorted(set(covered))
        missed = set(range(len(text))) - set(covered)
        assert not "".join(text[i] for i in missed).strip()
        assert all(text[s.start : s.end].strip() == text[s.start : s.end] != "" for s in spans)


@given(TEXTS, TEXTS)
@settings(max_examples=200)
def test_more_text_changes_only_the_last_sentence(text: str, more: str) -> None:
    before = sentences(text)[:-1]
    assert sentences(text + more)[: len(before)] == before


def test_rows_of_a_table_are_passages_of_their_own() -> None:
    text = "Fees\nBasic | 10 EUR\nPro | 25 EUR\n\nAll plus tax."
    found = [text[s.start : s.end] for s in passages(text)]
    assert found == ["Fees", "Basic | 10 EUR", "Pro | 25 EUR", "All plus tax."]


def test_a_table_that_lost_its_ruling_is_cut_at_its_lines() -> None:
    text = "\n".join(f"Article {n} costs {n} euros net" for n in range(30))
    assert len(sentences(text)) == 1
    assert [text[s.start : s.end] for s in passages(text)] == text.split("\n")


@pytest.mark.parametrize(
    "lines",
    [
        ["5.4 Storage", "Store the station dry, at -20 to +45 °C."],
        ["Price list 2026", "Valid from 1 January 2026, without tax."],
        ["Fish stall on Thursdays", "Choir on Tuesdays", "Rowing boat: ask Nell", "Party in June"],
    ],
)
def test_headings_and_lines_that_are_units_are_passages_of_their_own(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert [text[s.start : s.end] for s in passages(text)] == lines


@pytest.mark.parametrize(
    "sentence",
    [
        "The tunnel was built in the late 19th century to connect the town of\nLucerne with Milan.",
        "A short line:\nIt goes on after a colon.",
        "Das Unternehmen gewährt\nMitarbeitern einen Zuschuss zur\nKantine sowie zum\nParkplatz.",
        "Employees get 28 days of leave in\nGermany and 25 days in\nFrance.",
        "One\ntwo\nthree\nfour",
    ],
)
def test_a_line_that_the_page_broke_is_no_passage(sentence: str) -> None:
    text = f"Before it stands a sentence of about the same width as it has. Yes.\n{sentence}"
    assert text[slice(*passages(text)[-1])] == sentence


def test_a_sentence_that_begins_within_a_line_is_not_cut_for_being_short() -> None:
    text = "The war brought many changes to the whole region. In it, Adolf\nHitler stayed there."
    assert [text[s.start : s.end] for s in passages(text)][
        1
    ] == "In it, Adolf\nHitler stayed there."
