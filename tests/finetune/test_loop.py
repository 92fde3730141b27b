import random
from pathlib import Path
from typing import Any, cast

import pytest

from eval import bench
from finetune import examples, loop, promotion, registry
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.index import Index
from rag_bot.read import MiniReader
from tests.finetune.conftest import PAGES


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
