import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from eval import bench, cases, run
from eval.cases import GoldenCase, PageRef
from eval.run import Plan
from finetune import examples, loop, promotion, registry
from finetune.examples import QAExample
from finetune.train import Recipe
from ingest.delete import delete
from ingest.sync import ingest
from rag_bot import adapters, models
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.embed import Embedder
from rag_bot.errors import Unavailable, UsageError
from rag_bot.index import Index, fingerprint
from rag_bot.read import MiniReader
from tests.finetune.conftest import PAGES

WANTED = loop.Wanted(count=12)


@pytest.mark.parametrize("better", [True, False])
def test_what_is_better_goes_live_and_what_is_not_does_not(
    pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    verdict = promotion.Verdict(
        better, "" if better else "worse", "F1", 0.1, 0.3, 0.1, 0.3, 0.01, 40, "g", "", ""
    )
    told: list[str] = []
    monkeypatch.setattr(loop, "measure", lambda *_: iter([verdict]))
    monkeypatch.setattr(registry, "promote", lambda _settings, name: told.append(name))
    place = settings.data_dir / "adapters" / "new"
    assert list(loop._decided(place, cast("Any", None), pipeline, settings)) == [verdict]
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


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture
def own(settings: Settings, docs: Path, embedder: Embedder) -> Callable[..., None]:
    """Ingests the folder into a collection of the user's own index, and deletes from it."""

    def run(collection: str, *gone: str) -> None:
        with Index(settings.data_dir) as index:
            if not gone:
                bench.quiet(ingest([docs], index, lambda: embedder, settings, collection))
                return
            held = index.collection(collection, fingerprint(settings))
            entries = index.catalogue.entries(held)
            chosen = [each for each in entries if Path(each.source).name in gone]
            assert len(chosen) == len(gone)
            delete(index, held, chosen, settings)

    return run


def test_what_is_deleted_while_its_copy_is_in_use_is_not_written_down_again(
    settings: Settings, docs: Path, own: Callable[..., None], tmp_path: Path
) -> None:
    own(settings.collection)
    out = tmp_path / "out"
    with loop.over(docs, settings, bench.quiet) as pipeline:
        before = list(loop.write_examples(pipeline, out / "a.jsonl", settings, WANTED))
        assert isinstance(before[-1], loop.Written)
        (docs / "cars.md").write_text("# Cars\n\nThere are none.\n")
        own(settings.collection)
        with bench.ledger(settings) as ledger:
            bench.nothing_went(pipeline, ledger)  # an edit is no deletion
        (docs / "lease.md").unlink()
        own(settings.collection, "lease.md")
        assert "Dunmore" not in (out / "a.jsonl").read_text("utf-8")
        with pytest.raises(Unavailable, match=r"lease\.md was deleted while a copy"):
            list(loop.write_examples(pipeline, out / "b.jsonl", settings, WANTED))
        with pytest.raises(Unavailable, match=r"lease\.md"):
            loop.write_golden(pipeline, out / "g.jsonl", settings, replace(WANTED, cases=40))
        taught = before[-1].examples
        check = partial(bench.nothing_went, pipeline)
        with pytest.raises(Unavailable, match=r"lease\.md"):
            list(loop.learn(taught, settings, loop.Wanted().recipe, check=check))
        with pytest.raises(Unavailable, match=r"lease\.md"):
            list(loop._decided(tmp_path, cast("Any", None), pipeline, settings))
    assert {each.name for each in out.iterdir()} == {"a.jsonl"}
    assert not list(adapters.folder(settings).glob("*-lora"))
    with Index(settings.data_dir) as index:
        assert {each.kind for each in index.ledger.made()} == {"example"}
        assert not index.ledger.made(marked=True)


def test_a_row_about_what_was_deleted_meanwhile_is_not_kept(
    settings: Settings, docs: Path, own: Callable[..., None], scripted: Any, embedder: Embedder
) -> None:
    own(settings.collection)
    cases.write(
        docs.parent / "golden.jsonl",
        [GoldenCase("a", "Who is the rent paid to?", ("Dunmore",), (PageRef("lease.md", 1),))],
    )
    plan = Plan(cases.read(docs.parent / "golden.jsonl"), check=False)
    engines = bench.Engines(lambda: embedder, lambda: scripted("Dunmore Estates"))
    with bench.over([docs], settings, engines, bench.quiet) as pipeline:
        own(settings.collection, "lease.md")
        with pytest.raises(Unavailable, match=r"lease\.md was deleted"):
            list(run.run(plan, pipeline, settings.collection, docs.parent / "run"))
    rows = docs.parent / "run" / "rows.jsonl"
    assert rows.read_text("utf-8") == ""


def test_what_was_deleted_from_another_collection_is_not_learned_from_the_folder(
    settings: Settings, docs: Path, own: Callable[..., None]
) -> None:
    own("work")
    own("work", "lease.md")
    with loop.over(docs, settings, bench.quiet) as pipeline:
        assert bench.pages(pipeline).keys() == PAGES.keys() - {"lease.md"}
    own(settings.collection)  # what the collection in use has is there to be learned
    with loop.over(docs, settings, bench.quiet) as pipeline:
        assert bench.pages(pipeline).keys() == PAGES.keys()


def test_a_loop_goes_on_from_nothing_that_knows_the_cases_that_decide(
    pipeline: Pipeline, settings: Settings, tmp_path: Path
) -> None:
    cases.write(
        tmp_path / "golden.jsonl",
        [GoldenCase("a", "Who pays? in:lease.md", ("me",), (PageRef("lease.md", 1),))],
    )
    golden = cases.read(tmp_path / "golden.jsonl")
    live = adapters.folder(settings) / "mine"
    shutil.copytree(adapters.SHIPPED, live)
    weights = adapters.base(settings)
    adapters.set_promoted(settings, weights, [live.name])
    rank = json.loads((live / models.ADAPTER_CONFIG).read_text())["r"]
    recipe = Recipe(rank=rank)
    assert loop.starting_point(settings, recipe, golden, pipeline) == live
    registry.write_asked(live, ["who pays"])
    assert loop.starting_point(settings, recipe, golden, pipeline) == adapters.SHIPPED
    assert loop.starting_point(settings, Recipe(rank=rank + 1), golden, pipeline) is None
    assert loop.starting_point(settings, Recipe(method="prompt"), golden, pipeline) is None


def test_a_card_counts_what_was_learned_and_knows_the_same_data_elsewhere(
    settings: Settings, tiny_llm: Path, coloured: list[QAExample]
) -> None:
    models_ = settings.models.model_copy(update={"llm": str(tiny_llm)})
    settings = settings.model_copy(update={"models": models_})
    recipe = Recipe(rate=1e-2, epochs=0.2, batch=1500, looks=1, longest=300)
    taught = [each for each in coloured if each.split == "train"]
    taught[0] = replace(taught[0], sources=(replace(taught[0].sources[0], text="so " * 600),))
    hashes = []
    for folder in ("/here", "/there"):
        moved = [replace(each, origins=((f"{folder}/d.txt", "ab"),)) for each in taught]
        *_, card = loop.learn(moved, settings, recipe)
        assert isinstance(card, registry.Card)
        assert sum(card.kinds.values()) == len(taught) - 1
        hashes.append(card.data_sha256)
    assert hashes[0] == hashes[1]


def test_a_loop_that_can_not_begin_leaves_no_folder(settings: Settings, docs: Path) -> None:
    for file in list(docs.iterdir())[1:]:
        file.unlink()
    with pytest.raises(UsageError):
        list(loop.loop(docs, settings, loop.Wanted(), bench.quiet, None))
    assert not list(adapters.folder(settings).glob("*-lora"))
