"""Side by side with others: `python -m eval.versus`, or `make bench`.

The same PDFs, the same embedder and the same questions for each system, the rest as its own guide
starts it (`eval.systems`). Each run is a process of its own with an empty folder; the systems take
turns, in another order each round, so that the machine's drift meets all of them. Models are loaded
and warmed up before the clock starts; how long that takes is stated beside it.

Ratios of times and sizes are theirs to ours within one round: the median of the rounds, and the
lowest and highest. Quality does not change from round to round: its ratio is of means over the
questions, with the 95 % interval over documents (`eval.metrics.bootstrap`).

The others' packages go into environments of their own below `.bench-venv/`, on top of ours and
within its pins. A system that can't be installed or fails is listed with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pypdfium2

from eval import apart, bench, cases, growth, plots
from eval.cases import GoldenCase
from eval.metrics import bootstrap, latency
from eval.metrics.ndcg import ndcg
from eval.metrics.recall import recall
from eval.systems import DEPTH, SHOWN, SYSTEMS, Place, System
from rag_bot import config, models
from rag_bot.errors import RagBotError, Unavailable, UsageError
from rag_bot.jsonable import jsonable
from rag_bot.rewrite import standalone
from rag_bot.sentences import sentences as sentences_of

OURS = "ours"
ENVIRONMENTS = apart.ROOT / ".bench-venv"
SIZES = (1_000, 10_000, 100_000)


class Spread(NamedTuple):
    """The middle of some measurements, and how far they reach.

    Of rounds: their median, the lowest and the highest. Of questions: the mean and its interval.
    """

    middle: float
    low: float
    high: float


class Run(NamedTuple):
    """One run of one system. `rankings`: for each question where its chunks are from."""

    load_s: float
    ingest_s: float
    query_s: tuple[float, ...]
    rankings: tuple[tuple[Place, ...], ...]
    memory_mb: float
    disk_mb: float


class Metric(NamedTuple):
    """What is taken of a run over so many pages."""

    title: str
    higher_is_better: bool
    of: Callable[[Run, int], float]


class Quality(NamedTuple):
    """A metric of rankings, question by question; None where a system does not tell pages."""

    title: str
    of: Callable[[Sequence[Place], GoldenCase], float | None]


@dataclass
class Tested:
    """A system's runs, one a round, or why there are none."""

    name: str
    system: System
    python: Path
    runs: list[Run] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failed: str = ""


METRICS = (
    Metric("ingest, pages/s", True, lambda run, pages: pages / run.ingest_s),
    Metric("query p50, ms", False, lambda run, _: 1000 * _percentiles(run).p50),
    Metric("query p95, ms", False, lambda run, _: 1000 * _percentiles(run).p95),
    Metric("peak memory, MB", False, lambda run, _: run.memory_mb),
    Metric("disk, MB", False, lambda run, _: run.disk_mb),
    Metric("loading models, s", False, lambda run, _: run.load_s),
)
QUALITIES = (
    Quality("nDCG@10, pages", lambda found, case: _by_page(ndcg, found, case, 10)),
    Quality("recall@5, pages", lambda found, case: _by_page(recall, found, case, 5)),
    Quality("nDCG@10, documents", lambda found, case: _by_document(ndcg, found, case, 10)),
    Quality("recall@5, documents", lambda found, case: _by_document(recall, found, case, 5)),
)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one measurement."""
    return Spread(median(values), min(values), max(values))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Theirs to ours, round by round."""
    return spread([their / our for their, our in zip(theirs, ours, strict=True)])


def about(golden: Iterable[GoldenCase], names: Iterable[str]) -> list[GoldenCase]:
    """The answerable cases whose documents are all among these."""
    there = set(names)
    return [
        case
        for case in golden
        if case.relevant and all(ref.document in there for ref in case.relevant)
    ]


