"""The commands that change the index, and those that look after it."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rag_bot.errors import IndexDamaged, UsageError
from rag_bot.jsonable import jsonable
from ui import show
from ui.reach import DONE, IN_PART, load, reach

if TYPE_CHECKING:
    from ingest.report import Report
    from ingest.schedule import Outcome, Skip, State, Trigger
    from ingest.status import CollectionStatus
    from ingest.sync import Options
    from rag_bot.config import Settings
    from rag_bot.ledger import Run
    from ui.local import Local
    from ui.remote import Remote

_NAMED = 20


# Ingesting


def ingest(options: argparse.Namespace) -> int:
    """`ingest PATH…`, once or by schedule."""
    settings = load(options).settings
    if options.every or options.cron or options.watch:
        return _by_schedule(options, settings)
    report = _ingest_once(options, settings, "ingest", quiet=options.json)
    return _tell(report, options)


def _ingest_once(
    options: argparse.Namespace, settings: Settings, kind: str, *, quiet: bool
) -> Report:
    with reach(settings, options.wait) as bot:
        _warn_of_damage(bot)
        events = bot.ingest(options.paths, settings.collection, _extent(options), kind=kind)
        return show.watch(events, quiet=quiet)


def _extent(options: argparse.Namespace) -> Options:
    from ingest.sync import Options

    return Options(
        allow_removal=options.allow_removal,
        delete=not options.no_delete,
        dry_run=options.dry_run,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
    )


def _by_schedule(options: argparse.Namespace, settings: Settings) -> int:
    from ingest import schedule
    from ingest.files import resolve

    if options.dry_run or options.json:
        raise UsageError("--dry-run and --json are for a single run", "leave out the schedule")
    for path in options.paths:
        resolve(path)  # a slip of the pen is told now, not at three in the morning
    what = schedule.Schedule(
        settings.collection, tuple(options.paths), _trigger(options), _given(options)
    )

    def job() -> Outcome:
        report = _ingest_once(options, settings, "schedule", quiet=True)
        show.print_report(report)
        sys.stdout.flush()
        counts = report.as_json()
        words = [f"{counts[word]} {word}" for word in show.WORDS if counts[word]]
        return schedule.Outcome("ok" if report.complete else "in part", ", ".join(words))

    with _stopped_by_a_signal() as stop:
        schedule.run(what, job, settings.data_dir, stop=stop.is_set, tell=_teller())
    return DONE


def _trigger(options: argparse.Namespace) -> Trigger:
    from ingest import schedule

    chosen = [each for each in (options.every, options.cron, options.watch) if each]
    if len(chosen) > 1:
        raise UsageError("--every, --cron and --watch are three ways", "choose one")
    if options.every:
        return schedule.parse_every(options.every)
    return schedule.parse_cron(options.cron) if options.cron else schedule.Watch()


def _given(options: argparse.Namespace) -> tuple[str, ...]:
    flags = [
        flag
        for flag, set_ in (
            ("--allow-removal", options.allow_removal),
            ("--no-delete", options.no_delete),
        )
        if set_
    ]
    flags += [f"--include {pattern}" for pattern in options.include]
    flags += [f"--exclude {pattern}" for pattern in options.exclude]
    return tuple(flags)


def _teller() -> Callable[[State], None]:
    """Say each new thing about a schedule once."""
    said: set[tuple[str, object]] = set()

    def tell(state: State) -> None:
        lines: list[tuple[tuple[str, object], str]] = []
        if state.next_due and not (state.started and not state.ended):
            lines.append((("next", state.next_due), f"next run {show.moment(state.next_due)}"))
        if state.outcome == "failed" and state.ended:
            lines.append((("failed", state.ended), f"failed: {state.summary}"))
        for skip in state.skips[-1:]:
            lines.append((("skip", skip), _skip_line(skip)))
        for key, line in lines:
            if key not in said:
                said.add(key)
                print(f"{show.moment(time.time())}  {line}", flush=True)

    return tell


@contextmanager
def _stopped_by_a_signal() -> Iterator[threading.Event]:
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        # A run in progress is ended as Ctrl-C would: what is written stays, the rest comes next.
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield stop
    except KeyboardInterrupt:
        if not stop.is_set():
            raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(report: Report, options: argparse.Namespace) -> int:
    if options.json:
        show.print_json(report.as_json())
    else:
        show.print_report(report)
    return DONE if report.complete else IN_PART


def _warn_of_damage(bot: Local | Remote) -> None:
    from ui.local import Local

    if isinstance(bot, Local) and bot.index.damaged:
        names = ", ".join(bot.index.damaged[:_NAMED])
        print(
            f"{len(bot.index.damaged)} documents were damaged on disk and are out of the index"
            f" until they are read again: {names}",
            file=sys.stderr,
        )


# Deleting


def delete(options: argparse.Namespace) -> int:
    """`rag-bot delete`"""
    if bool(options.documents) == options.all:
        raise UsageError("name documents, or say --all", "`rag-bot documents` lists them")
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        gone = bot.delete(options.documents, settings.collection, everything=options.all)
    if options.json:
        show.print_json({"deleted": gone})
        return DONE
    for entry in gone:
        stays = not options.all and Path(entry.source).exists()
        note = "  (its file stays, and is kept out from now on)" if stays else ""
        print(f"deleted  {entry.source}{note}")
    return DONE


def undelete(options: argparse.Namespace) -> int:
    """`rag-bot undelete`"""
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        back = bot.undelete(options.documents, settings.collection)
    if options.json:
        show.print_json({"undeleted": back})
        return DONE
    for path in back:
        print(f"may come back  {path}")
    print("`ingest` reads them again.")
    return DONE


def forgotten(options: argparse.Namespace) -> int:
    """`rag-bot forgotten`"""
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        told = bot.forgotten(options.document, settings.collection, options.text)
    if options.json:
        show.print_json(told)
    else:
        for line in told.lines():
            print(line)
    return DONE if told.gone else IN_PART


# Care


def status(options: argparse.Namespace) -> int:
    """`ingest status`"""
    from ingest.status import status as look

    settings = load(options).settings
    found = look(settings.data_dir, options.runs)
    if options.json:
        data = jsonable(found)
        if found.owner:
            del data["owner"]["token"]
        show.print_json(data)
        return DONE
    if found.owner:
        at = f" and serves it at {found.owner.url}" if found.owner.url else ""
        print(f"process {found.owner.pid} has the index open{at}")
    if not found.collections:
        print(f"no index in {settings.data_dir} yet; `ingest PATH` makes it")
    for each in found.collections:
        name = each.collection.name
        _print_collection(each, next((r for r in found.runs if r.collection == name), None))
    if found.schedules:
        print("\nschedules")
    for state in found.schedules:
        _print_schedule(state)
    if found.runs:
        print("\nlast runs")
    for run in found.runs:
        print("  " + _run_line(run, running=found.owner is not None))
    return DONE


def _print_collection(each: CollectionStatus, last: Run | None) -> None:
    print(
        f"collection {each.collection.name!r}: {each.documents} documents, {each.chunks} chunks,"
        f" generation {each.collection.generation}"
    )
    for root in each.roots:
        patterns = [f"include {p}" for p in root.include] + [f"exclude {p}" for p in root.exclude]
        more = f"  ({', '.join(patterns)})" if patterns else ""
        print(f"  from {root.path}, last synced {show.moment(root.synced_at)}{more}")
    lines = {
        r.source: f"{r.code}: {r.reason}; {r.remedy}"
        for r in each.rejections
        if r.status == "failed"
    }
    for file in last.report.get("files", ()) if last else ():
        lines[file["path"]] = f"{file['code']}: {file['reason']}; {file['remedy']}"
    for path, why in list(lines.items())[:_NAMED]:
        print(f"  failed {path}: {why}")
    if len(lines) > _NAMED:
        print(f"  and {len(lines) - _NAMED} more that failed")
    if each.kept_out:
        print(f"  {each.kept_out} deleted documents are kept out")
    if each.debt.due:
        print("  a deletion is not complete: `ingest repair` ends it")
    if each.rebuilding:
        print("  a rebuild was begun and not ended: `ingest rebuild` goes on with it")


def _print_schedule(state: State) -> None:
    paths = " ".join(state.paths)
    held = f"process {state.pid}" if state.live else "not running"
    print(f"  {state.trigger}: {paths} into {state.collection!r} ({held})")
    if state.live and state.next_due:
        print(f"    next {show.moment(state.next_due)}")
    if state.started:
        print(
            f"    last {show.moment(state.started)}: {state.outcome or 'cut off'} {state.summary}"
        )
    for skip in state.skips[-5:]:
        print(f"    {_skip_line(skip)}")


def _skip_line(skip: Skip) -> str:
    if skip.count == 1:
        return f"skipped the run of {show.moment(skip.first)}: {skip.reason}"
    return (
        f"skipped {skip.count} runs from {show.moment(skip.first)}"
        f" to {show.moment(skip.last)}: {skip.reason}"
    )


def _run_line(run: Run, *, running: bool) -> str:
    report = run.report
    counts = ", ".join(f"{report[word]} {word}" for word in show.WORDS if report.get(word))
    cut_off = run.ended_at is None and not (running and run.outcome == "running")
    outcome = "cut off" if cut_off else run.outcome
    said = report.get("error") or counts or ("" if cut_off else "nothing to do")
    return f"{show.moment(run.started_at)}  {run.kind:9} {run.collection:12} {outcome:8} {said}"


def verify(options: argparse.Namespace) -> int:
    """`ingest verify`"""
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        findings = bot.verify(options.collection)
    if options.json:
        show.print_json({"differences": findings})
        return IN_PART if findings else DONE
    for each in findings:
        path = f" {each.path}" if each.path else ""
        print(f"{each.collection}: {each.place}:{path} {each.detail}")
    for remedy in dict.fromkeys(each.remedy for each in findings if each.remedy):
        print(f"→ {remedy}")
    print(f"{len(findings)} differences" if findings else "The index equals its folders.")
    return IN_PART if findings else DONE


def repair(options: argparse.Namespace) -> int:
    """`ingest repair`"""
    settings = load(options).settings
    with _reach_saving(settings, options.wait) as bot:
        _warn_of_damage(bot)
        report = show.watch(bot.repair(options.collection), quiet=options.json)
    return _tell(report, options)


def _reach_saving(settings: Settings, wait: float) -> Local | Remote:
    """The index; one whose catalogue can't be read is first made readable."""
    from ingest.salvage import salvage

    try:
        return reach(settings, wait)
    except IndexDamaged:
        for line in salvage(settings.data_dir).lines():
            print(line, file=sys.stderr)
        return reach(settings, wait)


def rebuild(options: argparse.Namespace) -> int:
    """`ingest rebuild`"""
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        events = bot.rebuild(
            settings.collection, settings.models.embedder, settings.ingest.chunk_tokens
        )
        report = show.watch(events, quiet=options.json)
    return _tell(report, options)


def backup(options: argparse.Namespace) -> int:
    """`ingest backup`"""
    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        made = bot.backup(options.file, overwrite=options.overwrite)
    if options.json:
        show.print_json(made)
    else:
        print(made.line())
    return DONE


def restore(options: argparse.Namespace) -> int:
    """`ingest restore`"""
    settings = load(options).settings
    with _reach_saving(settings, options.wait) as bot:
        made = bot.restore(options.file)
    if options.json:
        show.print_json(made)
    else:
        print(f"restored {made.line()}")
    return DONE
