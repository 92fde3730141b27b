from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag_bot import context
from rag_bot.types import Chunk, Reading, Source

Make = Callable[..., Source]

FIVE = "One one. Two two. Three three. Four four. Five five."


def words(text: str) -> int:
    return len(text.split())


def test_sources_are_kept_while_they_fit(source: Make) -> None:
    """Each costs 10 words, 3 for `a.txt, page 1` and 8 around it: 21."""
    sources = [source(n, "word " * 10) for n in (1, 2, 3)]
    assert context.fit(sources, 63, words) == tuple(sources)
    assert context.fit(sources, 62, words) == tuple(sources[:2])
    assert context.fit(sources, 42, words) == tuple(sources[:2])
    assert context.fit(sources, 41, words) == tuple(sources[:1])


def test_the_first_source_is_shown_however_long(source: Make) -> None:
    sources = [source(1, "word " * 500), source(2, "short")]
    assert context.fit(sources, 100, words) == (sources[0],)
    assert context.fit([], 100, words) == ()


def pointed(source: Source, words_there: str) -> Source:
    """A source whose reader points at these words."""
    start = source.chunk.text.index(words_there)
    return replace(source, reading=Reading(1.0, 0.9, start, start + len(words_there), 2.0))


def test_evidence_comes_first_then_what_stands_around_it(source: Make) -> None:
    """Each sentence costs 2, a source 3 for `a.txt, page 1` and 8 around it."""
    two = [pointed(source(1, FIVE), "Three"), pointed(source(2, FIVE), "One one")]
    shown = context.fit(two, 26, words)
    assert [each.excerpt for each in shown] == ["Three three.", "One one."]
    shown = context.fit(two, 28, words)
    assert [each.excerpt for each in shown] == ["Two two. Three three.", "One one."]
    shown = context.fit(two, 32, words)
    assert [each.excerpt for each in shown] == [
        "Two two. Three three. Four four.",
        "One one. Two two.",
    ]
    assert [each.excerpt for each in context.fit(two, 100, words)] == [FIVE, FIVE]


def test_what_does_not_fit_leaves_no_gap_in_the_numbers(source: Make) -> None:
    long = "word " * 50 + "end."
    three = [
        pointed(source(1, "Short one."), "Short"),
        pointed(source(2, long), "word"),
        pointed(source(3, "Short three."), "Short"),
    ]
    assert [each.marker for each in context.fit(three, 40, words)] == [1]


def test_a_source_is_not_shown_without_its_evidence(source: Make) -> None:
    long = "Short one. " + "word " * 50 + "end."
    two = [pointed(source(1, "Short one."), "Short"), pointed(source(2, long), "word")]
    assert [each.marker for each in context.fit(two, 60, words)] == [1]
    assert [each.marker for each in context.fit(two, 90, words)] == [1, 2]


def test_the_first_evidence_is_shown_however_long(source: Make) -> None:
    long = pointed(source(1, "word " * 500), "word")
    assert context.fit([long], 10, words)[0].excerpt.startswith("word word")


def test_evidence_over_two_sentences_is_shown_whole(source: Make) -> None:
    one = pointed(source(1, FIVE), "two. Three")
    assert context.fit([one], 15, words)[0].excerpt == "Two two. Three three."


def test_what_lies_between_two_slices_is_marked_as_left_out(source: Make) -> None:
    one = replace(source(1, FIVE), shown=((0, 8), (18, 30)))
    assert one.excerpt == "One one. … Three three."


@given(
    st.lists(st.lists(st.sampled_from(["a b.", "c.", "d e f g.", "| h | i |\n"]), min_size=1)),
    st.integers(0, 120),
    st.data(),
)
def test_slices_are_of_the_text_in_order_and_within_the_budget(
    texts: list[list[str]], budget: int, data: st.DataObject
) -> None:
    sources = []
    for n, parts in enumerate(texts, start=1):
        text = " ".join(parts).strip()
        start = data.draw(st.integers(0, len(text) - 1))
        chunk = Chunk(str(n), "d", text, 1, 1, 0, len(text))
        reading = Reading(0.0, 0.5, start, data.draw(st.integers(start, len(text))), 0.0)
        sources.append(Source(n, chunk, "a.txt", "/a.txt", 1.0, reading))
    shown = context.fit(sources, budget, words)
    assert [each.marker for each in shown] == list(range(1, len(shown) + 1))
    assert bool(shown) == bool(sources)
    for each in shown:
        ends = [place for piece in each.shown for place in piece]
        assert each.shown
        assert ends == sorted(ends)
        assert all(each.chunk.text[a:b].strip() == each.chunk.text[a:b] for a, b in each.shown)
    if len(shown) > 1:
        # A frame of 8 leaves room for the marks of omission, which are not counted.
        spent = sum(
            8 + 3 + sum(words(each.chunk.text[a:b]) for a, b in each.shown) for each in shown
        )
        assert spent <= max(budget, 0) + words(shown[0].excerpt) + 11
