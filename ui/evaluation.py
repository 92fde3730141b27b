"""The commands `rag-bot eval …`: measure, compare, gate."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui import show
from ui.reach import DONE, IN_PART, load

if TYPE_CHECKING:
    from eval.judge import Judge
    from eval.rows import Row
    from eval.run import Step
    from eval.score import Scores
    from rag_bot.answer import Pipeline
    from rag_bot.config import Settings

METRICS, TIMINGS = "metrics.json", "timings.json"


def run(options: argparse.Namespace) -> int:
    """`eval run`: ask every case, keep every row, write the figures."""
    from eval import bench, cases
    from eval import run as runs

    settings = load(options).settings
    golden = cases.read(options.cases or bench.SHIPPED)
    if golden.drafts:
        print(f"{golden.drafts} drafts are left out until accepted", file=sys.stderr)
    plan = runs.Plan(
        golden, options.limit, options.seed, not options.retrieval_only, options.perplexity
    )
    begun = time.perf_counter()
    with over(options, settings) as pipeline:
        judge = _judge(options, settings)
        steps = runs.run(plan, pipeline, settings.collection, options.out, judge)
        _follow(steps, options.json)
    record, rows = runs.read(options.out)
    found = finish(options.out, record, rows, time.perf_counter() - begun)
    if options.json:
        show.print_json(json.loads((options.out / METRICS).read_text("utf-8")))
    else:
        print_scores(found)
        print(f"\nreport: {options.out / 'report.html'}")
    return IN_PART if found.failed else DONE


def report(options: argparse.Namespace) -> int:
    """`eval report`: figures and report anew from a run's rows, without a model."""
    from eval import run as runs

    record, rows = runs.read(options.run_dir)
    found = finish(options.run_dir, record, rows)
    print_scores(found)
    print(f"\nreport: {options.run_dir / 'report.html'}")
    return DONE


def finish(folder: Path, record: Any, rows: list[Row], seconds: float | None = None) -> Scores:
    """Write what follows from the rows: figures and report. Timings only when they were taken."""
    from eval import report as reports
    from eval import score

    found = score.scores(rows)
    (folder / METRICS).write_text(score.to_json(found), "utf-8")
    if seconds is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        taken = score.timings(rows) | {"wall_seconds": round(seconds, 1), "peak_memory_mb": peak}
        (folder / TIMINGS).write_text(json.dumps(taken, indent=1) + "\n", "utf-8")
    reports.write(folder, record, rows, found)
    return found


def compare(options: argparse.Namespace) -> int:
    """`eval compare`: paired differences of B minus A."""
    from eval import compare as comparing
    from eval import run as runs
    from rag_bot.jsonable import jsonable

    (first, before), (second, after) = runs.read(options.a), runs.read(options.b)
    found = comparing.compare(before, after)
    changed = comparing.settings_changed(first, second)
    if options.json:
        show.print_json({**jsonable(found), "settings": changed})
        return DONE
    for key, (was, now) in changed.items():
        print(f"{key}: {was} → {now}")
    print(f"{found.cases} cases in both, {found.unpaired} in one only")
    if found.failed_before or found.failed_after:
        print(f"failed to run: {found.failed_before} before, {found.failed_after} after")
    print(f"\n{'metric':22} {'B − A':>8}  {'95 % interval':19} {'p':>6} {'n':>6}")
    for name, each in found.metrics.items():
        sure = " *" if each.low > 0 or each.high < 0 else ""
        interval = f"{each.low:+.4f} to {each.high:+.4f}"
        print(f"{name:22} {each.mean:+8.4f}  {interval:19} {each.p:6.3f} {each.n:6}{sure}")
    for better, word in ((True, "now right"), (False, "now wrong")):
        cases = [case for case in found.changed if case.better == better]
        print(f"\n{word}: {len(cases)}")
        for case in cases[: options.cases]:
            print(f"  {case.id}: {case.question}")
            print(f"    {show.short(case.before, 100)}\n    → {show.short(case.after, 100)}")
        if len(cases) > options.cases:
            print(f"  … and {len(cases) - options.cases} more (--cases N shows more)")
    return DONE


def gate(options: argparse.Namespace) -> int:
    """`eval gate`: 1 when any guarded metric is worse by more than its margin beyond chance."""
    from eval import gate as gates
    from eval import run as runs

    guards = gates.guards(load(options).settings.eval.guards)
    (first, before), (second, after) = runs.read(options.baseline), runs.read(options.run_dir)
    gates.comparable(first, second)
    findings = gates.gate(before, after, guards)
    passed = all(each.passed for each in findings)
    if options.json:
        show.print_json({"passed": passed, "guards": findings})
        return DONE if passed else IN_PART
    if not passed:
        print(f"refused: {findings[0]}")
    else:
        print(f"passed: {len(guards)} guarded metrics, none worse beyond its margin and chance")
    print(
        f"\n{'guard':20} {'margin':>7} {'loss':>8}  {'95 % interval':19} {'seen from':>9} {'n':>6}"
    )
    for each in findings:
        mark = "" if each.passed else "  ✗"
        if each.said:
            print(f"{each.metric:20} {each.margin:7.3f} {each.said}{mark}")
            continue
        interval = f"{each.low:+.4f} to {each.high:+.4f}"
        # Of two runs that agree on every case, nothing can be said of chance.
        seen = f"{each.detectable:9.3f}" if each.detectable > each.margin else " " * 8 + "-"
        print(
            f"{each.metric:20} {each.margin:7.3f} {each.loss:+8.4f}  {interval:19}"
            f" {seen} {each.cases:6}{mark}"
        )
    print("\n“seen from”: the loss that this many cases show four times in five")
    return DONE if passed else IN_PART


