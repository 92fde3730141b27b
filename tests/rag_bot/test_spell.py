from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.catalogue import Collection, Prepared
from rag_bot.embed import Embedder
from rag_bot.index import Index
from rag_bot.spell import corrected, slipped

TEXT = "The safety officer signs. Each employee is an employee of Vortex, the Overtoom garage."
KNOWN = {"what", "does", "they", "sign", "parking", "form", "signs"}


@pytest.mark.parametrize(
    ("typed", "meant", "same"),
    [
        ("oficer", "officer", True),
        ("offficer", "officer", True),
        ("offiver", "officer", True),
        ("offcier", "officer", True),
        ("fofficer", "officer", True),
        ("fficer", "officer", True),
        ("officer", "officer", False),
        ("oficr", "officer", False),
        ("office", "officers", False),
        ("ab", "ba", True),
        ("abc", "cba", False),
        ("", "a", True),
        ("", "", False),
    ],
)
def test_one_slip_worked_by_hand(typed: str, meant: str, same: bool) -> None:
    assert slipped(typed, meant) is same
    assert slipped(meant, typed) is same


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_a_slip_is_damerau_distance_one(one: str, two: str) -> None:
    """Held against every string that one slip makes of the other."""
    cuts = [(one[:n], one[n:]) for n in range(len(one) + 1)]
    made = {a + b[1:] for a, b in cuts if b} | {a + c + b for a, b in cuts for c in "ab"}
    made |= {a + c + b[1:] for a, b in cuts if b for c in "ab"}
    made |= {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    assert slipped(one, two) == (two in made and one != two)


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ("what does the safety oficer sign", "what does the safety officer sign"),
        ("What does the saftey officer sign?", "What does the safety officer sign?"),
        ("Emploeyes sign?", "Emploeyes sign?"),
        ("Emplyoee sign?", "Employee sign?"),
        ("what of the garrage", "what of the garage"),
        # What may be a name, a code, an address or a word of its own is left.
        ("Who is Vortix?", "Who is Vortix?"),
        ("the OFICER", "the OFICER"),
        (
            "form B-oficer oficer2 x@oficer.org oficer's",
            "form B-oficer oficer2 x@oficer.org oficer's",
        ),
        ("parking", "parking"),
        # Another language: its words are no slips of ours.
        ("Quel oficer pour la garge?", "Quel oficer pour la garge?"),
        ("wie viel kostet die garrage", "wie viel kostet die garrage"),
        ("garrage für oficer", "garrage für oficer"),
        ("oficer garrage", "officer garage"),
        ("sin", "sin"),
        ("", ""),
    ],
)
def test_what_is_put_right(query: str, right: str) -> None:
    words = {*KNOWN, *TEXT.lower().replace(".", "").replace(",", "").split()}
    assert corrected(query, lambda word: word.lower() in words, lambda *_: [TEXT]) == right


def test_of_two_likely_words_the_more_frequent_one_is_meant() -> None:
    texts = ["The lease. The lease.", "A leash."]
    assert corrected("the leasr", lambda word: word == "the", lambda *_: texts) == "the lease"


def test_letters_in_the_wrong_order_are_likelier_than_a_frequent_word() -> None:
    assert corrected("mnay", lambda _: False, lambda *_: ["It may. It may, many."]) == "many"
    assert corrected("wich", lambda _: False, lambda *_: ["with, with, which"]) == "which"


def test_a_word_nearer_by_its_stem_is_looked_for_first() -> None:
    texts = {1: ["garage"], 2: ["barrage"]}
    assert corrected("garrage", lambda _: False, lambda _, slips: texts[slips]) == "garage"
    assert (
        corrected("garrage", lambda _: False, lambda _, n: texts[n] if n == 2 else []) == "garrage"
    )


def test_the_index_knows_its_words_and_what_is_like_them(
    index: Index, embedder: Embedder, prepare: Callable[..., Prepared]
) -> None:
    docs: Collection = index.make_collection("docs", "f1")
    index.add(
        docs, [prepare(docs, embedder, "/a.txt", TEXT), prepare(docs, embedder, "/b.txt", "No.")]
    )
    assert index.holds(docs, "Officers")
    assert not index.holds(docs, "oficer")
    assert index.alike(docs, "oficer", 1) == [f" {TEXT}"]
    assert index.alike(docs, "zzzzzzzz", 2) == []
    index.remove(docs, index.catalogue.entries(docs)[:1])
    assert index.alike(docs, "oficer", 1) == []


def test_the_embedder_knows_words(embedder: Embedder) -> None:
    assert embedder.has_word("Parking")
    assert not embedder.has_word("oficer")
    assert not embedder.has_word("saftey")
