"""Side by side with others: sums worked out by hand, and one tiny run of each that is here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval import apart, versus
from eval.cases import GoldenCase, PageRef
from eval.systems import SYSTEMS, Place
from eval.versus import METRICS, QUALITIES, Run, Spread, Tested
from rag_bot.errors import Unavailable

MakeCase = Callable[..., GoldenCase]
BY = {each.title: each for each in (*METRICS, *QUALITIES)}


def run(ingest_s: float, *found: list[Place], query_s: tuple[float, ...] = (0.1,)) -> Run:
    return Run(2.0, ingest_s, query_s, tuple(tuple(each) for each in found), 500.0, 3.0)


def with_runs(name: str, *runs: Run) -> Tested:
    return Tested(name, SYSTEMS[name], Path(), list(runs))


def test_a_ratio_is_taken_within_each_round() -> None:
    # In the second round the machine was half as fast for both.
    assert versus.ratios([2, 4, 3], [1, 2, 2]) == Spread(2, 1.5, 2)
    assert versus.spread([5, 1, 3, 4]) == Spread(3.5, 1, 5)


def test_times_and_sizes_are_set_against_ours(case: MakeCase) -> None:
    asked = [case("a", ("a.pdf", 1))]
    here: list[Place] = [("a.pdf", 1)]
    table = versus.compare(
        [
            with_runs("ours", run(4, here), run(8, here)),
            with_runs("txtai", run(2, here), run(16, here)),
        ],
        asked,
        pages=8,
    )
    row = table["ingest, pages/s"]
    assert row["higher_is_better"]
    assert row["systems"]["ours"] == {"value": Spread(1.5, 1, 2), "ratio": Spread(1, 1, 1)}
    assert row["systems"]["txtai"] == {"value": Spread(2.25, 0.5, 4), "ratio": Spread(1.25, 0.5, 2)}
    assert not table["peak memory, MB"]["higher_is_better"]
    assert table["disk, MB"]["systems"]["txtai"]["value"] == Spread(3, 3, 3)


def test_query_times_are_percentiles_over_the_questions_in_milliseconds() -> None:
    measured = run(1, query_s=tuple(number / 1000 for number in range(101)))
    assert BY["query p50, ms"].of(measured, 1) == pytest.approx(50)  # type: ignore[operator]
    assert BY["query p95, ms"].of(measured, 1) == pytest.approx(95)  # type: ignore[operator]


def test_several_chunks_of_a_page_count_as_one(case: MakeCase) -> None:
    asked = case("a", ("a.pdf", 2))
    found: list[Place] = [("b.pdf", 1), ("b.pdf", 1), ("a.pdf", 2), ("a.pdf", 2)]
    # second in the ranking of pages: 1 / log2(3)
    assert _scored("nDCG@10, pages", found, asked) == pytest.approx(0.6309, abs=1e-4)
    assert _scored("recall@5, pages", found, asked) == 1


def test_the_wrong_page_of_the_right_document_counts_for_documents_only(case: MakeCase) -> None:
    asked = case("a", ("a.pdf", 2), ("b.pdf", 1))
    found: list[Place] = [("a.pdf", 7)]
    assert _scored("recall@5, pages", found, asked) == 0
    assert _scored("recall@5, documents", found, asked) == 0.5


def test_pages_are_not_scored_where_the_system_or_the_case_names_none(case: MakeCase) -> None:
    told: list[Place] = [("a.pdf", 1)]
    untold: list[Place] = [("a.pdf", None)]
    assert _scored("nDCG@10, pages", untold, case("a", ("a.pdf", 1))) is None
    assert _scored("nDCG@10, pages", told, case("b", ("a.pdf", None))) is None
    assert _scored("nDCG@10, documents", untold, case("c", ("a.pdf", None))) == 1


def test_the_ratio_of_quality_is_of_means_and_has_an_interval(case: MakeCase) -> None:
    asked = [case("a", ("a.pdf", 1)), case("b", ("b.pdf", 1))]
    both = run(1, [("a.pdf", 1)], [("b.pdf", 1)])
    half = run(1, [("a.pdf", 1)], [("a.pdf", 1)])
    no_pages = run(1, [("a.pdf", None)], [("b.pdf", None)])
    table = versus.compare(
        [with_runs("ours", both), with_runs("txtai", half), with_runs("haiku", no_pages)], asked, 1
    )
    row = table["recall@5, pages"]["systems"]
    assert row["ours"]["value"] == Spread(1, 1, 1)
    assert row["txtai"]["ratio"] == Spread(0.5, 0, 1)
    assert "haiku" not in row
    assert table["recall@5, documents"]["systems"]["haiku"]["ratio"] == Spread(1, 1, 1)


def test_a_system_that_failed_is_in_no_table(case: MakeCase) -> None:
    here: list[Place] = [("a.pdf", 1)]
    gone = replace(with_runs("haiku"), failed="no network")
    table = versus.compare([with_runs("ours", run(1, here)), gone], [case("a", ("a.pdf", 1))], 1)
    assert all(set(row["systems"]) == {"ours"} for row in table.values())


def test_only_answerable_cases_about_the_documents_given_are_asked(case: MakeCase) -> None:
    inside, partly = case("a", ("a.pdf", 1)), case("b", ("a.pdf", 1), ("b.txt", None))
    assert versus.about([inside, partly, case("c")], ["a.pdf"]) == [inside]


def test_what_cannot_be_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    nowhere = SYSTEMS["txtai"]._replace(packages=(f"{tmp_path}/nowhere",))
    with pytest.raises(Unavailable, match="can't be installed: Invalid requirement"):
        versus.environment("txtai", nowhere, tmp_path)


def test_an_environment_sees_our_packages_and_is_made_once(tmp_path: Path) -> None:
    package = tmp_path / "other"
    package.mkdir()
    (package / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "1"\n')
    (package / "other.py").write_text("")
    alone = SYSTEMS["txtai"]._replace(packages=("--no-build-isolation", str(package)))
    python = versus.environment("txtai", alone, tmp_path)
    stamp = (python.parents[1] / "installed").stat().st_mtime_ns
    assert versus.environment("txtai", alone, tmp_path) == python
    assert (python.parents[1] / "installed").stat().st_mtime_ns == stamp


def test_a_process_that_fails_leaves_its_last_words() -> None:
    with pytest.raises(Unavailable, match="KeyError: 'system'"):
        apart.run(Path(sys.executable), "eval.systems", {}, 60)


def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Unavailable, match="took longer than 0 s"):
        apart.run(Path(sys.executable), "eval.systems", {}, 0)


def test_ours_is_measured_and_shown_on_two_documents_of_our_own(
    models_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_BOT_MODELS__DIR", str(models_dir))
    arguments = ["--limit", "2", "--rounds", "1", "--systems", "ours", "--growth", "12"]
    assert versus.main([*arguments, "--json", "--plots", str(tmp_path)]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["documents"], told["pages"], told["questions"]) == (4, 27, 2)
    values = {title: row["systems"]["ours"]["value"] for title, row in told["metrics"].items()}
    assert set(values) == set(BY)
    assert all(value["middle"] > 0 for value in values.values())
    assert values["recall@5, documents"]["middle"] == 1
    (grown,) = told["growth"]
    assert (grown["chunks"], len(grown["query_s"]), len(grown["read_s"])) == (12, 2, 2)
    assert min(grown["read_s"]) > min(grown["query_s"])
    assert 0 < grown["embed_s"][0] < grown["add_s"][0]
    shown = "\n".join(versus._shown(told))
    assert "ingest, pages/s (higher is better)" in shown
    assert "query p95" in shown
    assert "read 10 p95" in shown
    assert "Seconds by number of chunks" in (tmp_path / "growth.svg").read_text()


@pytest.mark.parametrize("name", ["llamaindex", "langchain", "txtai"])
def test_another_system_finds_the_page_if_it_is_installed(
    name: str, models_dir: Path, embedder_folder: Path
) -> None:
    python = versus.ENVIRONMENTS / name / "bin" / "python"
    if not (python.parents[1] / "installed").is_file():
        pytest.skip(f"{name} is not installed: `make bench` does that, and nothing else needs it")
    asked = GoldenCase("a", "What does a missing key cost?", (), (PageRef("office_lease.pdf", 3),))
    each = Tested(name, SYSTEMS[name], python)
    file = apart.ROOT / "examples" / "office_lease.pdf"
    measured, versions = versus._run(each, [file], [asked.question], embedder_folder, 280)
    assert _scored("recall@5, documents", list(measured.rankings[0]), asked) == 1
    assert all(page in range(1, 6) for _, page in measured.rankings[0])
    assert versions[SYSTEMS[name].packages[0]]
    assert measured.disk_mb > 0


def _scored(title: str, found: list[Place], asked: GoldenCase) -> float | None:
    quality = next(each for each in QUALITIES if each.title == title)
    return quality.of(found, asked)
