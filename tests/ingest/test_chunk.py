from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunk import TITLE_TOKENS, chunk
from rag_bot.index import indexed_text
from rag_bot.tokenize import WordPieces
from rag_bot.types import Chunk, Document, Heading, Page


def make(*pages: str, title: str = "", headings: Sequence[Heading] = ()) -> Document:
    numbered = tuple(Page(n, text) for n, text in enumerate(pages, start=1))
    return Document("d", "/d", "", numbered, title, tuple(headings))


def hold_promises(document: Document, chunks: Sequence[Chunk], pieces: WordPieces) -> None:
    text = document.text
    starts = [0]
    for page in document.pages:
        starts.append(starts[-1] + len(page.text) + 1)
    end = 0
    for n, each in enumerate(chunks):
        assert text[each.char_start : each.char_end] == each.text != ""
        assert each.char_start >= end, "in order, and no overlap"
        assert not text[end : each.char_start].strip(), "nothing is left out"
        end = each.char_end
        assert each.page_start == each.page_end
        begin = starts[each.page_start - 1]
        page = document.pages[each.page_start - 1]
        assert begin <= each.char_start < each.char_end <= begin + len(page.text)
        assert pieces.count(indexed_text(each, document.title)) <= pieces.limit
        assert chunks[n].id not in {other.id for other in chunks[:n]}
    assert not text[end:].strip()


