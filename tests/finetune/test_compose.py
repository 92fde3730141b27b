from pathlib import Path
from typing import Any

import pytest

from finetune import compose, examples
from finetune.compose import Serving
from finetune.examples import QAExample
from finetune.questions import Question
from rag_bot import prompt
from rag_bot.answer import Pipeline
from rag_bot.types import Message
from tests.finetune.conftest import PAGES


def made(pipeline: Pipeline, *asked: Question, **how: Any) -> list[QAExample]:
    found = compose.compose(asked, Serving(pipeline, how.get("home", {})))
    return [each.example for some in found for each in some]


def test_the_right_source_is_marked_wherever_it_stands(pipeline: Pipeline) -> None:
    asked = [
        Question(
            "lease.md", "How much is the rent?", "EUR 2,400", "The rent is EUR 2,400 a month."
        ),
        Question("travel.md", "Who books flights?", "Mara Lind", "booked by Mara Lind"),
        Question("cars.md", "How much diesel goes into the van?", "75 litres", "75 litres"),
    ] * 4
    found = [each for each in made(pipeline, *asked) if each.kind == "own"]
    assert len(found) == len(asked)
    for each in found:
        said, _, rest = each.answer.rpartition(" [")
        marker = int(rest.rstrip("]"))
        right = each.numbered[marker - 1]
        assert right.document == each.document_id
        assert said in right.excerpt
        assert len(each.sources) > 1
    assert len({each.answer[-2] for each in found}) > 1  # not always the first


def test_without_its_source_nothing_is_to_be_said(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "REMOVED", 1.0)
    asked = Question("cars.md", "When is the inspection due?", "June 2027", "due in June 2027")
    answered, removed = made(pipeline, asked)
    assert (answered.answerable, removed.answerable) == (True, False)
    assert removed.answer == prompt.NO_ANSWER
    assert removed.kind == "removed"
    assert removed.sources
    assert all("June 2027" not in each.text for each in removed.sources)


def test_a_follow_up_is_asked_as_the_pipeline_would_search_for_it(pipeline: Pipeline) -> None:
    history = (Message("user", "How much is the rent?"), Message("assistant", "EUR 2,400"))
    asked = Question(
        "lease.md", "And to whom is it paid?", "Dunmore Estates", "Dunmore Estates", "x", history
    )
    (each, *_) = made(pipeline, asked)
    assert each.question == pipeline.query(asked.question, history) != asked.question


def test_no_document_for_testing_is_shown_in_what_is_taught(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "REMOVED", 1.0)
    home: dict[str, examples.Split] = dict.fromkeys(PAGES, "train") | {"cars.md": "test"}
    of_train = Question("lease.md", "When is the rent due?", "EUR 2,400", "EUR 2,400 a month")
    of_test = Question("cars.md", "When is the inspection due?", "June 2027", "due in June 2027")
    asked = [of_train, of_test]
    free = made(pipeline, *asked)
    assert any(s.document == "cars.md" for e in free[:2] for s in e.sources)
    kept = made(pipeline, *asked, home=home)
    taught = [each for each in kept if each.split == "train"]
    assert len(taught) == 2
    assert all(s.document != "cars.md" for e in taught for s in e.sources)
    assert len(taught[0].sources) == len(free[0].sources)  # others come in its place
    assert any(s.document == "cars.md" for e in kept if e.split == "test" for s in e.sources)
    ((lesson,), _) = compose.readings(asked, Serving(pipeline, home))
    assert "Its inspection is due" not in " ".join(lesson.lesson.wrong)


def test_an_answer_that_is_not_shown_is_no_example(pipeline: Pipeline) -> None:
    asked = Question("cars.md", "What colour is the van?", "green", "The van is green.")
    assert list(compose.compose([asked], Serving(pipeline, {}))) == [[]]


def test_what_should_not_be_said_is_another_source_or_nothing(pipeline: Pipeline) -> None:
    asked = [
        Question("lease.md", "How much is the rent?", "EUR 2,400", "The rent is EUR 2,400 a month.")
    ] * 20
    worse = {each.rejected for each in made(pipeline, *asked) if each.answerable}
    assert prompt.NO_ANSWER in worse
    assert len(worse) > 1
    assert all("EUR 2,400" not in each for each in worse)
    near = Question("lease.md", "How much is the rent of the barn?", kind="near_miss")
    (none,) = made(pipeline, near)
    assert none.rejected.endswith("]")


def test_the_reader_is_taught_the_right_passage_among_wrong_ones(pipeline: Pipeline) -> None:
    asked = [
        Question(
            "lease.md", "How much is the rent?", "EUR 2,400", "The rent is EUR 2,400 a month."
        ),
        Question("lease.md", "How much is the rent of the barn?", kind="near_miss"),
        Question("lease.md", "Who lives there?", "Nobody", "Nobody lives there."),
    ]
    (rent,), (barn,), none = compose.readings(asked, Serving(pipeline, {}))
    assert none == []
    assert rent.lesson.passage[slice(*rent.lesson.span or (0, 0))] == "EUR 2,400"
    assert "Lease" in rent.lesson.header or "lease" in rent.lesson.header
    assert rent.lesson.wrong
    assert all("EUR 2,400" not in text for text in rent.lesson.wrong)
    assert set(rent.lesson.wrong) < set(rent.headers)
    assert (barn.lesson.answerable, barn.lesson.span) == (False, None)
    assert {Path(origin.source).suffix for origin in rent.origins} == {".md"}


def test_the_reader_is_taught_the_words_of_the_quote_not_the_same_words_before_it(
    pipeline: Pipeline,
) -> None:
    asked = [
        Question(
            "holidays.md",
            "Until which day of March may days be carried over?",
            "a",
            "may be carried over until 31 March.",
        )
    ]
    ((lesson,),) = compose.readings(asked, Serving(pipeline, {}))
    assert lesson.lesson.span
    start = lesson.lesson.span[0]
    assert lesson.lesson.passage[start - 1 : start + 5] == "may be"
