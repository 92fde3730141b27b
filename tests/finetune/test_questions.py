from typing import Any

from finetune import questions
from rag_bot.answer import Pipeline
from rag_bot.words import content
from tests.finetune.conftest import PAGES


def test_questions_come_in_kinds_and_their_quotes_are_in_their_documents() -> None:
    found = questions.by_rule({name: [text] for name, text in PAGES.items()}, 60, seed=1)
    kinds = {each.kind for each in found}
    assert {"cloze", "list", "near_miss", "follow_up", "date"} <= kinds
    assert sum(each.kind == "near_miss" for each in found) == 6
    for each in found:
        if each.answer:
            page = " ".join(PAGES[each.document].split())
            assert " ".join(each.quote.split()) in page, each
    listed = next(each for each in found if each.kind == "list")
    assert listed.answer == "- heating oil\n- window cleaning\n- the fire alarm"
    gap = next(each for each in found if each.kind == "cloze")
    assert "…" in gap.question
    assert gap.answer in gap.quote
    assert gap.answer not in gap.question


def test_a_follow_up_is_about_what_was_spoken_of() -> None:
    found = questions.by_rule({name: [text] for name, text in PAGES.items()}, 100, seed=1)
    followed = [each for each in found if each.kind == "follow_up"]
    assert followed
    for each in followed:
        (before, _) = each.history
        assert content(before.text) & content(each.question)
        assert before.text.casefold() != each.question.removeprefix("And ").casefold()


def test_the_model_s_questions_must_lead_back(pipeline: Pipeline, scripted: Any) -> None:
    texts = {"tools.md": ["The drill press runs at 2800 rpm without any load at all."]}
    lost = scripted("Who was the first emperor of Rome?\n")
    assert not list(questions.by_model(texts, lost, pipeline, 1))
    assert not list(questions.by_model(texts, scripted("It runs."), pipeline, 1))
    texts = {"tools.md": ["The saw was bought in March 2024 from Osgood Brothers."]}
    good = scripted("When was the saw bought?\n\nAnother")
    (found,) = questions.by_model(texts, good, pipeline, 1)
    assert (found.question, found.kind) == ("When was the saw bought?", "model")
    assert found.answer in "The saw was bought in March 2024 from Osgood Brothers."
