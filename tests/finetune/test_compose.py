import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from eval import bench
from eval.bench import Engines
from eval.cases import GoldenCase, PageRef
from eval.rows import Row, Shown
from finetune import compose, examples, loop, promotion, registry
from finetune.compose import Question
from finetune.examples import QAExample
from rag_bot import prompt
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.index import Index
from rag_bot.read import MiniReader
from rag_bot.types import OMITTED, Message
from rag_bot.words import content

FORMS = (
    "\nForm FM-{0} is kept for {0} years. Form FN-{0} costs EUR {0}."
    " The box BX-{0} holds {0} forms.\n"
)
PAGES = {
    "lease.md": "# Lease\n\nThe lease begins on 1 April 2026. The rent is EUR 2,400 a month. It is"
    " paid to Dunmore Estates on the first working day.\n\nThe tenant pays for:\n\n- heating oil\n"
    "- window cleaning\n- the fire alarm\n",
    "travel.md": "# Travel\n\nA hotel may cost EUR 120 a night. Receipts are handed in within 14"
    " days. Flights are booked by Mara Lind in the office.\n",
    "tools.md": "# Tools\n\nThe drill press runs at 2800 rpm. Safety glasses are worn in the"
    " workshop. The saw was bought in March 2024 from Osgood Brothers.\n",
    "holidays.md": "# Holidays\n\nEverybody has 30 days of holiday a year. Five days may be carried"
    " over until 31 March. Requests go to Ines Falk.\n",
    "cars.md": "# Cars\n\nThe van takes 75 litres of diesel. Its inspection is due in June 2027."
    " The key hangs in room 12.\n",
}

PAGES = {name: text + FORMS.format(20 + n) for n, (name, text) in enumerate(PAGES.items())}


@pytest.fixture(scope="module")
def pipeline(
    tmp_path_factory: pytest.TempPathFactory,
    embedder: Embedder,
    reader: MiniReader,
    scripted: Any,
) -> Iterator[Pipeline]:
    from rag_bot import config

    folder = tmp_path_factory.mktemp("compose")
    docs = folder / "docs"
    docs.mkdir()
    for name, text in PAGES.items():
        (docs / name).write_text(text, "utf-8")
    settings = config.load(flags={"data_dir": folder / "data"}, environ={}).settings
    loaded = Engines(lambda: embedder, lambda: scripted(), lambda: reader)
    with bench.over([docs], settings, loaded, bench.quiet, folder / "index") as made:
        yield made


def made(pipeline: Pipeline, *asked: Question, **how: Any) -> list[QAExample]:
    found = compose.compose(asked, pipeline, how.get("home", {}), pipeline.generator(), 0)
    return [each.example for some in found for each in some]


def test_questions_come_in_kinds_and_their_quotes_are_in_their_documents() -> None:
    found = compose.questions({name: [text] for name, text in PAGES.items()}, 60, seed=1)
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


def test_a_follow_up_is_about_what_was_spoken_of() -> None:
    found = compose.questions({name: [text] for name, text in PAGES.items()}, 100, seed=1)
    followed = [each for each in found if each.kind == "follow_up"]
    assert followed
    for each in followed:
        (before, _) = each.history
        assert content(before.text) & content(each.question)
        assert before.text.casefold() != each.question.removeprefix("And ").casefold()


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
    ((lesson,), _) = compose.readings(asked, pipeline, home)
    assert "Its inspection is due" not in " ".join(lesson.lesson.wrong)


def test_an_answer_that_is_not_shown_is_no_example(pipeline: Pipeline) -> None:
    asked = Question("cars.md", "What colour is the van?", "green", "The van is green.")
    assert list(compose.compose([asked], pipeline, {}, pipeline.generator())) == [[]]


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


def test_the_model_s_questions_must_lead_back(pipeline: Pipeline, scripted: Any) -> None:
    texts = {"tools.md": ["The drill press runs at 2800 rpm without any load at all."]}
    lost = scripted("Who was the first emperor of Rome?\n")
    assert not list(compose.asked_by_model(texts, lost, pipeline, 1))
    assert not list(compose.asked_by_model(texts, scripted("It runs."), pipeline, 1))
    texts = {"tools.md": ["The saw was bought in March 2024 from Osgood Brothers."]}
    good = scripted("When was the saw bought?\n\nAnother")
    (found,) = compose.asked_by_model(texts, good, pipeline, 1)
    assert (found.question, found.kind) == ("When was the saw bought?", "model")
    assert found.answer in "The saw was bought in March 2024 from Osgood Brothers."


def test_the_reader_is_taught_the_right_passage_among_wrong_ones(pipeline: Pipeline) -> None:
    asked = [
        Question(
            "lease.md", "How much is the rent?", "EUR 2,400", "The rent is EUR 2,400 a month."
        ),
        Question("lease.md", "How much is the rent of the barn?", kind="near_miss"),
        Question("lease.md", "Who lives there?", "Nobody", "Nobody lives there."),
    ]
    (rent,), (barn,), none = compose.readings(asked, pipeline, {})
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
    ((lesson,),) = compose.readings(asked, pipeline, {})
    assert lesson.lesson.span
    start = lesson.lesson.span[0]
    assert lesson.lesson.passage[start - 1 : start + 5] == "may be"