def compare(tested: Sequence[Tested], asked: Sequence[GoldenCase], pages: int) -> dict[str, Any]:
    """For each metric, each system's value and its ratio to ours, as `Spread`s."""
    ours = next(each for each in tested if each.name == OURS)
    table: dict[str, Any] = {}
    for metric in METRICS:
        base = [metric.of(run, pages) for run in ours.runs]
        rows: dict[str, dict[str, Spread | None]] = {}
        for each in tested:
            measured = [metric.of(run, pages) for run in each.runs]
            if measured:
                rows[each.name] = {"value": spread(measured), "ratio": ratios(measured, base)}
        table[metric.title] = {"higher_is_better": metric.higher_is_better, "systems": rows}
    clusters = [case.cluster for case in asked]
    for quality in QUALITIES:
        scores = {each.name: _scores(quality, each, asked) for each in tested if each.runs}
        rows = {}
        for name, values in scores.items():
            found = bootstrap.interval(values, clusters)
            if found:
                value = Spread(found.mean, found.low, found.high)
                ratio = _ratio_of_means(values, scores[OURS], clusters)
                rows[name] = {"value": value, "ratio": ratio}
        if rows:
            table[quality.title] = {"higher_is_better": True, "systems": rows}
    return table


def environment(name: str, system: System, folder: Path) -> Path:
    """The Python that has a system's packages, made in `folder` unless it is there already.

    It sees our packages behind its own. Raises Unavailable with pip's reason.
    """
    if not system.packages:
        return Path(sys.executable)
    place = folder / name
    python = place / "bin" / "python"
    pins = [
        line
        for line in (apart.ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line.partition("==")[0] not in system.loosened
    ]
    wanted = "\n".join([*pins, *system.packages])
    made = place / "installed"
    if made.is_file() and made.read_text("utf-8") == wanted:
        return python
    print(f"installing {system.title} in {place}", file=sys.stderr)
    venv.create(place, clear=True, with_pip=False)
    behind = sysconfig.get_path("purelib")
    for packages in place.glob("lib/python*/site-packages"):
        (packages / "pinned.pth").write_text(behind + "\n", "utf-8")
    constraints = place / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n", "utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
    done = subprocess.run([*pip, *system.packages], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or ["pip failed"])[0].removeprefix("ERROR: ")[:300]
        raise Unavailable(f"can't be installed: {reason}")
    if system.unwanted:
        away = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *system.unwanted]
        subprocess.run(away, capture_output=True, check=False)
    made.write_text(wanted, "utf-8")
    return python


def measure(
    wanted: Sequence[str],
    files: Sequence[Path],
    asked: Sequence[GoldenCase],
    model: Path,
    rounds: int,
    environments: Path,
    patience: float,
) -> list[Tested]:
    """Every system in every round. One that fails is not tried again.

    Raises Unavailable where ours does: there is nothing to compare with.
    """
    tested = []
    for name in wanted:
        system = SYSTEMS[name]
        try:
            tested.append(Tested(name, system, environment(name, system, environments)))
        except Unavailable as error:
            tested.append(Tested(name, system, Path(), failed=str(error)))
    questions = [standalone(case.question, case.history) for case in asked]
    for number in range(rounds):
        # Each round begins with another.
        for each in (*tested[number % len(tested) :], *tested[: number % len(tested)]):
            if each.failed:
                continue
            print(f"round {number + 1} of {rounds}: {each.system.title}", file=sys.stderr)
            try:
                run, each.versions = _run(each, files, questions, model, patience)
            except Unavailable as error:
                if each.name == OURS:
                    raise
                each.failed = str(error)
                each.runs.clear()
            else:
                each.runs.append(run)
    return tested


def _run(
    each: Tested, files: Sequence[Path], questions: Sequence[str], model: Path, patience: float
) -> tuple[Run, dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="rag-bot-versus-") as scratch:
        docs, work = Path(scratch, "docs"), Path(scratch, "work")
        docs.mkdir()
        work.mkdir()
        for file in files:
            shutil.copy(file, docs)
        task = {
            "system": each.name,
            "model": str(model),
            "docs": str(docs),
            "work": str(work),
            "questions": questions,
        }
        ended = apart.run(each.python, "eval.systems", task, patience)
        result = ended.result
        found = tuple(tuple((name, page) for name, page in one) for one in result["rankings"])
        run = Run(
            result["load_s"],
            result["ingest_s"],
            tuple(result["query_s"]),
            found,
            ended.memory_mb,
            apart.folder_mb(work),
        )
        return run, result["versions"]


def _percentiles(run: Run) -> latency.Latency:
    found = latency.latency(run.query_s)
    assert found is not None, "at least one question is asked"
    return found


Measure = Callable[[Sequence[Any], frozenset[Any], int], float]


def _by_page(measure: Measure, found: Sequence[Place], case: GoldenCase, k: int) -> float | None:
    """None where the case names no page, or the system none."""
    relevant = frozenset((ref.document, ref.page) for ref in case.relevant)
    if any(page is None for _, page in (*relevant, *found)):
        return None
    return measure(list(dict.fromkeys(found)), relevant, k)


