from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_bot import survey
from rag_bot.abstain import NOTHING
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Prepared
from rag_bot.config import Settings
from rag_bot.index import Index, fingerprint
from rag_bot.survey import Gathered, Pin, holds, hop, wanted
from rag_bot.types import Answer, Finished, Reading, Retrieved, Token

LEASE = "The lease of the workshop expires on 31 March 2027. The rent is 900 euros."
SUPPLY = "This supply agreement expires on 30 June 2027, unless it is renewed."
STAFF = "The safety officer is Nell Fenwick. Questions about leave go to the office."
MINUTES = "Present: Nell Fenwick, Oswin Hale. The pump P-7 was repaired in 2027."
PUMP = "The pump P-7 delivers 4.5 bar. It was built by Vortex in Lyon."
DOCUMENTS = {
    "lease.txt": LEASE,
    "supply_agreement.txt": SUPPLY,
    "staff.txt": STAFF,
    "minutes_of_may.txt": MINUTES,
    "pump.txt": PUMP,
}


class Expiring:
    """A reader that knows what expires and who the safety officer is."""

    model_id = "expiring"

    def __init__(self) -> None:
        self.read_texts: list[str] = []

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        self.read_texts += (text for _, text in passages)
        answer = "Nell Fenwick" if question.startswith("Who") else "expires"
        sought = "safety officer is Nell Fenwick" if question.startswith("Who") else answer
        return [
            Reading(0.0, 0.9, text.index(answer), text.index(answer) + len(answer), 1.0)
            if sought in text
            else Reading(0.0, 0.1, 0, 1, 0.0)
            for _, text in passages
        ]


def never() -> Any:
    raise AssertionError("the model was asked")


Ask = Callable[..., tuple[Answer, list[str]]]


@pytest.fixture
def ask(
    settings: Settings, index: Index, word_embedder: Any, prepare: Callable[..., Prepared]
) -> Ask:
    """The answer over five documents, and its tokens. No LLM is asked."""
    docs = index.make_collection("default", fingerprint(settings))
    made = (prepare(docs, word_embedder, f"/docs/{n}", text) for n, text in DOCUMENTS.items())
    index.add(docs, list(made))

    def run(question: str, reader: Any = None) -> tuple[Answer, list[str]]:
        pipeline = Pipeline(settings, index, lambda: word_embedder, never, lambda: reader)
        first, *tokens, last = pipeline.answer(question)
        assert isinstance(first, Retrieved)
        assert isinstance(last, Finished)
        answer = last.answer
        shown = [each.text for each in tokens if isinstance(each, Token)]
        numbered = {source.marker: source.chunk.id for source in first.sources}
        assert len(numbered) == len(first.sources)
        for cited in answer.citations:
            document = index.catalogue.document(cited.document_id)
            assert document
            assert document.text[cited.char_start : cited.char_end] == cited.quote
            assert numbered[cited.marker] == cited.chunk_id
            assert f"[{cited.marker}]" in answer.text
        for verdict in answer.verdicts:
            assert verdict.claim in answer.text
        if not answer.abstained:
            assert "".join(shown) == answer.text
        return answer, shown

    return run


def listed(answer: Answer) -> set[str]:
    return {cited.document for cited in answer.citations}


def test_documents_that_count_are_listed_with_their_quotes(ask: Ask) -> None:
    reader = Expiring()
    answer, shown = ask("Which documents expire in 2027?", reader)
    assert listed(answer) == {"lease.txt", "supply_agreement.txt"}
    assert "lease.txt, page 1: “The lease of the workshop expires on 31 March 2027.”" in answer.text
    assert answer.text.endswith(
        "2 of 5 documents. All of their text was searched for “2027”; of the 3 that have it, the"
        " best passages were read."
    )
    assert len(shown) == 3
    assert shown[0].startswith("- ")
    assert set(reader.read_texts) == {LEASE, SUPPLY, MINUTES}
    assert answer.model_id == ""
    assert 0 < answer.confidence <= 1


