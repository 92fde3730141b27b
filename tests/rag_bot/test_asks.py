import pytest

from rag_bot.asks import for_a_sentence


@pytest.mark.parametrize(
    "question",
    [
        "Why is the pump blocked?",
        "How do I return the station to factory settings?",
        "how to cure a wound",
        "How is unused leave handled?",
        "What does error E07 mean?",
        "What is the purpose of the deposit?",
        "What was the main reason for the delay?",
        "what are four functions of the cell membrane",
        "What should the tenant do when a key is lost?",
        "What happens if I am ill on a holiday?",
        "Explain the notice period.",
        "Please describe the handover.",
        "where did the expression getting cold feet come from",
        "What is a sapper?",
        "What are the major factors in the change of the margin?",
        "What impact does the exchange rate have?",
        "How have inventory levels changed?",
        "Compare the two price lists.",
        "Warum ist die Pumpe gesperrt?",
        "Wie wird die Kaution verzinst?",
        "Was bedeutet E07?",
        "Pourquoi la pompe est-elle bloquée ?",
    ],
)
def test_a_sentence_is_asked_for(question: str) -> None:
    assert for_a_sentence(question)


@pytest.mark.parametrize(
    "question",
    [
        "Who audited the accounts in 2025?",
        "How many days of leave do I get?",
        "How long is the warranty on the battery?",
        "how much does it cost",
        "How high is the rent?",
        "When are dogs allowed in the office?",
        "What does the main board MB-40 cost in exchange?",
        "What is the restocking fee?",
        "What is a missing key charged at in the second year?",
        "Which supplier delivers the sensor?",
        "Wie viele Tage Urlaub gibt es?",
        "Wie hoch ist die Miete?",
        "Wie lange gilt die Garantie?",
        "Combien de jours ?",
        "",
    ],
)
def test_a_few_words_are_asked_for(question: str) -> None:
    assert not for_a_sentence(question)