@pytest.mark.parametrize("better", [True, False])
def test_what_is_better_goes_live_and_what_is_not_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    verdict = promotion.Verdict(
        better, "" if better else "worse", "F1", 0.1, 0.3, 0.1, 0.3, 0.01, 40, "g", "", ""
    )
    told: list[str] = []
    monkeypatch.setattr(loop, "measure", lambda *_: iter([verdict]))
    monkeypatch.setattr(registry, "promote", lambda _settings, name: told.append(name))
    place = settings.data_dir / "adapters" / "new"
    assert list(loop._decided(place, cast("Any", None), cast("Any", None), settings)) == [verdict]
    assert told == (["new"] if better else [])


def test_a_reader_is_trained_on_documents_judged_and_kept_from_serving_until_it_is_better(
    pipeline: Pipeline, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune import registry
    from rag_bot import read

    monkeypatch.setattr(examples, "FEWEST", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, text in PAGES.items():
        (docs / name).write_text(text, "utf-8")
    wanted = loop.Wanted(count=20, cases=4)
    *_, card = loop.learn_reader(docs, settings, wanted, bench.quiet)
    assert isinstance(card, registry.Card)
    assert card.kind == "reader"
    assert card.verdict["against"] == registry.against(settings, "reader")
    entry = registry.entry(settings, card.id)
    assert (read.located(settings) == entry.folder) == bool(card.verdict["passed"])
    trained = MiniReader(entry.folder, settings)
    shipped = MiniReader(read.SHIPPED, settings)
    assert trained.calibration == shipped.calibration
    assert trained.model_id != shipped.model_id


def test_feedback_teaches_what_a_person_said(pipeline: Pipeline) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")
    right = next(source for source in sources if source.document == "lease.md")
    answer = Answer(
        "Rent?", "How much is the rent?", "EUR 120 [1]", sources, (), (), False, "", "m"
    )
    row = {"created_at": 1.0, "question": "Rent?", "answer": jsonable(answer), "correction": ""}
    liked, corrected = compose.of_feedback(
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
    praised, mended = compose.of_feedback(
        [
            row | {"answer": nothing, "thumb": 1},
            row | {"answer": nothing, "thumb": 1, "correction": "EUR 2,400"},
        ],
        {},
    )
    assert (praised.answer, praised.rejected) == (prompt.NO_ANSWER, "")
    assert (mended.answer, mended.rejected) == (f"EUR 2,400 [{right.marker}]", prompt.NO_ANSWER)


def test_feedback_belongs_to_the_split_of_the_document_that_it_cites(pipeline: Pipeline) -> None:
    from rag_bot.jsonable import jsonable
    from rag_bot.types import Answer

    sources = pipeline.sources("How much is the rent?")
    second = sources[1].document
    assert second != sources[0].document
    answer = Answer("Q?", "Q?", "It is so [2]", sources, (), (), False, "", "m")
    row = {"created_at": 1.0, "question": "Q?", "answer": jsonable(answer), "correction": ""}
    (told,) = compose.of_feedback([row | {"thumb": 1}], {second: "test"})
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
    (told,) = compose.of_feedback(rows, {second: "test"})
    assert told.answer == "It is so [2], not so"
    assert (told.document_id, told.split) == (second, "test")
    (mended,) = compose.of_feedback([rows[0] | {"thumb": -1, "correction": "Thus [5]"}], {})
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
        return list(compose.of_preferred(judged, pipeline, home, pipeline.generator()))

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
    ranked = compose.least_sure(found, 5)
    assert {question for _, question in ranked} == {each.question for each in asked[:2]}
    assert ranked == sorted(ranked)
    assert compose.least_sure(found, 1) == ranked[:1]


def test_examples_are_written_with_their_lineage_and_a_deletion_takes_them_out(
    pipeline: Pipeline, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "out" / "examples.jsonl"
    *progress, written = loop.write_examples(pipeline, file, settings, loop.Wanted(count=40))
    assert isinstance(written, loop.Written)
    assert progress[-1].done == progress[-1].total
    found = examples.read(file)
    assert found == written.examples
    assert len(found) >= 15
    assert {each.split for each in found} == {"train", "validation", "test"}
    assert "training examples" in file.with_suffix(".html").read_text("utf-8")
    from ingest.lineage import take_out_rows
    from rag_bot.ledger import Origin

    gone = random.Random(0).choice(found).origins[0]
    with Index(settings.data_dir) as index:
        index.ledger.erase(settings.collection, Origin(*gone), twin_lives=False)
        assert not take_out_rows(index.ledger)
    assert not file.with_suffix(".html").exists()
    left = examples.read(file)
    assert left == [each for each in found if gone not in each.origins]
    assert len(left) < len(found)


def test_golden_questions_are_not_taught_and_judges_come_from_held_out_documents(
    pipeline: Pipeline, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "FEWEST", 1)
    wanted = loop.Wanted(count=40, cases=10)
    golden = loop.write_golden(pipeline, tmp_path / "golden.jsonl", settings, wanted)
    home = examples.splits(bench.pages(pipeline))
    assert {home[case.group] for case in golden.cases} == {"test"}
    *_, written = loop.write_examples(
        pipeline, tmp_path / "e.jsonl", settings, wanted, judged_by=golden
    )
    asked = {case.question for case in golden.cases}
    assert not asked & {each.question for each in written.examples}