def robustness(options: argparse.Namespace) -> int:
    """`eval robustness`: what is lost when questions or documents are disturbed."""
    from eval import bench, cases, disturb
    from eval import robustness as robust
    from rag_bot.errors import UsageError

    settings = load(options).settings
    golden = cases.read(options.cases or bench.SHIPPED)
    docs = options.docs or (_examples() if options.cases is None else None)
    if docs is None:
        raise UsageError("--cases without --docs: over which documents?", "give --docs DIR")
    results: list[robust.Result] = []

    def steps() -> Iterator[Step]:
        for event in robust.suite(
            settings,
            bench.engines(settings),
            docs,
            golden,
            options.out,
            _watch(options.json),
            names=options.only or disturb.NAMES,
            limit=options.limit,
            seed=options.seed,
            answers=not options.retrieval_only,
        ):
            if isinstance(event, robust.Result):
                results.append(event)
                if not options.json:
                    print(robust.lines([event])[-1])
            else:
                yield event

    _follow(steps(), options.json)
    robust.write(options.out, results)
    if options.json:
        show.print_json(json.loads((options.out / "robustness.json").read_text("utf-8")))
    return IN_PART if any(each.failed for each in results) else DONE


def judge_ui(options: argparse.Namespace) -> int:
    """`eval judge-ui`: serve the page where people judge, or say what they have said."""
    from eval import preferences

    if not options.report:
        from ui import judge

        judge.serve(
            options.a,
            options.b,
            options.out,
            options.rater,
            host=options.host,
            port=options.port,
            cases=options.cases,
            seed=options.seed,
            announce=lambda url: print(f"Judging at {url} (Ctrl-C ends)", flush=True),
        )
    if options.out.exists():
        print("\n".join(preferences.lines(preferences.report(preferences.read(options.out)))))
    return DONE


def draft(options: argparse.Namespace) -> int:
    """`eval cases`: draft golden cases from the user's own documents."""
    from eval import bench, cases
    from eval import draft as drafts
    from rag_bot.errors import UsageError

    if options.out.exists():
        raise UsageError(f"{options.out} exists", "give another --out")
    settings = load(options).settings
    loaded = bench.engines(settings)
    with bench.over([options.docs], settings, loaded, _watch(False)) as pipeline:
        texts = bench.pages(pipeline)
    found = drafts.draft(texts, count=options.count, seed=options.seed)
    cases.write(options.out, found)
    unanswerable = sum(not case.answerable for case in found)
    print(
        f"{len(found)} drafts, {unanswerable} of them unanswerable, in {options.out}\n"
        f'Read each; mend it or delete its line; remove the tag "{cases.DRAFT}" to accept it.'
    )
    return DONE


def print_scores(found: Scores) -> None:
    """The metrics with their intervals."""
    print(f"{found.cases} cases" + (f", {found.failed} failed to run" if found.failed else ""))
    print(f"\n{'metric':22} {'value':>7}  {'95 % interval':15} {'n':>6}")
    for name, each in found.metrics.items():
        print(f"{name:22} {each.mean:7.4f}  {each.low:.4f}–{each.high:.4f}   {each.n:6}")


@contextmanager
def over(options: argparse.Namespace, settings: Settings) -> Iterator[Pipeline]:
    """Over the documents given, or the user's collection, or the examples for the shipped set."""
    from eval import bench
    from rag_bot.answer import Pipeline
    from rag_bot.index import Index

    loaded = bench.engines(settings)
    docs = options.docs
    if docs is None and options.collection is None and options.cases is None:
        docs = _examples()
    if docs is not None:
        with bench.over(
            [docs], settings, loaded, _watch(getattr(options, "json", False))
        ) as pipeline:
            yield pipeline
        return
    with Index(settings.data_dir, wait=options.wait) as index:
        yield Pipeline(settings, index, *loaded)


def _examples() -> Path:
    """The documents that the shipped cases are about."""
    from eval import bench
    from rag_bot.errors import UsageError

    if not bench.EXAMPLES.is_dir():
        raise UsageError(
            f"the example documents are not at {bench.EXAMPLES}",
            "give --docs, or --cases of your own",
        )
    return bench.EXAMPLES


def _watch(quiet: bool) -> Any:
    return lambda events: show.watch(events, quiet=quiet)


def _judge(options: argparse.Namespace, settings: Settings) -> Judge | None:
    if options.judge is None:
        return None
    from eval.judge import Judge
    from ingest.lineage import COPIES
    from rag_bot import config, generate

    judging = config.load(options.judge).settings
    file = settings.data_dir / COPIES / "judged.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    return Judge(generate.load(judging), file)


def _follow(steps: Iterator[Step], quiet: bool) -> None:
    """Show how far a run is, on standard error."""
    if quiet or not sys.stderr.isatty():
        every = 20
        for step in steps:
            if not quiet and (step.done % every == 0 or step.done == step.total):
                print(f"{step.done}/{step.total}", file=sys.stderr)
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("asking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[question]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, question="")
        for step in steps:
            question = show.short(step.row.case.question, 50)
            bar.update(task, completed=step.done, total=step.total, question=question)
