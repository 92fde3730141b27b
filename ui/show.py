"""How the commands show what they did."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rag_bot.jsonable import jsonable

if TYPE_CHECKING:
    from ingest.report import FileResult, Progress, Report
    from rag_bot.scope import Scope
    from rag_bot.types import Answer, Message
    from ui.local import Local
    from ui.remote import Remote

WORDS = ("indexed", "moved", "unchanged", "removed", "skipped", "failed")


def speak(
    bot: Local | Remote,
    question: str,
    history: Sequence[Message],
    collection: str,
    scope: Scope | None = None,
    *,
    quiet: bool,
) -> Answer:
    """Print an answer as it comes, then what bears it out."""
    from rag_bot.types import Finished, Token

    draft = ""
    for event in bot.ask(question, history, collection, scope):
        if isinstance(event, Token):
            draft += event.text
            if not quiet:
                print(event.text, end="", flush=True)
        elif isinstance(event, Finished):
            if not quiet:
                _print_proof(event.answer, draft)
            return event.answer
    raise AssertionError("an answer ends with Finished")


def searched_for(answer: Answer) -> str:
    """What was searched for where that is not what was asked: completed, cut or put right."""
    from rag_bot.scope import without

    asked = " ".join(without(answer.question).split())
    return "" if " ".join(answer.query.split()) == asked else answer.query


def _print_proof(answer: Answer, draft: str) -> None:
    if not draft.strip().startswith(answer.text):
        if draft:
            print("\n\n(The draft above is not borne out by the documents. Instead:)\n")
        print(answer.text, end="")
    print()
    for verdict in answer.verdicts:
        if verdict.label != "supported" and not answer.abstained:
            print(f"  not found in the documents: {verdict.claim}")
    if answer.unresolved:
        named = ", ".join(f"[{n}]" for n in answer.unresolved)
        print(f"  the model named sources that do not exist: {named}")
    if searched := searched_for(answer):
        print(f"  searched for: {short(searched, 240)}")
    if answer.citations:
        print("\nSources")
        for cited in answer.citations:
            place = f"[{cited.marker}] {cited.document}, page {cited.page}"
            print(f"  {place}: “{short(cited.quote, 240)}”")
    elif answer.abstained and answer.sources:
        print("\nClosest passages")
        for source in answer.sources:
            place = f"{source.document}, page {source.chunk.page_start}"
            print(f"  {place}: {short(source.chunk.text, 120)}")


def read_question() -> str:
    """A line from the terminal; empty at its end."""
    try:
        return input("\n> ").strip()
    except EOFError:
        print()
        return ""


def watch(events: Iterator[Progress | Report], *, quiet: bool) -> Report:
    """Show an ingest's progress on standard error; returns its report."""
    from ingest.report import Report

    if quiet or not sys.stderr.isatty():
        for event in events:
            if isinstance(event, Report):
                return event
            if not quiet:
                _print_step(event, sys.stderr)
        raise AssertionError("an ingest ends with its report")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("indexing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[pages]} pages, {task.fields[rate]:.1f} pages/s"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[name]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, pages=0, rate=0.0, name="")
        for event in events:
            if isinstance(event, Report):
                return event
            elapsed = bar.tasks[0].elapsed or 1e-9
            bar.update(
                task,
                completed=event.done,
                total=event.total,
                pages=event.pages,
                rate=event.pages / elapsed,
                name=short(Path(event.result.path).name, 30),
            )
    raise AssertionError("an ingest ends with its report")


def _print_step(event: Progress, stream: TextIO) -> None:
    if event.result.status != "unchanged":
        place = f"{event.done}/{event.total}"
        line = f"{place:>9} {event.result.status:9} {event.result.path}"
        print(line + _why(event.result), file=stream)


def print_report(report: Report) -> None:
    """What a run did: the counts, then each file that needs a word."""
    counts = report.as_json()
    would = "would be " if report.dry_run else ""
    words = [f"{counts[word]} {would}{word}" for word in WORDS if counts[word]]
    print((", ".join(words) or "nothing to do") + f" in {report.seconds:.1f} s")
    for each in report.files:
        if each.status == "unchanged":
            continue
        said = _why(each)
        if report.dry_run or said or each.status in ("skipped", "failed", "moved", "removed"):
            print(f"  {each.status:8} {each.path}{said}")
    for warning in report.warnings:
        print(f"  warning  {warning}")


def _why(result: FileResult) -> str:
    parts = [f"{result.code}: {result.reason}" if result.code else result.reason]
    if result.moved_from:
        parts.append(f"from {result.moved_from}")
    if result.blank_pages:
        pages = ", ".join(map(str, result.blank_pages[:20]))
        more = ", …" if len(result.blank_pages) > 20 else ""
        parts.append(f"no text on page {pages}{more} (a scan?)")
    if result.remedy:
        parts.append(result.remedy)
    said = "; ".join(part for part in parts if part)
    return f": {said}" if said else ""


def print_json(data: object) -> None:
    """One JSON object on standard output."""
    print(json.dumps(jsonable(data), ensure_ascii=False, indent=1))


def moment(seconds: float | None) -> str:
    """A time as people read it, in their zone."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short(text: str, limit: int) -> str:
    """A text on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `40 s`, `25 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
