import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.rewrite import name, standalone
from rag_bot.types import Message


def user(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


def test_without_history_a_question_stays_as_it_is() -> None:
    assert standalone("And what about it?", []) == "And what about it?"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How long is it valid?", "How long is it valid? (warranty Stormkeep 400)"),
        ("And abroad?", "And abroad? (warranty Stormkeep 400)"),
        ("Transport costs?", "Transport costs? (warranty Stormkeep 400)"),
        ("What about the Stormkeep 500?", "What about the Stormkeep 500? (warranty 400)"),
    ],
)
def test_a_question_that_leans_gets_its_topic(question: str, expected: str) -> None:
    assert standalone(question, user("What is the warranty of the Stormkeep 400?")) == expected


def test_a_question_that_stands_alone_is_left_alone() -> None:
    question = "Who approves travel expenses over 500 euros?"
    assert standalone(question, user("What is the warranty of the Stormkeep 400?")) == question


@pytest.mark.parametrize(
    ("question", "leans"),
    [
        ("How many paid rest days are there a year?", False),
        ("Is there a penalty clause for late payment?", False),
        ("Which parking rules apply there on Sundays?", True),
    ],
)
def test_there_is_names_no_place(question: str, leans: bool) -> None:
    asked = standalone(question, user("Who runs the depot in Lyon?"))
    assert asked == (f"{question} (runs depot Lyon)" if leans else question)


def test_a_chain_of_follow_ups_keeps_the_first_topic() -> None:
    query = standalone(
        "And in Norway?", user("What is the warranty of the Stormkeep 400?", "Does it cover hail?")
    )
    assert {"warranty", "Stormkeep", "400", "hail"} <= set(
        query.strip("()").replace("(", "").split()
    )


def test_a_new_subject_ends_the_old_one() -> None:
    query = standalone(
        "When is it due?",
        user("What is the warranty of the Stormkeep 400?", "How high is the monthly office rent?"),
    )
    assert "rent" in query
    assert "warranty" not in query


def test_what_the_bot_said_is_not_searched_for() -> None:
    history = [*user("Who leads sales?"), Message("assistant", "Zebedee leads sales.")]
    assert standalone("Since when does she?", history) == "Since when does she? (leads sales)"


OFFICER = [*user("Who is the safety officer?"), Message("assistant", "Jana Meier [2]")]


def test_of_what_the_bot_said_a_name_that_was_asked_for_is_searched_for() -> None:
    assert standalone("What is her number?", OFFICER) == (
        "What is her number? (Jana Meier safety officer)"
    )
    further = [*OFFICER, *user("What is her number?"), Message("assistant", "214 [1]")]
    assert "Jana Meier" in standalone("And since when does she work here?", further)
    assert standalone("How high is the rent of the office?", OFFICER) == (
        "How high is the rent of the office?"
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("How often is the rent due?", "Monthly [1]"),
        ("Is the rent due on the first?", "Yes [1]"),
        ("Who pays the rent?", "The tenant pays it in Zurich [1]"),
        ("Which rent is due?", "EUR 1,200 [1]"),
        ("Who pays the rent?", "No"),
        ("What is in the cellar?", "One [1]"),
    ],
)
def test_what_was_said_and_is_no_name_is_not_searched_for(asked: str, said: str) -> None:
    query = standalone("When does it end?", [*user(asked), Message("assistant", said)])
    assert not {"Monthly", "Yes", "Zurich", "EUR", "No", "(One"} & set(query.strip(")").split())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Jana Meier [2]", "Jana Meier"),
        ("“Mont Blanc” [1]", "Mont Blanc"),
        ("Ludwig van der Rohe.", "Ludwig van der Rohe"),
        ("Dr. K. Ørsted", "Dr. K. Ørsted"),
        ("the tenant", ""),
        ("No.", ""),
        ("", ""),
    ],
)
def test_an_answer_that_is_nothing_but_a_name(answer: str, found: str) -> None:
    assert name(answer, "Who is it?") == found
    assert name(answer, "When is it?") == ""


def test_a_word_said_again_is_not_added() -> None:
    assert standalone("Is the refund instead cash?", user("How do refunds work?")) == (
        "Is the refund instead cash? (work)"
    )


def test_a_long_topic_is_cut() -> None:
    topic = " ".join(f"word{n}" for n in range(50))
    assert standalone("Why?", user(topic)) == f"Why? ({' '.join(topic.split()[:12])})"


@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=3))
def test_the_question_itself_is_always_kept(question: str, earlier: list[str]) -> None:
    assert standalone(question, user(*earlier)).startswith(question)