def _by_document(measure: Measure, found: Sequence[Place], case: GoldenCase, k: int) -> float:
    relevant = frozenset(ref.document for ref in case.relevant)
    return measure(list(dict.fromkeys(name for name, _ in found)), relevant, k)


def _scores(quality: Quality, each: Tested, asked: Sequence[GoldenCase]) -> list[float | None]:
    """Of the first run: an index made anew of the same files finds the same."""
    pairs = zip(each.runs[0].rankings, asked, strict=True)
    return [quality.of(found, case) for found, case in pairs]


def _ratio_of_means(
    theirs: Sequence[float | None], ours: Sequence[float | None], clusters: Sequence[str]
) -> Spread | None:
    """With its 95 % interval. None where ours is 0, or nothing is known of both."""
    pairs = [
        (their, our, cluster)
        for their, our, cluster in zip(theirs, ours, clusters, strict=True)
        if their is not None and our is not None
    ]

    def ratio(drawn: Sequence[tuple[float, float, str]]) -> float | None:
        below = sum(our for _, our, _ in drawn)
        return sum(their for their, _, _ in drawn) / below if below else None

    if not pairs:
        return None
    found = bootstrap.interval_of(ratio, pairs, [cluster for _, _, cluster in pairs])
    return found and Spread(found.mean, found.low, found.high)


