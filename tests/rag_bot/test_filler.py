import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.filler import bare, question_in

MAIL = "\n".join(["I had meant to write earlier, but then the cat fell ill."] * 30)


@pytest.mark.parametrize(
    ("question", "left"),
    [
        (
            "According to the annual report, what were net sales? If not available, return N/A.",
            "what were net sales?",
        ),
        ("What is the margin if it is not mentioned in the text answer none", "What is the margin"),
        ("Can you please tell me when the lease ends?", "when the lease ends?"),
        ("Based on the provided documents, who signs?", "who signs?"),
        ("I would like to know how pumps are cleaned", "how pumps are cleaned"),
        ("What is the fee? Return 'N/A' please", "What is the fee? please"),
    ],
)
def test_phrases_about_the_answer_go(question: str, left: str) -> None:
    assert bare(question) == left


@pytest.mark.parametrize(
    "question",
    [
        "What is the return policy?",
        "Which report names unknown risks?",
        "What happens if the tenant is not present?",
        "Who answers for the documents?",
        "According to Smith, what failed?",
        "What does the annual report say about pumps?",
        "",
    ],
)
def test_the_subject_stays(question: str) -> None:
    assert bare(question) == question


def test_a_question_of_filler_alone_stays() -> None:
    assert bare("Can you tell me?") == "Can you tell me?"
    assert bare("According to the documents,") == "According to the documents,"


@given(st.text(max_size=80))
def test_no_word_is_added_or_moved(question: str) -> None:
    words, left = question.split(), bare(question).split()
    places = iter(words)
    assert all(word in places for word in left)


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("Who is the safety officer?", "Who is the safety officer?"),
        ("Tell me when the lease ends.", "Tell me when the lease ends."),
        ("when does the lease end", "when does the lease end"),
        ("Kurz gesagt: Wann endet die Miete?", "Kurz gesagt: Wann endet die Miete?"),
        # What stands beside it in its paragraph may be what it is about.
        (
            "We try packs of Mereth.\nWhen does the trial end?",
            "We try packs of Mereth. When does the trial end?",
        ),
        ("Who lets the shop?\n\nHow was I?\n\nTill when?", "Who lets the shop? Till when?"),
    ],
)
@pytest.mark.parametrize("where", ["{mail}\n\n{asked}", "{asked}\n\n{mail}"])
def test_of_a_long_message_what_it_asks_is_left(asked: str, left: str, where: str) -> None:
    assert question_in(where.format(mail=MAIL, asked=asked)) == left


def test_in_a_long_paragraph_a_question_brings_what_it_refers_to() -> None:
    told = "ABC lets the shop to us. When does it end?"
    assert question_in(f"{MAIL} {told}") == told
    alone = "When does the lease of the shop that ABC lets to us end?"
    assert question_in(f"{MAIL} {alone}") == alone


def test_where_nothing_asks_the_last_paragraph_is_left_but_no_farewell() -> None:
    keywords = "modbus register number Stormkeep 400"
    assert question_in(f"{MAIL}\n\n{keywords}") == keywords
    assert question_in(f"{MAIL}\n\n{keywords}\n\nKind regards\nJo") == keywords
    assert question_in(f"{MAIL}\n\n{MAIL}") == f"{MAIL}\n\n{MAIL}"


def test_of_many_questions_the_last_are_left() -> None:
    asked = [f"What does clause number {n} say about the deposit?" for n in range(60)]
    left = question_in("\n".join(asked))
    assert left.endswith(asked[-1])
    assert asked[0] not in left
    assert len(left) <= 600


def test_a_short_message_and_one_that_asks_nothing_stay_as_they_are() -> None:
    short = "We moved in May. What is the rent?"
    assert question_in(short) == short
    assert question_in(MAIL) == MAIL


def test_a_single_endless_question_stays_whole() -> None:
    endless = "What is " + "the rent of the shop " * 60 + "?"
    assert question_in(endless) == endless.strip()
