import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.filler import bare


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