def _shown(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as lines of text."""
    titles = {name: each["title"] for name, each in report["systems"].items()}
    width = max(map(len, titles.values())) + 2
    yield (
        f"{report['documents']} PDFs, {report['pages']} pages, {report['questions']} questions;"
        f" {report['rounds']} rounds; {report['machine']}"
    )
    for title, metric in report["metrics"].items():
        better = "higher" if metric["higher_is_better"] else "lower"
        yield f"\n{title} ({better} is better); in brackets, to ours"
        for name, row in metric["systems"].items():
            value, ratio = Spread(*row["value"].values()), row["ratio"]
            line = f"  {titles[name]:{width}}{value.middle:10.4g}  {value.low:.4g}–{value.high:.4g}"
            if name != OURS and ratio:
                line += "  [×{middle:.2f}, {low:.2f}–{high:.2f}]".format(**ratio)
            yield line
    yield ""
    for each in report["systems"].values():
        versions = ", ".join(
            f"{package} {version}" for package, version in each["versions"].items()
        )
        notes = [each["failed"] and f"FAILED: {each['failed']}", each["note"], versions]
        yield f"{each['title']}: {'; '.join(note for note in notes if note)}"
    if report["growth"]:
        yield "\nours as it grows (sentences drawn at random, random vectors)"
        heads = ["chunks", "query p50", "query p95", f"read {growth.READ} p95", "open", "add 1"]
        heads += ["embed it", "build", "disk", "memory"]
        yield "".join(f"{head:>11}" for head in heads)
        for row in report["growth"]:
            asked, read = latency.latency(row["query_s"]), latency.latency(row["read_s"])
            assert asked is not None, "at least one question is asked"
            seconds = [asked.p50, asked.p95, read.p95 if read else 0.0, median(row["open_s"])]
            seconds += [median(row["add_s"]), median(row["embed_s"]), row["build_s"]]
            cells = [f"{row['chunks']:,}", *map(plots.duration, seconds)]
            cells += [f"{row['disk_mb']:.0f} MB", f"{row['memory_mb']:.0f} MB"]
            yield "".join(f"{cell:>11}" for cell in cells)


def _write_plots(report: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    titles = {name: each["title"] for name, each in report["systems"].items()}
    rows = {
        title: {
            titles[name]: (row["ratio"]["middle"], row["ratio"]["low"], row["ratio"]["high"])
            for name, row in metric["systems"].items()
            if name != OURS and row["ratio"]
        }
        for title, metric in report["metrics"].items()
    }
    compared = {title: row for title, row in rows.items() if row}
    if compared:
        (folder / "versus.svg").write_text(plots.ratios("versus", compared), "utf-8")
    if report["growth"]:
        lines: dict[str, dict[int, float]] = {"query p50": {}, "query p95": {}, "add 1": {}}
        for row in report["growth"]:
            asked = latency.latency(row["query_s"])
            assert asked is not None, "at least one question is asked"
            lines["query p50"][row["chunks"]] = asked.p50
            lines["query p95"][row["chunks"]] = asked.p95
            lines["add 1"][row["chunks"]] = median(row["add_s"])
        (folder / "growth.svg").write_text(plots.growth("growth", lines), "utf-8")


def _machine() -> str:
    threads = os.environ.get("OMP_NUM_THREADS", "as torch likes")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},"
        f" threads {threads}, load {os.getloadavg()[0]:.1f} at the start"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.versus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--docs", type=Path, default=bench.EXAMPLES, help="a folder of PDFs (default: examples/)"
    )
    parser.add_argument(
        "--cases", type=Path, default=bench.SHIPPED, help="golden cases about them, as JSON lines"
    )
    parser.add_argument("--limit", type=int, help="ask so many cases only, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each system (default: 5)")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=list(SYSTEMS),
        default=list(SYSTEMS),
        help="which (ours is always among them; default: all)",
    )
    parser.add_argument(
        "--growth",
        type=int,
        nargs="*",
        metavar="CHUNKS",
        default=list(SIZES),
        help="sizes at which ours is measured as it grows (default: 1000 10000 100000;"
        " with no number, none)",
    )
    parser.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, help="where the others are installed"
    )
    parser.add_argument(
        "--patience", type=float, default=7200, help="seconds that one run may take"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="write versus.svg and growth.svg there"
    )
    return parser


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Everything measured, as JSON can hold it. Raises RagBotError."""
    files = sorted(options.docs.glob("*.pdf"))
    if not files:
        raise UsageError(f"no PDF in {options.docs}", "give another --docs")
    golden = about(cases.read(options.cases).cases, [file.name for file in files])
    asked = cases.sample(golden, options.limit, options.seed)
    if not asked:
        raise UsageError(
            f"no answerable case of {options.cases} is about the PDFs in {options.docs} alone",
            "give the --cases that belong to these --docs",
        )
    if options.rounds < 1 or any(size < 1 for size in options.growth):
        raise UsageError("--rounds and --growth count from 1", "give another number")
    pages = sum(_page_count(file) for file in files)
    machine = _machine()
    settings = config.load().settings
    model = models.locate(settings.models.embedder, settings.models.dir)
    wanted = [OURS, *(name for name in SYSTEMS if name in options.systems and name != OURS)]
    tested = measure(
        wanted, files, asked, model, options.rounds, options.environments, options.patience
    )
    grown = []
    sentences = _sentences(files)
    questions = [standalone(case.question, case.history) for case in asked]
    for size in options.growth:
        print(f"growth: {size:,} chunks", file=sys.stderr)
        grown.append(
            growth.grow(
                size, sentences, questions, model, options.rounds, options.patience, options.seed
            )
        )
    found: dict[str, Any] = jsonable(
        {
            "machine": machine,
            "embedder": model.name,
            "documents": len(files),
            "pages": pages,
            "questions": len(asked),
            "rounds": options.rounds,
            "chunks_timed": SHOWN,
            "chunks_scored": DEPTH,
            "systems": {
                each.name: {
                    "title": each.system.title,
                    "note": each.system.note,
                    "failed": each.failed,
                    "versions": each.versions,
                    "runs": [run._replace(rankings=()) for run in each.runs],
                }
                for each in tested
            },
            "metrics": compare(tested, asked, pages),
            "growth": grown,
        }
    )
    return found


def _page_count(file: Path) -> int:
    with contextlib.closing(pypdfium2.PdfDocument(file)) as document:
        return len(document)


def _sentences(files: Sequence[Path]) -> list[str]:
    """Those of the PDFs' text, each once, in their order."""
    found: dict[str, None] = {}
    for file in files:
        with contextlib.closing(pypdfium2.PdfDocument(file)) as document:
            for page in document:
                text = " ".join(page.get_textpage().get_text_range().split())
                found |= dict.fromkeys(text[span.start : span.end] for span in sentences_of(text))
    if not found:
        raise UsageError("the PDFs have no text to grow from", "give another --docs")
    return list(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or JSON."""
    options = _parser().parse_args(arguments)
    try:
        found = report(options)
    except RagBotError as error:
        print(f"eval.versus: {error}", file=sys.stderr)
        return error.exit_status
    if options.plots:
        _write_plots(found, options.plots)
    print(json.dumps(found, indent=1) if options.json else "\n".join(_shown(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