def test_lines_are_shown_while_later_documents_are_not_yet_read(
    ask: Ask, settings: Settings, index: Index, word_embedder: Any
) -> None:
    reader = Expiring()
    pipeline = Pipeline(settings, index, lambda: word_embedder, never, lambda: reader)
    events = pipeline.answer("Which documents say what expires?")
    assert isinstance(next(events), Retrieved)
    assert reader.read_texts == []
    assert isinstance(next(events), Token)
    assert len(reader.read_texts) < len(DOCUMENTS)


def test_a_count_comes_first(ask: Ask) -> None:
    answer, _ = ask("How many documents expire in 2027?", Expiring())
    assert answer.text.startswith("2 of 5 documents.")
    assert len(answer.citations) == 2


def test_where_only_words_are_asked_for_nothing_is_left_to_judge(ask: Ask) -> None:
    reader = Expiring()
    answer, _ = ask("Which documents mention the pump P-7?", reader)
    assert listed(answer) == {"minutes_of_may.txt", "pump.txt"}
    assert answer.text.endswith("2 of 5 documents. All of their text was searched for “P-7”.")
    assert reader.read_texts == []


def test_documents_of_a_kind_are_looked_at_alone_and_that_is_said(ask: Ask) -> None:
    answer, _ = ask("Which minutes mention Nell Fenwick?")
    assert listed(answer) == {"minutes_of_may.txt"}
    assert "1 of 1 document (of 5) whose name or title goes with “minutes”." in answer.text


def test_a_person_meant_by_what_they_do_is_looked_up_first(ask: Ask) -> None:
    answer, shown = ask("Which documents mention the person who is the safety officer?", Expiring())
    assert "The person who is the safety officer is Nell Fenwick: staff.txt" in shown[0]
    assert listed(answer) == {"staff.txt", "minutes_of_may.txt"}
    assert "2 of 5 documents." in answer.text


def test_without_a_reader_the_closest_passages_count(ask: Ask) -> None:
    answer, _ = ask("In which documents is the safety officer named by the office?")
    assert listed(answer) == {"staff.txt"}


@pytest.mark.parametrize(
    "question",
    ["Which documents mention Zurich?", "Which contracts expire in 2031?"],
)
def test_what_no_document_holds_is_not_answered(ask: Ask, question: str) -> None:
    answer, shown = ask(question, Expiring())
    assert (answer.abstained, answer.reason, answer.text) == (True, "no_evidence", NOTHING)
    assert (shown, answer.citations) == ([], ())


def test_an_empty_collection_says_so(settings: Settings, index: Index, word_embedder: Any) -> None:
    index.make_collection("default", fingerprint(settings))
    *_, last = Pipeline(settings, index, lambda: word_embedder, never).answer(
        "Which documents mention Lyon?"
    )
    assert isinstance(last, Finished)
    assert last.answer.reason == "empty_collection"


def test_what_was_left_out_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "READ", 2)
    answer, _ = ask("How many documents expire in 2027?", Expiring())
    assert answer.text.startswith("At least ")
    assert "Partial: 2 of the 3 that have it were read." in answer.text
    answer, _ = ask("Which documents say what expires?", Expiring())
    assert "Partial: 2 of 5 documents were looked at, the likeliest first." in answer.text
    monkeypatch.setattr(survey, "SEARCHED", 1)
    answer, _ = ask("Which documents mention Zurich?")
    assert answer.text == f"{NOTHING} Partial: 1 of 5 documents were looked at."


def test_a_comparison_is_left_to_the_reader_and_that_is_said(ask: Ask) -> None:
    answer, _ = ask("Which documents say what expires before 2030?", Expiring())
    assert "Whether “before 2030” is met, the quotes show: it was not computed." in answer.text


