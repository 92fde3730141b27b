import pytest

from rag_bot.mentions import Names, followed
from rag_bot.types import Chunk, ScoredChunk

NAMES = Names(
    [
        ("policy", "/docs/travel_policy.pdf", ""),
        ("film", "/docs/Maximum Overdrive (film).txt", ""),
        ("old", "/old/Magna.md", "House rules"),
        ("new", "/new/Magna.md", ""),
        ("year", "/docs/2012.txt", ""),
        ("it", "/docs/It.txt", ""),
        ("kind", "/docs/Contract.pdf", "Annual Report 2024"),
        ("the", "/docs/The same.txt", ""),
    ]
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("As the Travel Policy says, keep the ticket.", {"policy": 1}),
        ("Hotels: the travel policy's annex.", {"policy": 1}),
        ("Hotels: see travel_policy.pdf", {"policy": 1}),
        ("the travel\npolicy, which says so", {"policy": 1}),
        ("“Maximum Overdrive” was shot in Leland.", {"film": 1}),
        ("The Magna binds all.", {"old": 0.5, "new": 0.5}),
        ("We found a magna: a magna is cheap.", {}),
        ("This Contract and the Annual Report 2024.", {}),
        ("THE HOUSE RULES", {"old": 1}),
        ("In 2012 it was the same. It is.", {}),
        ("", {}),
    ],
)
def test_which_documents_a_text_names(text: str, named: dict[str, float]) -> None:
    assert NAMES.within(text, "other") == named


def test_a_document_does_not_name_itself_nor_its_namesakes() -> None:
    assert NAMES.within("The Magna and the House Rules.", "new") == {"old": 1}
    assert NAMES.within("The Magna and the House Rules.", "old") == {}


def test_a_collection_of_nothing_names_nothing() -> None:
    assert Names([]).within("The Magna.", "x") == {}


def hit(document: str, score: float, text: str = "", chunk: str = "") -> ScoredChunk:
    return ScoredChunk(Chunk(chunk or document, document, text, 1, 1, 0, 1), score, "hybrid")


def ids(hits: list[ScoredChunk]) -> list[str]:
    return [each.chunk.id for each in hits]


def test_what_the_best_source_names_is_moved_up() -> None:
    """0.7 + 0.15 for the best passage of the film; its other passage stays where it was."""
    ranking = [
        hit("town", 1.0, "Leland, where Maximum Overdrive was shot."),
        hit("beach", 0.84),
        hit("film", 0.7, chunk="film-1"),
        hit("film", 0.69, chunk="film-2"),
    ]
    found = followed("Who?", ranking, NAMES, 0.15)
    assert ids(found) == ["town", "film-1", "beach", "film-2"]
    assert [each.score for each in found] == pytest.approx([1.0, 0.85, 0.84, 0.69])
    assert followed("Who?", ranking, NAMES, 0.0) == ranking


def test_what_the_question_names_is_moved_up() -> None:
    ranking = [hit("a", 1.0), hit("policy", 0.9, chunk="p1"), hit("policy", 0.8, chunk="p2")]
    found = followed("What does the travel policy say of hotels?", ranking, NAMES, 0.15)
    assert [(each.chunk.id, each.score) for each in found] == [("p1", 1.05), ("a", 1), ("p2", 0.8)]


def test_lower_sources_say_less_and_the_sixth_nothing() -> None:
    """The second document's word counts 0.7 times; what two say counts once."""
    others = [hit(f"o{n}", 0.9) for n in range(5)]
    names_it = "See the Travel Policy."
    low = hit("policy", 0.1)
    assert followed("Who?", [hit("a", 1.0), hit("b", 0.9, names_it), low], NAMES, 0.2)[
        -1
    ].score == pytest.approx(0.1 + 0.2 * 0.7)
    both = [hit("a", 1.0, names_it), hit("b", 0.9, names_it), low]
    assert followed("Who?", both, NAMES, 0.2)[-1].score == pytest.approx(0.3)
    assert followed("Who?", [*others, hit("b", 0.8, names_it), low], NAMES, 0.2)[-1].score == 0.1


def test_what_was_not_found_is_not_made_up() -> None:
    ranking = [hit("town", 1.0, "Maximum Overdrive")]
    assert followed("Who?", ranking, NAMES, 0.15) == ranking
    assert followed("Who?", [], NAMES, 0.15) == []


def test_the_folder_is_no_name() -> None:
    assert Names([("a", "/travel policy/x.pdf", "")]).within("The travel policy", "b") == {}
