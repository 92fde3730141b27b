"""Runs over a real small index, with a generator that knows a few answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval import bench, cases, run, score
from eval.cases import GoldenCase, GoldenSet, PageRef
from eval.judge import Judge
from eval.rows import Row
from eval.run import Plan
from ingest import sync
from ingest.delete import delete
from ingest.lineage import COPIES, take_out_rows
from rag_bot import config
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Prepared
from rag_bot.config import Settings
from rag_bot.database import Database
from rag_bot.errors import ModelBroken, UsageError
from rag_bot.index import CATALOGUE, Index, fingerprint
from rag_bot.ledger import Ledger, Origin
from rag_bot.types import Finished, Message
from tests.conftest import drafts_here

LEAVE = "Full-time employees have 28 days of paid leave.  Unused leave\nexpires on 31 March."
PUMP = "The pump delivers 4.5 bar at 60 litres a minute. It was built by Vortex in Lyon."
LEASE = "The lease of the office ends on 31 March 2031. The rent is due each quarter."
DAYS = "How many days of paid leave do full-time employees have?"
BAR = "What pressure does the pump deliver in bar?"
END = "When does the lease of the office end?"
VOLCANO = "Which planet has the largest volcano?"
BUILT = "Who built it?"
SAID = {
    DAYS: "Full-time employees have 28 days of paid leave [1].",
    BAR: "The pump delivers 4.5 bar at 60 litres a minute.",
    END: "The lease ends on 30 June 2029.",
}
GOLDEN = (
    GoldenCase(
        "days", DAYS, ("28 days",), (PageRef("leave.txt", 2, "Unused leave expires"),), tags=("a",)
    ),
    GoldenCase("bar", BAR, ("4.5 bar", "4,5 bar"), (PageRef("pump.txt", 1, "delivers 5 bar"),)),
    GoldenCase("volcano", VOLCANO, (), (), answerable=False),
    GoldenCase("end", END, ("31 March 2031",), (PageRef("lease.txt", None, "31 March 2031"),)),
    GoldenCase(
        "built",
        BUILT,
        ("Vortex",),
        (PageRef("pump.txt", 1),),
        history=(Message("user", "Which pump is in the cellar?"), Message("assistant", "One.")),
    ),
)

Steps = list[run.Step]
Make = Callable[..., Pipeline]


@pytest.fixture(scope="module", autouse=True)
def commit() -> Iterator[None]:
    """The source tree is asked for its commit once: somebody may be working in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_commit", cache(run._commit))
        yield


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """The embedder's folder is read on every search; that of a fake one has little to read."""
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"words": np.zeros(1, np.float32)}, folder / "model.safetensors")
    embedder = settings.models.model_copy(update={"embedder": str(folder)})
    return settings.model_copy(update={"models": embedder})


@pytest.fixture
def golden(tmp_path: Path) -> GoldenSet:
    cases.write(tmp_path / "golden.jsonl", GOLDEN)
    return cases.read(tmp_path / "golden.jsonl")


@pytest.fixture
def pipeline(settings: Settings, index: Index, word_embedder: Any, prepare: Any) -> Make:
    """A pipeline over three documents, for a generator and other settings."""
    docs = index.make_collection("default", fingerprint(settings))
    made: list[Prepared] = [
        prepare(docs, word_embedder, "/docs/leave.txt", "Staff handbook.", LEAVE),
        prepare(docs, word_embedder, "/docs/pump.txt", PUMP),
        prepare(docs, word_embedder, "/docs/lease.txt", LEASE),
    ]
    index.add(docs, made)

    def make(generator: Any, **sections: dict[str, Any]) -> Pipeline:
        changed = settings.model_copy(
            update={
                name: getattr(settings, name).model_copy(update=fields)
                for name, fields in sections.items()
            }
        )
        return Pipeline(changed, index, lambda: word_embedder, lambda: generator)

    return make


def never() -> Any:
    raise AssertionError("the model was asked for")


def untimed(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, timings={}) for row in rows]


def steps(plan: Plan, pipeline: Pipeline, folder: Path, judge: Judge | None = None) -> Steps:
    return list(run.run(plan, pipeline, "default", folder, judge))


def rows(plan: Plan, pipeline: Pipeline, folder: Path) -> dict[str, Row]:
    steps(plan, pipeline, folder)
    return {row.case.id: row for row in run.read(folder)[1]}


# A run