PARTS = st.sampled_from(
    [
        "The fee is due.", "word " * 40, "x" * 130, "a1b2," * 60, "价格是五元。" * 20, "😀" * 50,
        "Müller\u0301 ", "\n", "\n\n", " ", "\t", "\u00a0", "\u200b", "\r\n", "a | b | c\n" * 40,
        "same line\n" * 30, "https://example.org/" + "path/" * 40, "e\u0301" * 60, "...", ". ", "—",
        "\u2028", "[1]", "[SEP]", "##x", "\ufffd", "\x1c", "\x85",
    ]
)  # fmt: skip
PAGES = st.lists(
    st.one_of(
        st.lists(PARTS, max_size=12).map("".join),
        st.text(st.characters(exclude_characters="\f\0", exclude_categories=["Cs"]), max_size=120),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    pages = draw(PAGES)
    length = len("\f".join(pages))
    places = sorted(draw(st.sets(st.integers(0, length), max_size=5)))
    headings = [
        Heading(place, draw(st.integers(1, 4)), draw(st.sampled_from(["Fees", "Very long " * 30])))
        for place in places
    ]
    return make(*pages, title=draw(st.sampled_from(["", "Title", "T " * 50])), headings=headings)


@given(documents(), st.sampled_from([32, 200, 512]))
@settings(max_examples=120, deadline=None)
def test_chunks_keep_their_promises_for_any_text(
    pieces: WordPieces, document: Document, limit: int
) -> None:
    cut = Document(
        document.id,
        document.source,
        "",
        document.pages,
        pieces.cut(document.title, TITLE_TOKENS),
        document.headings,
    )
    hold_promises(cut, chunk(cut, pieces, limit), pieces)


@pytest.mark.parametrize(
    "text",
    ["1,2,3;4," * 300, "https://example.org/" + "path/to/file." * 200, "价格是五元" * 300],
    ids=["list", "url", "unspaced"],
)
def test_long_text_without_a_space_is_cut_to_fit(pieces: WordPieces, text: str) -> None:
    document = make(text, title="A title of some words")
    hold_promises(document, chunk(document, pieces, 200), pieces)


@pytest.mark.parametrize("mark", ["\u0301", "\u200b", "\ufffd", "\x07"])
def test_characters_that_the_embedder_drops_are_cut_off_too(pieces: WordPieces, mark: str) -> None:
    document = make(f"e{mark}" * 60 + "[1]")
    hold_promises(document, chunk(document, pieces, 32), pieces)


def test_a_short_page_is_one_chunk(pieces: WordPieces) -> None:
    (only,) = chunk(make("The fee is 5 euros.\n"), pieces, 200)
    assert (only.text, only.page_start, only.char_start) == ("The fee is 5 euros.", 1, 0)


def test_an_empty_document_has_no_chunks(pieces: WordPieces) -> None:
    assert chunk(make("", " \n"), pieces, 200) == ()


def test_a_chunk_never_crosses_a_page(pieces: WordPieces) -> None:
    chunks = chunk(make("One.", "", "Three."), pieces, 200)
    assert [(c.text, c.page_start, c.char_start) for c in chunks] == [
        ("One.", 1, 0),
        ("Three.", 3, 6),
    ]


def test_long_text_is_cut_between_sentences(pieces: WordPieces) -> None:
    sentences = [f"Sentence number {n} says that the pump is on." for n in range(60)]
    chunks = chunk(make(" ".join(sentences)), pieces, 100)
    assert len(chunks) > 5
    assert all(c.text.startswith("Sentence") and c.text.endswith("on.") for c in chunks)
    assert all(50 < pieces.count(c.text) <= 100 for c in chunks[:-1])


def test_a_table_is_cut_between_its_rows(pieces: WordPieces) -> None:
    rows = [f"Article {n} | {n} EUR | in stock" for n in range(80)]
    chunks = chunk(make("\n".join(rows)), pieces, 100)
    assert len(chunks) > 3
    assert [row for c in chunks for row in c.text.split("\n")] == rows


def test_a_chunk_stands_under_its_headings(pieces: WordPieces) -> None:
    body = "Some words about this that are long enough to be a section of their own here. " * 2
    text = f"Terms\n{body}\nRefunds\n{body}\nDigital\n{body}\nPrivacy\n{body}"
    headings = [
        Heading(text.index(name), level, name)
        for name, level in (("Terms", 1), ("Refunds", 2), ("Digital", 3), ("Privacy", 2))
    ]
    assert [c.heading for c in chunk(make(text, headings=headings), pieces, 200)] == [
        "Terms",
        "Terms > Refunds",
        "Terms > Refunds > Digital",
        "Terms > Privacy",
    ]


def test_headings_reach_over_pages(pieces: WordPieces) -> None:
    chunks = chunk(make("Terms", "Body.", headings=[Heading(0, 1, "Terms")]), pieces, 200)
    assert [c.heading for c in chunks] == ["Terms", "Terms"]


def test_the_outermost_headings_go_when_there_is_no_room(pieces: WordPieces) -> None:
    headings = [Heading(0, 1, "Outer " * 60), Heading(1, 2, "Inner")]
    (only,) = chunk(make("Body text.", headings=headings), pieces, 226)
    assert only.heading in ("Inner", "")
    assert "Outer" not in only.heading


def test_the_same_document_gives_the_same_chunks(pieces: WordPieces) -> None:
    document = make("One. " * 300, "Two.")
    assert chunk(document, pieces, 200) == chunk(document, pieces, 200)


def rows(count: int) -> str:
    return "\n".join(f"Pump {n} | {n} bar | every {n} months | Ulvik" for n in range(count))


def test_a_table_that_goes_on_keeps_its_header(pieces: WordPieces) -> None:
    text = f"Service plan\n\nDevice | Pressure | Interval | Place\n{rows(60)}"
    first, *rest = chunk(make(text, headings=[Heading(0, 1, "Service plan")]), pieces, 200)
    assert first.heading == "Service plan"
    assert len(rest) > 2
    assert {c.heading for c in rest} == {"Service plan > Device | Pressure | Interval | Place"}


@pytest.mark.parametrize(
    "header",
    [
        "Pump | 3 | 2 | 1",
        "Device || Interval | Place",
        "A table of pumps.",
        "Device: pump | Place: Ulvik",
    ],
)
def test_what_names_no_columns_is_no_header(header: str, pieces: WordPieces) -> None:
    chunks = chunk(make(f"{header}\n{rows(60)}"), pieces, 200)
    assert {c.heading for c in chunks} == {""}


def test_a_table_ends_where_text_begins(pieces: WordPieces) -> None:
    text = f"Device | Pressure | Interval | Place\n{rows(3)}\n" + "A sentence of text. " * 80
    assert {c.heading for c in chunk(make(text), pieces, 100)} == {""}
