from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.cases import GoldenCase, PageRef
from eval.rows import Row, Shown
from finetune import compose, examples, feedback
from finetune.compose import Serving
from finetune.examples import QAExample, Split
from finetune.questions import Question
from rag_bot import prompt
from rag_bot.answer import Pipeline
from rag_bot.types import OMITTED


def made(pipeline: Pipeline, *asked: Question, **how: Any) -> list[QAExample]:
    found = compose.compose(asked, Serving(pipeline, how.get("home", {})))
    return [each.example for some in found for each in some]


def learned(rows: Sequence[dict[str, Any]], home: dict[str, Split]) -> list[QAExample]:
    return [each for row in rows if (each := feedback.of_feedback(row, home))]


def test_feedback_teaches_what_a_person_said(pipeline: Pipeline) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")
    right = next(source for source in sources if source.document == "lease.md")
    answer = Answer(
        "Rent?", "How much is the rent?", "EUR 120 [1]", sources, (), (), False, "", "m"
    )
    row = {"created_at": 1.0, "question": "Rent?", "answer": jsonable(answer), "correction": ""}
    liked, corrected = learned(
        [
            row | {"thumb": 1},
            row | {"thumb": -1},
            row | {"thumb": -1, "correction": "The rent is EUR 2,400 a month.", "created_at": 2.0},
        ],
        {right.document: "train"},
    )
    assert (liked.answer, liked.rejected) == ("EUR 120 [1]", "")
    assert corrected.answer == f"The rent is EUR 2,400 a month. [{right.marker}]"
    assert corrected.rejected == "EUR 120 [1]"
    assert liked.messages == prompt.build("How much is the rent?", sources)
    nothing = jsonable(replace(answer, text="I found no answer.", abstained=True))
    praised, mended = learned(
        [
            row | {"answer": nothing, "thumb": 1},
            row | {"answer": nothing, "thumb": 1, "correction": "EUR 2,400"},
        ],
        {},
    )
    assert (praised.answer, praised.rejected) == (prompt.NO_ANSWER, "")
    assert (mended.answer, mended.rejected) == (f"EUR 2,400 [{right.marker}]", prompt.NO_ANSWER)


def test_feedback_teaches_no_frame_of_codes_and_nothing_that_no_source_bears_out(
    pipeline: Pipeline,
) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")
    text = (
        "The documents say: “The rent is EUR 2,400 a month.” [1]\n\n"
        "The documents say: “It is paid [3] to “Dunmore” Estates.” [1]"
    )
    answer = Answer("Rent?", "Rent?", text, sources, (), (), False, "", "m")
    row = {"created_at": 1.0, "question": "Rent?", "answer": jsonable(answer), "thumb": 1}
    (told,) = learned([row | {"correction": ""}], {})
    assert told.answer == (
        "The rent is EUR 2,400 a month. [1]\n\nIt is paid [3] to “Dunmore” Estates. [1]"
    )
    assert not learned([row | {"correction": "Zebras graze."}], {})
    (nothing,) = learned([row | {"correction": prompt.NO_ANSWER}], {})
    assert (nothing.answer, nothing.answerable) == (prompt.NO_ANSWER, False)


def test_feedback_belongs_to_the_split_of_the_document_that_it_cites(pipeline: Pipeline) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")
    second = sources[1].document
    assert second != sources[0].document
    answer = Answer("Q?", "Q?", "It is so [2]", sources, (), (), False, "", "m")
    row = {"created_at": 1.0, "question": "Q?", "answer": jsonable(answer), "correction": ""}
    (told,) = learned([row | {"thumb": 1}], {second: "test"})
    assert (told.document_id, told.split) == (second, "test")


def test_feedback_is_learned_with_the_numbers_of_its_prompt(pipeline: Pipeline) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")[:2]
    second = sources[1].document
    numbered = (sources[0], replace(sources[1], marker=5))
    answer = Answer("Q?", "Q?", "It is so [5], not so [3]", numbered, (), (), False, "", "m")
    row = {"created_at": 1.0, "question": "Q?", "correction": "", "thumb": 1}
    rows = [
        row | {"answer": jsonable(each)}
        for each in (answer, replace(answer, parts=("Q", "R")), replace(answer, model_id=""))
    ]
    (told,) = learned(rows, {second: "test"})
    assert told.answer == "It is so [2], not so"
    assert (told.document_id, told.split) == (second, "test")
    (mended,) = learned([rows[0] | {"thumb": -1, "correction": "Thus [5]"}], {})
    assert (mended.answer, mended.rejected) == ("Thus [2]", "It is so [2], not so")


def test_what_people_preferred_is_told_over_the_sources_of_today(pipeline: Pipeline) -> None:
    case = GoldenCase("r", "How much is the rent?", ("EUR 2,400",), (PageRef("lease.md", 1),))
    sources = pipeline.sources(case.question)
    right = next(source for source in sources if source.document == "lease.md")

    cut = OMITTED.join([right.chunk.text[:30].strip(), right.chunk.text[40:90].strip()])

    def row(answer: str, **fields: Any) -> Row:
        document, text = fields.pop("document", "lease.md"), fields.pop("text", cut)
        then = (Shown(7, "x", document, 1, 0.5, text),)
        defaults = {"answered": True, "prompt_sha256": "ab"} | fields
        return Row(case, answer=answer, sources=then, **defaults)

    def told(better: Row, worse: Row, **home: examples.Split) -> list[compose.Made]:
        judged = [(better, worse)]
        home = {f"{name}.md": split for name, split in home.items()}
        return list(feedback.of_preferred(judged, Serving(pipeline, home)))

    (one,) = told(row("EUR 2,400 [7]"), row("I found nothing.", abstained=True))
    assert one.example.answer == f"EUR 2,400 [{right.marker}]"
    assert one.example.rejected == prompt.NO_ANSWER
    assert one.example.document_id == "lease.md"
    assert one.origins
    assert one.example.messages == prompt.build(case.question, one.example.numbered)
    good = row("EUR 2,400 [7]")
    assert told(row("EUR 2,400 [7]", text="Another text."), row("No.")) == []
    assert told(good, row("No.", prompt_sha256="")) == []  # in parts
    assert told(good, row("No.", document="gone.md")) == []
    assert told(good, row("No.", document="cars.md"), cars="test") == []
    (one,) = told(good, row("75 litres [7]", document="cars.md", text="The van takes 75 litres"))
    assert "cars.md" in {Path(origin.source).name for origin in one.origins}


def test_what_the_reader_was_least_sure_of_is_asked_of_a_person_next(pipeline: Pipeline) -> None:
    asked = [
        Question("lease.md", "How much is the rent?", "EUR 2,400", "EUR 2,400 a month"),
        Question("tools.md", "How fast is the drill press?", "2800 rpm", "runs at 2800 rpm"),
        Question("cars.md", "When is the inspection due?", "June 2027", "due in June 2027"),
        Question("cars.md", "How much is the fee of the barn?"),
    ]
    found = [e for e in made(pipeline, *asked, home={"cars.md": "test"}) if e.kind != "removed"]
    ranked = feedback.least_sure(found, 5)
    assert {question for _, question in ranked} == {each.question for each in asked[:2]}
    assert ranked == sorted(ranked)
    assert feedback.least_sure(found, 1) == ranked[:1]