def test_every_case_is_asked_in_order_and_kept(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    seen = steps(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")
    record, kept = run.read(tmp_path / "out")
    assert [(step.done, step.total) for step in seen] == [(n, 5) for n in range(1, 6)]
    assert [step.row for step in seen] == kept
    assert [row.case for row in kept] == list(GOLDEN)
    assert not any(row.error for row in kept)
    assert (record.collection, record.documents, record.golden) == ("default", 3, "golden.jsonl")
    assert record.golden_sha256 == golden.sha256
    assert record.models["llm"] == "knowing:1"
    assert record.models["embedder"].startswith("words:")


def test_a_row_holds_what_the_pipeline_said(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    made = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")
    days = made["days"]
    assert days.query == DAYS
    assert days.answered
    assert not days.abstained
    assert days.draft == days.answer == f"{SAID[DAYS][:-5]}. [{days.citations[0].marker}]"
    assert [(each.document, each.page) for each in days.citations] == [("leave.txt", 2)]
    assert [(each.label, each.markers) for each in days.verdicts] == [
        ("supported", (days.citations[0].marker,))
    ]
    assert (days.ranking[0].document, days.ranking[0].page) == ("leave.txt", 2)
    assert len(days.ranking) == 4  # every chunk there is
    assert [each.marker for each in days.sources] == [1, 2, 3, 4]
    assert days.sources[0].text == LEAVE
    assert days.model_id == "knowing:1"
    assert days.tokens == len(days.draft.split())
    assert 0 < days.confidence <= 1
    assert {"retrieve", "generate", "total"} <= days.timings.keys()
    assert len(days.prompt_sha256) == 64
    assert score.correct(days)
    # The model is wrong about the lease, and the pipeline quotes the document instead.
    assert made["end"].draft == SAID[END]
    assert made["end"].answer.startswith("The documents say: “The lease of the office ends")
    assert score.correct(made["end"])
    # It is not even asked about what the documents do not touch.
    assert (made["volcano"].abstained, made["volcano"].reason) == (True, "no_evidence")
    assert (made["volcano"].prompt_sha256, made["volcano"].model_id) == ("", "")


def test_a_question_is_asked_with_its_history(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    built = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")["built"]
    assert built.query == "Who built it? (pump cellar)"
    assert built.ranking[0].document == "pump.txt"


def test_the_hash_is_of_the_prompt_that_the_model_was_sent(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    first = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "a")
    again = rows(Plan(golden), pipeline(knowing({})), tmp_path / "b")
    fewer = rows(Plan(golden), pipeline(knowing({}), retrieval={"top_k": 1}), tmp_path / "c")
    hashes = [{i: made[i].prompt_sha256 for i in made} for made in (first, again, fewer)]
    assert hashes[0] == hashes[1]
    asked = [i for i in hashes[0] if hashes[0][i]]
    assert len({hashes[0][i] for i in asked}) == len(asked) == 4
    assert all(hashes[0][i] != hashes[2][i] for i in asked)


def test_quotes_are_held_against_their_page_letter_for_letter(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    said = SAID | {DAYS: "Full-time employees have 28 days of paid leave. It expires on 31 March."}
    made = rows(Plan(golden), pipeline(knowing(said)), tmp_path / "out")
    quotes = [cited for row in made.values() for cited in row.citations]
    assert any("\n" in each.quote for each in quotes)
    assert all(each.verbatim for each in quotes)
    found = score.scores([*made.values()]).metrics["quotes_verbatim"]
    assert (found.mean, found.n) == (1, sum(bool(row.citations) for row in made.values()))


def test_a_quote_that_is_not_on_its_page_is_not_verbatim(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    """A citation whose quote or page is off by a little, as a broken chunker would make it."""
    whole = pipeline(knowing(SAID))

    class Off(Pipeline):
        def answer(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for event in super().answer(*args, **kwargs):
                if isinstance(event, Finished) and event.answer.citations:
                    (cited,) = event.answer.citations
                    wrong = (
                        cited,
                        replace(cited, page=cited.page + 1),
                        replace(cited, quote=cited.quote.lower()),
                        replace(cited, quote=""),
                    )
                    yield replace(event, answer=replace(event.answer, citations=wrong))
                else:
                    yield event

    off = Off(whole.settings, whole.index, whole.embedder, whole.generator)
    days = rows(Plan(golden), off, tmp_path / "out")["days"]
    assert [each.verbatim for each in days.citations] == [True, False, False, False]


def test_pages_that_lost_their_quote_are_missing_and_white_space_is_none(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    made = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")
    assert {i: row.missing for i, row in made.items() if row.missing} == {"bar": (0,)}


def wordy(model: Any) -> Any:
    """Three tokens a word: what fits a prompt is easily told."""

    class Wordy(model):  # type: ignore[misc]
        def count(self, text: str) -> int:
            return 3 * len(text.split())

    return Wordy


def test_what_had_no_room_in_the_prompt_is_cut(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    """The sources have 15 words or so each, with page and margin some 25; 100 are given."""

    small = pipeline(wordy(knowing)(SAID), generation={"context_tokens": 100})
    days = rows(Plan(golden), small, tmp_path / "out")["days"]
    shown, cut = ([each.marker for each in part] for part in (days.sources, days.cut))
    assert shown
    assert cut
    assert shown + cut == [1, 2, 3, 4]


def test_an_answer_about_many_documents_had_no_prompt_that_anything_is_cut_from(
    pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    asked = GoldenCase(
        "many", "Which documents mention leave?", ("leave.txt",), (PageRef("leave.txt", 2),)
    )
    plan = Plan(GoldenSet(tmp_path / "golden.jsonl", (asked,)))
    many = rows(plan, pipeline(knowing(SAID)), tmp_path / "out")["many"]
    assert many.answer
    assert (many.model_id, many.prompt_sha256) == ("", "")
    assert many.cut == ()


@pytest.mark.parametrize("second", [BAR, VOLCANO])
def test_of_an_answer_in_parts_what_is_cut_had_no_room_in_a_prompt(
    pipeline: Make, knowing: Any, tmp_path: Path, second: str
) -> None:
    """A part that is not answered may not have been prompted: its sources were not cut."""

    asked = GoldenCase("two", f"{DAYS} {second}", ("28 days",), (PageRef("leave.txt", 2),))
    plan = Plan(GoldenSet(tmp_path / "golden.jsonl", (asked,)))
    small = pipeline(wordy(knowing)(SAID), generation={"context_tokens": 100})
    two = rows(plan, small, tmp_path / "out")["two"]
    assert "28 days" in two.answer
    assert len(two.sources) < 4
    assert bool(two.cut) == (second == BAR)


def test_retrieval_alone_needs_no_model(golden: GoldenSet, pipeline: Make, tmp_path: Path) -> None:
    whole = pipeline(None, retrieval={"top_k": 2})
    bare = Pipeline(whole.settings, whole.index, whole.embedder, never)
    made = rows(Plan(golden, answers=False), bare, tmp_path / "out")
    assert not any(row.answered or row.error for row in made.values())
    assert [len(made["days"].ranking), len(made["days"].sources)] == [4, 2]
    assert made["built"].query == "Who built it? (pump cellar)"
    assert made["bar"].missing == (0,)
    assert made["days"].timings.keys() == {"retrieve", "total"}
    found = score.scores([*made.values()]).metrics
    assert found["recall@1"].mean == 1
    assert "accuracy" not in found
    assert run.read(tmp_path / "out")[0].models["llm"] == ""


def test_retrieval_alone_ranks_as_answering_does(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    bare = rows(Plan(golden, answers=False), pipeline(None), tmp_path / "a")
    whole = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "b")
    assert {i: row.ranking for i, row in bare.items()} == {
        i: row.ranking for i, row in whole.items()
    }


def test_the_filters_of_a_question_hold_for_its_whole_ranking(
    pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    case = GoldenCase("only", f"{BAR} in:pump.txt", ("4.5 bar",), (PageRef("pump.txt", 1),))
    cases.write(tmp_path / "scoped.jsonl", [case])
    golden = cases.read(tmp_path / "scoped.jsonl")
    for answers in (False, True):
        made = rows(Plan(golden, answers=answers), pipeline(knowing(SAID)), tmp_path / str(answers))
        assert {hit.document for hit in made["only"].ranking} == {"pump.txt"}


def test_the_reference_is_weighed_where_the_generator_can(
    golden: GoldenSet, pipeline: Make, weighing: Any, knowing: Any, tmp_path: Path
) -> None:
    plan = Plan(golden, perplexity=True)
    made = rows(plan, pipeline(weighing(SAID)), tmp_path / "a")
    # Half a nat for each word of the first reference.
    weighed = [row.reference_nll for row in made.values()]
    assert weighed == [1.0, 1.0, None, 1.5, 0.5]
    found = score.scores([*made.values()]).metrics["perplexity"]
    assert found.mean == pytest.approx(math.e)  # the four have a mean of 1
    unasked = rows(Plan(golden), pipeline(weighing(SAID)), tmp_path / "b")
    unable = rows(plan, pipeline(knowing(SAID)), tmp_path / "c")
    for other in (unasked, unable):
        assert {row.reference_nll for row in other.values()} == {None}
        assert not any(row.error for row in other.values())


def test_a_judge_is_heard_about_answers_and_its_name_is_kept(
    golden: GoldenSet, pipeline: Make, knowing: Any, scripted: Any, tmp_path: Path
) -> None:
    judge = Judge(scripted("Yes."), tmp_path / "judged.jsonl")
    steps(Plan(golden), pipeline(knowing(SAID)), tmp_path / "a", judge)
    record, kept = run.read(tmp_path / "a")
    assert record.judge == "scripted:1"
    assert [row.judged_right for row in kept] == [True] * 5
    steps(Plan(golden, answers=False), pipeline(None), tmp_path / "b", judge)
    assert {row.judged_right for row in run.read(tmp_path / "b")[1]} == {None}


def test_so_many_cases_are_drawn_as_were_asked_for(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    plan = Plan(golden, limit=3, seed=5)
    made = rows(plan, pipeline(knowing(SAID)), tmp_path / "out")
    assert [row.case for row in made.values()] == plan.cases == cases.sample(GOLDEN, 3, 5)
    assert (len(made), run.read(tmp_path / "out")[0].limit) == (3, 3)


def test_a_row_goes_with_a_document_that_is_erased(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path, index: Index
) -> None:
    """Each of these rows was made of the one page that it was shown."""
    rows(Plan(golden), pipeline(knowing(SAID), retrieval={"top_k": 1}), tmp_path / "out")
    docs = index.catalogue.collection("default")
    assert docs
    (leave,) = [each for each in index.catalogue.entries(docs) if "leave" in each.source]
    index.ledger.erase("default", Origin(leave.source, leave.sha256), twin_lives=False)
    assert take_out_rows(index.ledger) == []
    kept = run.read(tmp_path / "out")[1]
    assert "days" not in {row.case.id for row in kept}
    assert {"bar", "end", "built"} <= {row.case.id for row in kept}
    assert LEAVE not in (tmp_path / "out" / run.ROWS).read_text("utf-8")


def test_a_row_goes_with_a_document_that_its_case_quotes(
    pipeline: Make, knowing: Any, tmp_path: Path, index: Index
) -> None:
    asked = [
        GoldenCase(quote or "plain", BAR, ("4.5 bar",), (PageRef("lease.txt", 1, quote),))
        for quote in ("The rent is due", "")
    ]
    plan = Plan(GoldenSet(tmp_path / "golden.jsonl", tuple(asked)))
    made = rows(plan, pipeline(knowing(SAID), retrieval={"top_k": 1}), tmp_path / "out")
    assert {each.document for row in made.values() for each in row.sources} == {"pump.txt"}
    docs = index.catalogue.collection("default")
    assert docs
    (lease,) = [each for each in index.catalogue.entries(docs) if "lease" in each.source]
    index.ledger.erase("default", Origin(lease.source, lease.sha256), twin_lives=False)
    assert take_out_rows(index.ledger) == []
    assert [row.case.id for row in run.read(tmp_path / "out")[1]] == ["plain"]


def test_no_row_is_written_before_it_is_known_what_it_was_made_of(
    golden: GoldenSet,
    pipeline: Make,
    knowing: Any,
    tmp_path: Path,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kill between the two would leave a row that no deletion finds."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(index.ledger), "record_lineage", killed)
    with pytest.raises(KeyboardInterrupt):
        steps(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")
    assert run.read(tmp_path / "out")[1] == []


# Twice, and after a kill


def test_two_runs_have_the_same_rows_and_the_same_metrics(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    for name in "ab":
        steps(Plan(golden), pipeline(knowing(SAID)), tmp_path / name)
    (first, a), (second, b) = (run.read(tmp_path / name) for name in "ab")
    assert first == second
    assert untimed(a) == untimed(b)
    assert score.to_json(score.scores(a)) == score.to_json(score.scores(b))


def test_a_killed_run_goes_on_where_it_was(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    whole = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "whole")
    out = tmp_path / "killed"
    begun = run.run(Plan(golden), pipeline(knowing(SAID)), "default", out)
    assert [step.row.case.id for step in islice(begun, 2)] == ["days", "bar"]
    begun.close()  # type: ignore[attr-defined]
    assert [row.case.id for row in run.read(out)[1]] == ["days", "bar"]
    # The kill came in the middle of a line.
    with (out / run.ROWS).open("a") as stream:
        stream.write('{"case": {"id": "vol')

    later = knowing(SAID)
    seen = steps(Plan(golden), pipeline(later), out)
    assert [step.done for step in seen] == [1, 2, 3, 4, 5]
    assert [asked.partition(" (")[0] for asked in later.asked] == [END, BUILT]
    after = run.read(out)[1]
    assert untimed(after) == untimed([*whole.values()])
    assert (out / run.ROWS).read_text("utf-8").count("\n") == 5


def test_a_run_killed_before_its_first_row_begins_again(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID)), out)
    (out / run.ROWS).unlink()
    with pytest.raises(UsageError, match="has no rows yet"):
        run.read(out)
    assert len(rows(Plan(golden), pipeline(knowing(SAID)), out)) == 5


def test_a_finished_run_is_not_asked_again(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    first = steps(Plan(golden), pipeline(knowing(SAID)), tmp_path / "out")
    bytes_ = (tmp_path / "out" / run.ROWS).read_bytes()
    later = knowing(SAID)
    assert steps(Plan(golden), pipeline(later), tmp_path / "out") == first
    assert later.asked == []
    assert (tmp_path / "out" / run.ROWS).read_bytes() == bytes_


# What goes wrong


def test_a_model_that_breaks_on_a_case_costs_that_case(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    whole = rows(Plan(golden), pipeline(knowing(SAID)), tmp_path / "whole")
    made = rows(Plan(golden), pipeline(knowing(SAID, broken=[BAR])), tmp_path / "out")
    assert {i: row.error for i, row in made.items() if row.error} == {
        "bar": "RuntimeError: out of memory"
    }
    assert (made["bar"].answered, made["bar"].answer) == (False, "")
    assert made["bar"].timings.keys() == {"total"}
    others = [row for i, row in made.items() if i != "bar"]
    assert untimed(others) == untimed([row for i, row in whole.items() if i != "bar"])
    found = score.scores([*made.values()])
    assert (found.cases, found.failed, found.metrics["accuracy"].n) == (5, 1, 4)


def test_a_case_that_failed_is_asked_again(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID, broken=[BAR])), out)
    mended = knowing(SAID)
    made = rows(Plan(golden), pipeline(mended), out)
    assert mended.asked == [BAR]
    assert [row.case for row in made.values()] == list(GOLDEN)
    assert not any(row.error for row in made.values())


def test_a_page_that_is_not_there_is_named_before_anything_is_asked(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    wrong = GoldenCase("late", "Who?", ("Ann",), (PageRef("pump.txt", 2),))
    cases.write(golden.path, [*GOLDEN, wrong])
    model = knowing(SAID)
    with pytest.raises(UsageError) as caught:
        steps(Plan(cases.read(golden.path), limit=1), pipeline(model), tmp_path / "out")
    assert caught.value.message == f"{golden.path}, line 6: pump.txt has 1 pages, not 2"
    assert caught.value.exit_status == 2
    assert model.asked == []
    assert not (tmp_path / "out").exists()


def test_pages_need_not_be_there_where_nobody_checks(
    golden: GoldenSet, pipeline: Make, tmp_path: Path
) -> None:
    wrong = GoldenCase("late", END, ("Ann",), (PageRef("gone.txt", 2, "Ann signs"),))
    plan = Plan(replace(golden, cases=(wrong,)), answers=False, check=False)
    late = rows(plan, pipeline(None), tmp_path / "out")["late"]
    assert (late.error, late.missing) == ("", (0,))
    assert score.PER_CASE["recall@5"].value(late) == 0


def test_a_collection_that_is_not_there_is_named(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no collection 'other'"):
        next(run.run(Plan(golden), pipeline(knowing(SAID)), "other", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_model_that_can_not_be_loaded_ends_the_run_before_it_begins(
    golden: GoldenSet, pipeline: Make, tmp_path: Path
) -> None:
    def broken() -> Any:
        raise ModelBroken("the LLM is cut short", "copy it again")

    whole = pipeline(None)
    other = Pipeline(whole.settings, whole.index, whole.embedder, broken)
    with pytest.raises(ModelBroken):
        steps(Plan(golden), other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("answers", [True, False])
def test_an_embedder_that_can_not_be_loaded_ends_the_run_before_it_begins(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path, answers: bool
) -> None:
    def broken() -> Any:
        raise ModelBroken("the embedder is cut short", "copy it again")

    whole = pipeline(knowing(SAID))
    other = Pipeline(whole.settings, whole.index, broken, whole.generator)
    with pytest.raises(ModelBroken):
        steps(Plan(golden, answers=answers), other, tmp_path / "out")


def test_a_request_that_fits_no_case_ends_the_run(
    golden: GoldenSet, pipeline: Make, tmp_path: Path, knowing: Any
) -> None:
    class Refusing(knowing):  # type: ignore[misc]
        def stream(self, messages: Sequence[Message]) -> Iterator[str]:
            raise UsageError("the endpoint knows no model 'gpt-9'", "check models.llm")

    with pytest.raises(UsageError, match="gpt-9"):
        steps(Plan(golden), pipeline(Refusing({})), tmp_path / "out")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"retrieval": {"top_k": 1}}, "settings was retrieval"),
        ({"generation": {"temperature": 0.5}}, "settings was generation"),
    ],
)
def test_a_folder_of_other_settings_is_refused_by_name(
    golden: GoldenSet,
    pipeline: Make,
    knowing: Any,
    tmp_path: Path,
    sections: dict[str, Any],
    said: str,
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID)), out)
    before = (out / run.ROWS).read_bytes()
    (changed,) = sections
    ((key, value),) = sections[changed].items()
    other = knowing(SAID)
    with pytest.raises(UsageError) as caught:
        steps(Plan(golden), pipeline(other, **sections), out)
    assert said in caught.value.message
    assert f"{key}" in caught.value.message
    assert f"{value!r}" in caught.value.message
    assert str(out) in caught.value.message
    assert "--out" in caught.value.remedy
    assert caught.value.exit_status == 2
    assert other.asked == []
    assert (out / run.ROWS).read_bytes() == before


def test_only_the_setting_that_differs_is_named(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID)), out)
    with pytest.raises(UsageError, match=r"retrieval\.top_k = 4, not 1 "):
        steps(Plan(golden), pipeline(knowing(SAID), retrieval={"top_k": 1}), out)


def test_a_folder_of_another_run_is_refused_by_name(
    golden: GoldenSet, pipeline: Make, knowing: Any, scripted: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID)), out)
    fewer = replace(golden, cases=golden.cases[1:])
    for plan, said in [
        (Plan(golden, limit=2), "its limit was None, not 2"),
        (Plan(golden, seed=1), "its seed was 0, not 1"),
        (Plan(golden, perplexity=True), "its perplexity was False, not True"),
        (Plan(fewer), "its golden_sha256 was "),
    ]:
        with pytest.raises(UsageError, match=said):
            steps(plan, pipeline(knowing(SAID)), out)
    with pytest.raises(UsageError, match="llm = 'knowing:1', not 'scripted:1'"):
        steps(Plan(golden), pipeline(scripted("Hm.")), out)


def test_a_document_that_changed_makes_another_run(
    golden: GoldenSet,
    pipeline: Make,
    knowing: Any,
    tmp_path: Path,
    index: Index,
    prepare: Any,
    word_embedder: Any,
) -> None:
    out = tmp_path / "out"
    steps(Plan(golden), pipeline(knowing(SAID)), out)
    docs = index.catalogue.collection("default")
    assert docs
    index.add(docs, [prepare(docs, word_embedder, "/docs/tax.txt", "Taxes are due in May.")])
    with pytest.raises(UsageError, match="its documents was 3, not 4"):
        steps(Plan(golden), pipeline(knowing(SAID)), out)


def test_where_things_lie_makes_no_other_run(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    """A run may be gone on with on another machine: with other folders, cores and ports."""
    whole = pipeline(knowing(SAID))
    steps(Plan(golden), whole, tmp_path / "out")
    elsewhere = whole.settings.model_copy(
        update={
            "data_dir": tmp_path / "elsewhere",
            "models": whole.settings.models.model_copy(update={"threads": 3, "endpoint_key": "k"}),
            "server": whole.settings.server.model_copy(update={"port": 1}),
            "eval": whole.settings.eval.model_copy(update={"guards": ("accuracy=0.1",)}),
        }
    )
    later = knowing(SAID)
    other = Pipeline(elsewhere, whole.index, whole.embedder, lambda: later)
    assert len(steps(Plan(golden), other, tmp_path / "out")) == 5
    assert later.asked == []
    said = (tmp_path / "out" / run.RUN).read_text("utf-8")
    assert "endpoint_key" not in said
    assert str(tmp_path) not in said


# Reading a run


def test_a_record_is_read_as_it_was_written(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    whole = pipeline(knowing(SAID))
    steps(Plan(golden), whole, tmp_path)
    held = whole.index.catalogue.collection("default")
    assert held
    entries = whole.index.catalogue.entries(held)
    assert run.read_record(tmp_path) == run.describe(Plan(golden), whole, held, entries)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    assert run.read_record(tmp_path) is None
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no run") as caught:
            run.read(folder)
        assert str(folder) in caught.value.message
        assert "eval run" in caught.value.remedy
        assert caught.value.exit_status == 2


def test_a_run_of_another_version_is_refused(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    steps(Plan(golden), pipeline(knowing(SAID)), tmp_path)
    file = tmp_path / run.RUN
    said = json.loads(file.read_text("utf-8")) | {"format": 99, "version": "9.1"}
    file.write_text(json.dumps(said), "utf-8")
    for read in (
        lambda: run.read(tmp_path),
        lambda: steps(Plan(golden), pipeline(knowing(SAID)), tmp_path),
    ):
        with pytest.raises(UsageError) as caught:
            read()
        assert caught.value.message == (
            f"{file} is of format 99, made by rag-bot 9.1; this one reads format {run.FORMAT}"
        )
        assert "another folder" in caught.value.remedy
        assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "seed": []}'],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / run.RUN).write_text(text, "utf-8")
    with pytest.raises(UsageError, match=r"run\.json is no record of a run") as caught:
        run.read_record(tmp_path)
    assert caught.value.exit_status == 2


def test_a_bad_row_of_a_run_is_named(
    golden: GoldenSet, pipeline: Make, knowing: Any, tmp_path: Path
) -> None:
    steps(Plan(golden), pipeline(knowing(SAID)), tmp_path)
    file = tmp_path / run.ROWS
    file.write_text("no row\n" + file.read_text("utf-8"), "utf-8")
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 1: "):
        run.read(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(
    golden: GoldenSet, pipeline: Make, knowing: Any
) -> None:
    with pytest.raises(UsageError, match=r"golden\.jsonl"):
        steps(Plan(golden), pipeline(knowing(SAID)), golden.path)


# Where a run takes place


def test_a_bench_is_made_of_a_folder_and_kept(
    settings: Settings, word_embedder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "drafts", drafts_here)
    # Its tokenizer counts the chunks' word pieces.
    real = settings.models.model_copy(update={"embedder": "all-minilm-l6-v2"})
    settings = settings.model_copy(update={"models": real})
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "pump.txt").write_text(PUMP)
    (docs / "lease.txt").write_text(f"{LEASE}\f{LEASE}")
    loaded = bench.Engines(lambda: word_embedder, never)
    with bench.over([docs], settings, loaded, bench.quiet, tmp_path / "kept") as pipeline:
        pages = bench.pages(pipeline)
        assert pages["pump.txt"] == [PUMP]
        assert sorted(pages) == ["lease.txt", "pump.txt"]
        assert pipeline.search("pump bar")[0].document == "pump.txt"
    word_embedder.seen.clear()
    (docs / "lease.txt").unlink()
    with bench.over([docs], settings, loaded, bench.quiet, tmp_path / "kept") as pipeline:
        assert bench.pages(pipeline).keys() == {"pump.txt"}
        assert word_embedder.seen == []


@pytest.fixture
def copied(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, Path]:
    """Two documents to make copies of, parsed in this process and not read."""
    monkeypatch.setattr(sync, "drafts", drafts_here)
    real = settings.models.model_copy(update={"embedder": "all-minilm-l6-v2", "reader": ""})
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "pump.txt").write_text(PUMP)
    (docs / "lease.txt").write_text(LEASE)
    return settings.model_copy(update={"models": real}), docs


def test_a_deletion_reaches_the_copies_and_the_rows_made_of_them(
    copied: tuple[Settings, Path], word_embedder: Any, tmp_path: Path
) -> None:
    settings, docs = copied
    cases.write(tmp_path / "golden.jsonl", [GOLDEN[1], GOLDEN[3]])
    plan = Plan(cases.read(tmp_path / "golden.jsonl"), answers=False, check=False)
    loaded = bench.Engines(lambda: word_embedder, never)
    with bench.over([docs], settings, loaded, bench.quiet, settings.data_dir):
        pass  # the user's own index
    one = settings.model_copy(
        update={"retrieval": settings.retrieval.model_copy(update={"top_k": 1})}
    )
    with bench.over([docs], one, loaded, bench.quiet) as pipeline:
        list(run.run(plan, pipeline, "default", tmp_path / "out"))
    assert any((settings.data_dir / COPIES).iterdir())
    with Index(settings.data_dir) as own:
        held = own.collection("default", fingerprint(settings))
        entries = own.catalogue.entries(held)
        delete(own, held, [each for each in entries if "lease" in each.source], settings)
    assert not (settings.data_dir / COPIES).exists()
    text = (tmp_path / "out" / run.ROWS).read_text("utf-8")
    assert PUMP[:20] in text
    assert "31 March 2031. The rent" not in text


def told(settings: Settings) -> set[str]:
    """The rows that the user's own ledger knows."""
    with closing(Database(settings.data_dir / CATALOGUE)) as own:
        return {each.item for each in Ledger(own).made()}


@pytest.mark.parametrize("kept", [None, "kept"])
def test_the_users_ledger_knows_a_row_of_a_copy_before_it_is_written(
    copied: tuple[Settings, Path],
    word_embedder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str | None,
) -> None:
    settings, docs = copied
    plan = Plan(GoldenSet(tmp_path / "golden.jsonl", GOLDEN[1:2]), answers=False, check=False)
    loaded = bench.Engines(lambda: word_embedder, never)
    with bench.over([docs], settings, loaded, bench.quiet, settings.data_dir):
        pass  # the user's own index
    seen: list[set[str]] = []

    def to_line(row: Row) -> str:
        seen.append(told(settings))
        raise KeyboardInterrupt

    monkeypatch.setattr(run.rows_, "to_line", to_line)
    folder = tmp_path / kept if kept else None
    with (
        pytest.raises(KeyboardInterrupt),
        bench.over([docs], settings, loaded, bench.quiet, folder) as pipeline,
    ):
        list(run.run(plan, pipeline, "default", tmp_path / "out"))
    assert seen == [{"bar"}]


def test_rows_made_before_there_was_a_ledger_to_tell_are_told_first_of_all(
    copied: tuple[Settings, Path], word_embedder: Any, tmp_path: Path
) -> None:
    settings, docs = copied
    plan = Plan(GoldenSet(tmp_path / "golden.jsonl", GOLDEN[1:2]), answers=False, check=False)
    loaded = bench.Engines(lambda: word_embedder, never)
    with bench.over([docs], settings, loaded, bench.quiet) as pipeline:
        list(run.run(plan, pipeline, "default", tmp_path / "out"))
    with bench.over([docs], settings, loaded, bench.quiet, settings.data_dir):
        pass
    assert told(settings) == set()
    with bench.over([docs], settings, loaded, bench.quiet):
        assert told(settings) == {"bar"}
    with bench.over([docs], settings, loaded, bench.quiet):
        pass
    with closing(Database(settings.data_dir / CATALOGUE)) as own:
        assert len(Ledger(own).origins("evaluation", "bar")) == 2, "once for each document shown"


def test_a_copy_loses_a_document_and_stays(
    copied: tuple[Settings, Path], word_embedder: Any
) -> None:
    settings, docs = copied
    loaded = bench.Engines(lambda: word_embedder, never)
    with bench.over([docs], settings, loaded, bench.quiet):
        (place,) = (settings.data_dir / COPIES).iterdir()
    (docs / "lease.txt").unlink()
    with bench.over([docs], settings, loaded, bench.quiet) as pipeline:
        assert bench.pages(pipeline).keys() == {"pump.txt"}
        assert pipeline.index.data_dir == place
        assert (place / CATALOGUE).is_file()
    word_embedder.seen.clear()
    with bench.over([docs], settings, loaded, bench.quiet) as pipeline:
        assert pipeline.search("pump bar")[0].document == "pump.txt"
        assert PUMP not in word_embedder.seen  # it was kept


def test_a_bench_of_nothing_is_refused(
    settings: Settings, word_embedder: Any, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    loaded = bench.Engines(lambda: word_embedder, never)
    for docs in (tmp_path / "docs", tmp_path / "nowhere"):
        with (
            pytest.raises(UsageError) as caught,
            bench.over([docs], settings, loaded, bench.quiet, tmp_path / "kept"),
        ):
            pytest.fail("there is nothing to ask")
        assert caught.value.exit_status == 2


def test_engines_are_loaded_once_and_only_when_called(tmp_path: Path) -> None:
    bare = config.load(flags={"models.dir": tmp_path}, environ={}).settings
    assert callable(bench.engines(bare).embedder)  # no model is there, and none was looked for
