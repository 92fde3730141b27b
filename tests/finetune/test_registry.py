import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from eval import bench, cases, gate, run
from eval.cases import GoldenCase, PageRef
from eval.gate import Guard
from eval.rows import Judged, Row
from eval.run import Plan
from finetune import promotion, registry
from finetune.examples import QAExample
from finetune.promotion import Verdict
from finetune.registry import Card
from finetune.train import Recipe, Trained
from rag_bot import adapters, models
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken, UsageError
from rag_bot.index import Index
from rag_bot.ledger import Origin

MakeRow = Callable[..., Row]
DOCUMENT = Origin("/docs/d1.txt", "ab")


def passed(settings: Settings, place: Path, **fields: Any) -> Verdict:
    found = Verdict(
        True, "", "F1", 0.1, 0.3, 0.1, 0.3, 0.01, 40, "golden",
        registry.against(settings), adapters.fingerprint(place),
    )  # fmt: skip
    return replace(found, **fields)


@pytest.fixture
def candidate(
    settings: Settings, coloured: list[QAExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Path]:
    monkeypatch.setattr(adapters, "SHIPPED", tmp_path / "none")

    def make() -> Path:
        place = registry.new(settings, "lora")
        number = len(list(adapters.folder(settings).iterdir()))
        (place / models.ADAPTER).write_bytes(bytes([number]))
        trained = Trained(place, 2.0, 1.0, 30, 90.0, 1.5)
        registry.record(settings, place.name, [DOCUMENT])
        learned = registry.Learned.of(
            (each.kind, each.document_id, each) for each in coloured if each.split == "train"
        )
        registry.register(place, settings, "adapter", asdict(Recipe()), learned, trained)
        return place

    return make


def test_a_card_says_what_it_is_and_names_no_document(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    place = candidate()
    card = registry.read(place)
    assert card.base_weights == adapters.base(settings)
    assert (card.kinds, card.documents, card.validation) == ({"toy": 68}, 17, (2.0, 1.0))
    assert (card.minutes, card.steps, card.recipe["rank"]) == (1.5, 30, 16)
    assert "/docs" not in (place / adapters.CARD).read_text()
    assert ".txt" not in (place / adapters.CARD).read_text()


def test_two_of_one_second_lie_apart(settings: Settings, candidate: Callable[[], Path]) -> None:
    assert len({candidate().name for _ in range(3)}) == 3


def test_only_what_was_measured_and_passed_goes_live(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    place = candidate()
    with pytest.raises(UsageError, match="was not evaluated"):
        registry.promote(settings, place.name)
    promotion.keep(place, passed(settings, place, passed=False, why="F1 is not better"))
    assert registry.entries(settings)[0].state == "refused"
    with pytest.raises(UsageError, match="refused: F1 is not better"):
        registry.promote(settings, place.name)
    promotion.keep(place, passed(settings, place, against="of before"))
    with pytest.raises(UsageError, match="another adapter than the live one"):
        registry.promote(settings, place.name)
    promotion.keep(place, passed(settings, place, beside="another reader"))
    with pytest.raises(UsageError, match="beside another reader than the live one"):
        registry.promote(settings, place.name)
    promotion.keep(place, passed(settings, place, weights="other"))
    with pytest.raises(UsageError, match="not what was measured"):
        registry.promote(settings, place.name)
    promotion.keep(place, passed(settings, place, beside=registry.beside(settings, "adapter")))
    assert registry.entries(settings)[0].state == "promotable"
    assert adapters.located(settings) is None
    registry.promote(settings, place.name)
    assert adapters.located(settings) == place
    assert registry.entries(settings)[0].state == "promoted"
    assert registry.promote(settings, place.name).id == place.name  # once is enough
    assert adapters.promoted(settings, adapters.base(settings)) == [place.name]


def test_a_candidate_of_another_model_stays_out(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    place = candidate()
    promotion.keep(place, passed(settings, place))
    registry.write(place, replace(registry.read(place), base_weights="other", base="gemma"))
    with pytest.raises(UsageError, match="trained on gemma"):
        registry.promote(settings, place.name)


def test_rolling_back_goes_one_step_at_a_time(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    first, second = candidate(), candidate()
    for place in (first, second):
        promotion.keep(place, passed(settings, place))
        registry.promote(settings, place.name)
    assert adapters.located(settings) == second
    assert registry.rollback(settings) == (second.name, first.name)
    assert adapters.located(settings) == first
    assert registry.rollback(settings) == (first.name, "")
    assert adapters.located(settings) is None
    with pytest.raises(UsageError, match="no adapter was promoted"):
        registry.rollback(settings)


def test_deleting_a_document_flags_what_learned_from_it(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    place = candidate()
    promotion.keep(place, passed(settings, place))
    assert not registry.entries(settings)[0].lost
    with Index(settings.data_dir) as index:
        index.ledger.erase(settings.collection, DOCUMENT, twin_lives=False)
    assert registry.entries(settings)[0].lost
    with pytest.raises(UsageError, match="a document that was deleted"):
        registry.promote(settings, place.name)


def test_what_learned_from_another_collections_examples_goes_with_its_documents(
    settings: Settings,
) -> None:
    with Index(settings.data_dir) as index:
        index.ledger.record_lineage("example", "e1", "work", [DOCUMENT], "/e.jsonl")
    assert registry.collections(settings, ["none"]) == {settings.collection}
    theirs = registry.collections(settings, ["e1", "e2"])
    assert theirs == {"work", settings.collection}
    registry.record(settings, "made", [DOCUMENT], among=theirs)
    registry.record(settings, "refused", [DOCUMENT], among=theirs)
    registry.forget(settings, "refused")
    with Index(settings.data_dir) as index:
        index.ledger.erase("work", DOCUMENT, twin_lives=False)
        marked = {e.item for e in index.ledger.made(marked=True) if e.kind == "adapter"}
    assert marked == {"made"}


def test_lineage_is_written_beside_a_server_that_owns_the_index(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    with Index(settings.data_dir) as index:
        place = candidate()
        assert index.ledger.origins("adapter", place.name) == [DOCUMENT]
    with Index(settings.data_dir) as index:
        assert not index.damaged
        assert index.ledger.origins("adapter", place.name) == [DOCUMENT]


def test_names_that_are_none_and_cards_that_are_broken(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    with pytest.raises(UsageError, match="no candidate yet"):
        registry.entry(settings, "")
    places = [candidate(), candidate()]
    assert registry.entry(settings, "").folder == max(places)
    with pytest.raises(UsageError, match="no candidate 'x'"):
        registry.entry(settings, "x")
    (places[0] / adapters.CARD).write_text(json.dumps({"id": 1}))
    with pytest.raises(ModelBroken, match=r"card\.json"):
        registry.entries(settings)


# Verdicts


def rows(
    case: Callable[..., Any], row: MakeRow, right: int, answered: int = 20, abstained: int = 10
) -> list[Row]:
    found = []
    for n in range(20):
        asked = case(f"a{n}", (f"{n}.txt", 1))
        said = "28 days" if n < right else "a week"
        found.append(row(asked, said if n < answered else "", shown=[(f"{n}.txt", 1)]))
    for n in range(10):
        asked = case(f"u{n}")
        found.append(row(asked, "" if n < abstained else "28 days", shown=[("a.txt", 1)]))
    return found


GUARDS = [Guard("abstention_recall", 0.05), Guard("false_abstention", 0.05)]


def test_better_and_no_worse_passes(case: Any, row: MakeRow) -> None:
    found = promotion.judged(rows(case, row, 5), rows(case, row, 15), GUARDS, "F1")
    assert found.passed, found.why
    assert found.why == ""
    assert found.after - found.before == pytest.approx(1 / 3, abs=1e-4)
    assert found.low > 0


def test_the_same_slightly_better_or_worse_does_not(case: Any, row: MakeRow) -> None:
    same = promotion.judged(rows(case, row, 5), rows(case, row, 5), GUARDS, "F1")
    assert not same.passed
    assert "not better" in same.why
    worse = promotion.judged(rows(case, row, 15), rows(case, row, 5), GUARDS, "F1")
    assert not worse.passed
    slight = promotion.judged(rows(case, row, 5), rows(case, row, 6), GUARDS, "F1")
    assert not slight.passed
    assert "by 1 of 30 cases" in slight.why


def test_gains_among_losses_are_chance_and_four_gains_are_too_few(case: Any, row: MakeRow) -> None:
    before = rows(case, row, 10)
    mixed = rows(case, row, 14)
    mixed[:3] = [replace(each, answer="a week") for each in mixed[:3]]
    found = promotion.judged(before, mixed, GUARDS, "F1")
    assert not found.passed
    assert "which may be chance" in found.why
    few = [each for n, each in enumerate(before) if n in (10, 11, 12, 13, 20, 21)]
    better = rows(case, row, 14)
    found = promotion.judged(few, [better[n] for n in (10, 11, 12, 13, 20, 21)], GUARDS, "F1")
    assert not found.passed
    assert "by 4 of 6 cases; fewer than 5 may be chance" in found.why


def test_a_better_target_does_not_pay_for_claims_that_nothing_bears_out(
    case: Any, row: MakeRow
) -> None:
    before, after = rows(case, row, 5), rows(case, row, 15)
    made_up = Judged("28 days", "unsupported", 0.1, ())
    held = Judged("28 days", "supported", 0.9, (1,))
    before = [replace(each, verdicts=(held,) * each.answered) for each in before]
    after = [replace(each, verdicts=(made_up,) * each.answered) for each in after]
    found = promotion.judged(before, after, [*GUARDS, *promotion.ALWAYS], "F1")
    assert not found.passed
    assert found.why.startswith("faithfulness is worse")


def test_a_better_target_does_not_pay_for_inventions(case: Any, row: MakeRow) -> None:
    before, after = rows(case, row, 5), rows(case, row, 18, abstained=0)
    found = promotion.judged(before, after, GUARDS, "F1_answerable")
    assert not found.passed
    assert found.why.startswith("abstention_recall is worse")


def test_a_loss_of_abstention_or_faithfulness_need_not_be_proved(case: Any, row: MakeRow) -> None:
    """One invention in ten is no loss beyond chance, and closes this gate all the same."""
    before, after = rows(case, row, 5), rows(case, row, 18, abstained=9)
    assert all(each.passed for each in gate.gate(before, after, GUARDS[:1]))
    found = promotion.judged(before, after, GUARDS, "F1_answerable")
    assert not found.passed
    assert found.why.startswith("abstention_recall is worse by 0.100")
    assert [each.metric for each in found.guards if not each.passed] == ["abstention_recall"]
    # Other guards still ask for proof: one of twenty more unanswered.
    assert promotion.judged(
        before, rows(case, row, 18, answered=19), GUARDS, "F1_answerable"
    ).passed


def test_the_verdict_names_the_reader_that_it_was_measured_with(
    pipeline: Pipeline,
    settings: Settings,
    candidate: Callable[[], Path],
    case: Any,
    row: MakeRow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another reader goes live while the cases are asked."""
    from rag_bot import read

    place, then = candidate(), registry.beside(settings, "adapter")
    newer = adapters.folder(settings) / "newer-reader"
    shutil.copytree(read.SHIPPED, newer)
    (newer / "reader.json").write_text((newer / "reader.json").read_text() + " ")
    met: list[str] = []

    def asked(plan: Plan, over: Pipeline, *_: object) -> Iterator[Any]:
        adapters.set_promoted(settings, adapters.reader_base(settings), [newer.name])
        reader = over.reader()
        assert reader
        met.append(reader.model_id)
        yield from ()

    monkeypatch.setattr(run, "run", asked)
    monkeypatch.setattr(run, "describe", lambda *_: Guard("of a run", 0.0))
    monkeypatch.setattr(run, "read", lambda _: (None, rows(case, row, 5)))
    golden = tmp_path / "golden.jsonl"
    cases.write(golden, [GoldenCase("a", "Who pays?", ("me",), (PageRef("lease.md", 1),))])
    over = Pipeline(settings, pipeline.index, *bench.engines(settings))
    plan = Plan(cases.read(golden), check=False)
    *_, verdict = promotion.evaluate(place, plan, over, "default", tmp_path)
    assert isinstance(verdict, promotion.Verdict)
    assert verdict.beside == then != registry.beside(settings, "adapter")
    assert len(met) == 2
    assert len(set(met)) == 1


def test_without_unanswerable_cases_nothing_goes_live(case: Any, row: MakeRow) -> None:
    before, after = (
        [each for each in rows(case, row, right) if each.case.answerable] for right in (5, 15)
    )
    found = promotion.judged(before, after, GUARDS, "F1")
    assert not found.passed
    assert found.why == "abstention_recall can't be measured on these cases"


def test_a_candidate_is_not_judged_by_what_it_learned(
    settings: Settings, candidate: Callable[[], Path], case: Any
) -> None:
    place = candidate()
    registry.write_asked(place, ["When does it end?", "Who pays?"])
    assert "end" not in (place / registry.ASKED).read_text()
    assert registry.was_asked(place, ["who pays", "Who else?"]) == ["who pays"]


def test_what_begins_from_another_learned_from_its_documents_too(
    settings: Settings, candidate: Callable[[], Path], tmp_path: Path
) -> None:
    place, other = candidate(), Origin("/docs/d2.txt", "cd")
    elsewhere = settings.model_copy(update={"collection": "elsewhere"})
    registry.record(elsewhere, "next", [other], place / ".." / place.name)
    with Index(settings.data_dir) as index:
        assert set(index.ledger.origins("adapter", "next")) == {DOCUMENT, other}
        # The parent's document went from the parent's collection.
        index.ledger.erase(settings.collection, DOCUMENT, twin_lives=False)
        marked = {each.item for each in index.ledger.made(marked=True)}
        assert marked == {place.name, "next"}
    with pytest.raises(UsageError, match="begin from another"):
        registry.record(settings, "third", [], place)
    registry.record(settings, "third", [other], tmp_path)  # an adapter from elsewhere


def test_what_begins_from_another_has_learned_its_questions(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    first, second = candidate(), candidate()
    registry.write_asked(first, ["When does it end?"])
    registry.write_asked(second, ["Who pays?"], first)
    assert registry.was_asked(second, ["when does it end", "Who else?"]) == ["when does it end"]


def test_what_is_live_is_not_measured_against_itself(
    settings: Settings, candidate: Callable[[], Path], tmp_path: Path
) -> None:
    place = candidate()
    promotion.keep(place, passed(settings, place))
    registry.promote(settings, place.name)
    golden = tmp_path / "golden.jsonl"
    cases.write(golden, [GoldenCase("a", "Who pays?", ("me",), (PageRef("lease.md", 1),))])
    pipeline = Pipeline(settings, cast("Index", None), *bench.engines(settings))
    plan = Plan(cases.read(golden), check=False)
    with pytest.raises(UsageError, match=f"{place.name} is live"):
        next(promotion.evaluate(place, plan, pipeline, "default", tmp_path))
    assert registry.read(place).verdict["passed"]


def test_candidates_are_listed_where_a_server_s_model_answers(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    place = candidate()
    served = settings.models.model_copy(
        update={"endpoint": "http://127.0.0.1:9/v1", "llm": "served-by-name"}
    )
    (entry,) = registry.entries(settings.model_copy(update={"models": served}))
    assert (entry.folder, entry.live) == (place, False)


@pytest.mark.parametrize("said", ["Who pays?", "Who pays? in:lease.md", "who pays?  type:md"])
def test_an_evaluation_refuses_cases_that_were_learned(
    pipeline: Pipeline, settings: Settings, candidate: Callable[[], Path], tmp_path: Path, said: str
) -> None:
    place = candidate()
    cases.write(
        tmp_path / "golden.jsonl",
        [GoldenCase("a", said, ("me",), (PageRef("lease.md", 1),))],
    )
    registry.write_asked(place, ["Who pays?"])
    plan = Plan(cases.read(tmp_path / "golden.jsonl"), check=False)
    pipeline = Pipeline(settings, pipeline.index, *bench.engines(settings))
    with pytest.raises(UsageError, match="learned 1 of the cases"):
        next(promotion.evaluate(place, plan, pipeline, "default", tmp_path))
    assert not list(tmp_path.glob("*/rows.jsonl"))


@pytest.mark.parametrize("named", [{"adapter": "shipped"}, {"endpoint": "http://127.0.0.1:9/v1"}])
def test_where_something_else_answers_nothing_is_measured_or_goes_live(
    settings: Settings, candidate: Callable[[], Path], named: dict[str, str], tmp_path: Path
) -> None:
    place = candidate()
    promotion.keep(place, passed(settings, place))
    other = settings.model_copy(update={"models": settings.models.model_copy(update=named)})
    with pytest.raises(UsageError, match=next(iter(named))):
        registry.promote(other, place.name)
    golden = tmp_path / "golden.jsonl"
    cases.write(golden, [GoldenCase("a", "Who pays?", ("me",), (PageRef("lease.md", 1),))])
    pipeline = Pipeline(other, cast("Index", None), *bench.engines(other))
    with pytest.raises(UsageError, match=next(iter(named))):
        next(promotion.evaluate(place, Plan(cases.read(golden)), pipeline, "default", tmp_path))
    assert adapters.promoted(settings, adapters.base(settings)) == []


def test_rolling_back_passes_over_what_is_gone_and_needs_no_other_card(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    places = [candidate() for _ in range(3)]
    for place in places:
        promotion.keep(place, passed(settings, place))
        registry.promote(settings, place.name)
    shutil.rmtree(places[1])
    broken = candidate()
    (broken / adapters.CARD).write_text("{")
    assert registry.rollback(settings) == (places[2].name, places[0].name)
    assert adapters.located(settings) == places[0]


def test_rolling_back_passes_over_what_lost_a_document(
    settings: Settings, candidate: Callable[[], Path]
) -> None:
    places = [candidate(), candidate()]
    for place in places:
        promotion.keep(place, passed(settings, place))
        registry.promote(settings, place.name)
    with Index(settings.data_dir) as index:
        index.ledger.erase(settings.collection, DOCUMENT, twin_lives=False)
    assert registry.rollback(settings) == (places[1].name, "")


def test_what_can_not_be_measured_does_not_pass(case: Any, row: MakeRow) -> None:
    found = promotion.judged(rows(case, row, 5), rows(case, row, 15), GUARDS, "perplexity")
    assert not found.passed
    assert "can't be measured" in found.why


def test_the_verdict_is_kept_on_the_card(settings: Settings, candidate: Callable[[], Path]) -> None:
    place = candidate()
    card: Card = promotion.keep(place, passed(settings, place))
    assert registry.read(place).verdict["after"] == card.verdict["after"] == 0.3