@pytest.mark.parametrize(
    "question",
    [
        "Which contracts expire in 2027?",
        "List all policies that mention passwords.",
        "How many documents mention the BP-12?",
        "In which files does Mr Hale appear?",
        "What does each policy say about dogs?",
        "Which of our reports were written by Nell Fenwick?",
        "Under which agreements do we pay rent?",
        "Which documents do we have about batteries?",
    ],
)
def test_questions_about_many_documents_are_known(question: str) -> None:
    assert wanted(question)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "How many days of leave do I have?",
        "Which floor is the canteen on?",
        "Which documents do I need for a claim?",
        "What documents are required for parental leave?",
        "How many reports must I hand in?",
        "Which document holds the price of the BP-12?",
        "List all products of the price list.",
        "Must all contracts be signed by two people?",
        "Which customers signed contracts in 2025?",
        "What happens to documents of leavers?",
        "How many documents are there?",
        "Where are the contracts kept?",
    ],
)
def test_ordinary_questions_are_left_alone(question: str) -> None:
    assert wanted(question) is None


@pytest.mark.parametrize(
    ("question", "pins"),
    [
        ("Which contracts expire in 2027?", {("2027", "number")}),
        ("Which files mention room 0.07?", {("room 0.07", "words")}),
        ("Which documents end on 31 March 2027?", {("31 March 2027", "date")}),
        ("Which documents mention Nell Fenwick?", {("Nell Fenwick", "name")}),
        ("Which documents name “the Break Date”?", {("the Break Date", "words")}),
        ("Which contracts cost more than 5,000 euros?", set()),
    ],
)
def test_what_must_stand_there_word_for_word(question: str, pins: set[tuple[str, str]]) -> None:
    found = wanted(question)
    assert found
    assert set(found.pins) == pins


@pytest.mark.parametrize(
    ("pin", "text", "held"),
    [
        (Pin("1,200", "number"), "a fee of 1200 euros", True),
        (Pin("12", "number"), "a fee of 120 euros", False),
        (Pin("BP-12", "words"), "the bp 12 pack", True),
        (Pin("E1", "words"), "error E10", False),
        (Pin("31 March 2026", "date"), "counted_on: 2026-03-31", True),
        (Pin("31 March 2026", "date"), "on 1 March 2026", False),
        (Pin("31 March 2026", "date"), "bis 31.03.2026", True),
        (Pin("1 March 2026", "date"), "bis 31.03.2026", False),
        (Pin("2027", "number"), "endet am 31.12.2027.", True),
        (Pin("退款", "words"), "客户可以在30天内申请退款的情况如下", True),
        (Pin("fund", "words"), "a refund", False),
        (Pin("March", "name"), "2026-03-31", True),
        (Pin("Nell Fenwick", "name"), "Ms Fenwick", True),
    ],
)
def test_spellings_of_the_same_are_the_same(pin: Pin, text: str, held: bool) -> None:
    assert holds(pin, text) == held


def test_a_name_must_stand_in_full_somewhere_in_the_document(ask: Ask) -> None:
    answer, _ = ask("Which documents mention Nell Hale?")
    assert listed(answer) == {"minutes_of_may.txt"}


def test_the_inner_question_ends_before_the_verb_of_the_outer_one() -> None:
    outer = wanted("In which documents does the person who leads Sales appear?")
    assert outer
    inner = hop(outer)
    assert inner
    assert (inner.clause, inner.question) == ("the person who leads Sales", "Who leads Sales?")
    nobody = wanted("Which contracts mention the person who  ?")
    assert nobody
    assert hop(nobody) is None


@given(st.text(max_size=120))
@example("“Ⓑ”")  # a letter to the tokenizer, and none to Python
@example("the person who  ?")
def test_no_text_is_an_error(text: str) -> None:
    for question in (text, f"Which documents mention {text}?", f"How many files {text}"):
        found = wanted(question)
        if found:
            hop(found)
            assert all(holds(pin, pin.text) for pin in found.pins if pin.kind == "words")


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_an_answer_is_partial_where_any_document_was_left_out(a: int, b: int, c: int) -> None:
    holding, searched, eligible = sorted((a, b, c))
    gathered = Gathered(((),) * min(holding, 2), eligible, eligible, searched, holding)
    said = survey.caveat(gathered)
    assert gathered.partial == (searched < eligible or holding > 2) == bool(said)
