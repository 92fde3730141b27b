import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_bot.parts import MOST, parts


def said(question: str) -> list[str]:
    return [part.said for part in parts(question)]


@pytest.mark.parametrize(
    ("question", "first", "second"),
    [
        (
            "When does the lease end, and what is the notice period?",
            "When does the lease end",
            "what is the notice period? (lease end)",
        ),
        (
            "Who discovered radium and where did she die?",
            "Who discovered radium",
            "where did she die? (discovered radium)",
        ),
        (
            "How many wrong logins lock an account, and for how long?",
            "How many wrong logins lock an account",
            "for how long? (wrong logins lock account)",
        ),
        (
            "What is the deductible and is there a limit?",
            "What is the deductible",
            "is there a limit? (deductible)",
        ),
        (
            "Is smoking allowed and are dogs allowed in there?",
            "Is smoking allowed",
            "are dogs allowed in there? (smoking)",
        ),
        (
            "Who signed the lease? When was it signed?",
            "Who signed the lease?",
            "When was it signed? (lease)",
        ),
        (
            "Wann endet der Mietvertrag und wie lange ist die Kündigungsfrist?",
            "Wann endet der Mietvertrag",
            "wie lange ist die Kündigungsfrist? (Mietvertrag)",
        ),
        (
            "Quel est le loyer et quand est-il dû ?",
            "Quel est le loyer",
            "quand est-il dû ?",
        ),
        (
            "Tell me when the lease ends and what the notice period is.",
            "Tell me when the lease ends",
            "what the notice period is. (lease ends)",
        ),
        (
            "Is parking free? If not, how much does it cost?",
            "Is parking free?",
            "how much does it cost? (parking free)",
        ),
        (
            "How long is the lease and does Acme have an option?",
            "How long is the lease",
            "does Acme have an option? (lease)",
        ),
        (
            "How many of us get the share for 2025, and how much is it for a trainee?",
            "How many of us get the share for 2025",
            "how much is it for a trainee? (us get share 2025)",
        ),
    ],
)
def test_two_questions_are_told_apart_and_each_stands_alone(
    question: str, first: str, second: str
) -> None:
    assert [part.query for part in parts(question)] == [first, second]


def test_a_statement_ahead_belongs_to_every_part() -> None:
    found = parts("The bicycle shelter: how many places has it got, and who pays?")
    assert [part.said for part in found] == ["how many places has it got", "who pays?"]
    assert [part.query for part in found] == [
        "The bicycle shelter: how many places has it got",
        "who pays? (bicycle shelter places got)",
    ]


@pytest.mark.parametrize(
    ("question", "first", "second"),
    [
        (
            "When the alarm rings, what do I do and whom do I call?",
            "When the alarm rings, what do I do",
            "whom do I call? (alarm rings)",
        ),
        (
            "If I am ill, whom do I call and by when must I hand in a certificate?",
            "If I am ill, whom do I call",
            "by when must I hand in a certificate? (ill call)",
        ),
    ],
)
def test_a_clause_ahead_belongs_to_every_part(question: str, first: str, second: str) -> None:
    assert [part.query for part in parts(question)] == [first, second]


def test_numbered_questions() -> None:
    question = "1. What is the rent? 2. When does it end? 3. Who pays?"
    assert said(question) == ["What is the rent?", "When does it end?", "Who pays?"]


def test_a_statement_behind_belongs_to_the_last_part() -> None:
    assert said("When does it start, and what may I bring? I have a dog.") == [
        "When does it start",
        "what may I bring? I have a dog.",
    ]


def test_a_part_that_says_what_it_asks_for_gets_only_names_and_years() -> None:
    query = parts("What do we pay Acme for 2026, and what figure stood in the old contract?")[
        1
    ].query
    assert query == "what figure stood in the old contract? (Acme 2026)"


def test_a_list_of_questions() -> None:
    question = "What is the rent, how is it paid, and when is it raised?"
    assert said(question) == ["What is the rent", "how is it paid", "when is it raised?"]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "?",
        "When does the lease end?",
        "Does the policy cover fire and water damage?",
        "What is the difference between a lease and a licence?",
        "Which list price and what discount apply?",
        "Quels jours et à quelles heures ouvre le dépôt ?",
        "Do you know where and when the party is?",
        "What does the person who leads Sales and who signs contracts earn?",
        "What happens before the foundation is dug and when an inspection is passed?",
        "The smallest animals that are there are the caiman and what?",
        "I moved in May. What now?",
        "When the alarm rings, what do I do?",
        "When I leave the company, what happens to my unused leave?",
        "For employees who work part-time, how many days of leave are there?",
        "In the contract which we signed in 2020, what is the notice period?",
        "Where the contract is silent, what law applies?",
        "How do I start and how do I stop the machine?",
        "Who wrote and who signed the contract?",
        "Wann beginnt und wann endet die Probezeit?",
        "What is covered and what is not covered by the insurance?",
        "What is the difference between what Acme charges and what Bolt charges?",
        "Is there a difference between what the handbook says and what the contract says?",
        "How many days of vacation and how many days of sick leave do I get per year?",
        "Who decides whether and how much bonus is paid?",
        "Is the device waterproof and can be used outdoors?",
        "Can I carry over leave and have it paid out?",
        "What are the rules on who may sign and how they are documented?",
        "Who decides what is confidential and how it is stored?",
        "Does it matter when I book and how I pay?",
        "What are the terms and what-if scenarios?",
        'What does the section "What is covered? What is not?" say?',
        "x" * 3000,
    ],
)
def test_one_question_stays_whole(question: str) -> None:
    assert parts(question) == ()


def test_more_questions_than_are_answered_apart_stay_whole() -> None:
    each = "Who pays for the roof? "
    assert len(parts(each * MOST)) == MOST
    assert parts(each * (MOST + 1)) == ()


_PIECES = st.sampled_from(
    ["Who pays", "when", "what is it", " and ", ", and ", "? ", "The roof: ", "how much", " ", "\n"]
)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_the_parts_are_the_users_own_words_in_their_order(question: str) -> None:
    at = 0
    whole = " ".join(question.split())
    for part in parts(question):
        found = whole.find(part.said, at)
        assert found >= 0
        assert part.said
        assert part.said in part.query
        at = found + len(part.said)
