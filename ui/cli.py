"""The commands `rag-bot` and `ingest`.

Parsing arguments imports nothing heavy, so that `--help` answers at once; each command imports
what it needs. Errors become one line here and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import rag_bot

if TYPE_CHECKING:
    from ingest.report import Progress, Report
    from rag_bot.config import Loaded, Settings
    from rag_bot.types import Answer, Message
    from ui.local import Local
    from ui.remote import Remote

DONE, IN_PART, WRONG, BROKEN = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; see `EXIT STATUS` in `rag-bot --help`."""
    from rag_bot.errors import RagBotError

    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except RagBotError as error:
        if getattr(options, "json", False):
            from ui.wire import error_to_json

            _print_json({"error": error_to_json(error)})
        print(f"{options.prog}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def ingest_main() -> int:
    """The command `ingest`: the same as `rag-bot ingest`."""
    return main(["ingest", *sys.argv[1:]])


# Arguments

_EPILOG = """\
exit status:
  0  done (an abstention is an answer)
  1  done in part, or a check found a difference
  2  wrong usage or configuration
  3  something needed is missing, broken or busy

environment:
  RAG_BOT_DATA_DIR       where the index is kept
  RAG_BOT_SECTION__KEY   any setting; `rag-bot config` lists them
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rag-bot",
        description="Answers questions about a private folder of documents, and proves them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rag-bot {rag_bot.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run, prog="ingest" if name == "ingest" else f"rag-bot {name}")
        made.add_argument(
            "--config-file", type=Path, metavar="FILE", help="read FILE as rag-bot.toml"
        )
        made.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override any setting, e.g. --set retrieval.top_k=6",
        )
        return made

    def on_index(made: argparse.ArgumentParser, with_json: bool = True) -> argparse.ArgumentParser:
        made.add_argument("--collection", metavar="NAME", help="the collection to use")
        made.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="wait for an index that another process uses (default: fail at once)",
        )
        if with_json:
            _json_flag(made)
        return made

    made = on_index(
        command(
            "ingest", _ingest, "index files and folders", "ingest ./docs --collection contracts"
        )
    )
    made.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file or a folder")
    made.add_argument(
        "--allow-removal",
        action="store_true",
        help="let documents go whose files are gone, even if they are more than a third",
    )

    made = on_index(
        command("ask", _ask, "answer one question", 'rag-bot ask "When does the lease end?"')
    )
    made.add_argument("question", metavar="QUESTION")
    made.add_argument("--top-k", type=int, metavar="N", help="sources shown to the model")

    on_index(
        command("chat", _chat, "hold a conversation in the terminal", "rag-bot chat"),
        with_json=False,
    )

    made = on_index(
        command(
            "search", _search, "find passages, without a model", 'rag-bot search "notice period"'
        )
    )
    made.add_argument("query", metavar="QUERY")
    made.add_argument("--top-k", type=int, metavar="N", help="how many passages (default: 10)")

    on_index(command("documents", _documents, "list what is indexed", "rag-bot documents --json"))

    made = on_index(
        command(
            "delete", _delete, "take documents out of the index", "rag-bot delete old_lease.pdf"
        )
    )
    made.add_argument(
        "documents", nargs="*", metavar="DOCUMENT", help="an id, a path or a file name"
    )
    made.add_argument("--all", action="store_true", help="all documents, and the collection itself")

    made = command("models", _models, "list, fetch or check the models", "rag-bot models pull")
    made.add_argument("action", nargs="?", choices=("list", "pull", "verify"), default="list")
    made.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    _json_flag(made)

    _json_flag(command("config", _config, "show every setting and its origin", "rag-bot config"))
    _json_flag(
        command("doctor", _doctor, "find out what is wrong and how to mend it", "rag-bot doctor")
    )

    made = command("serve", _serve, "serve the chat in a browser", "rag-bot serve --port 8000")
    made.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    made.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    return parser


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _load(options: argparse.Namespace) -> Loaded:
    from rag_bot import config
    from rag_bot.errors import UsageError

    flags: dict[str, Any] = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: no value", "write --set KEY=VALUE")
        flags[key] = value
    given = {
        "collection": getattr(options, "collection", None),
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
    }
    flags |= {key: value for key, value in given.items() if value is not None}
    if options.run is _ask and options.top_k is not None:
        flags["retrieval.top_k"] = options.top_k
    return config.load(options.config_file, flags)


def _open(settings: Settings, wait: float) -> Local | Remote:
    """The index itself, or the running server that owns it."""
    from rag_bot.index import owner

    who = owner(settings.data_dir)
    if who and who.url:
        from ui.remote import Remote

        return Remote(who)
    from ui.local import Local

    return Local(settings, wait=wait)


def _print_json(data: object) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=1))


# Commands


def _ingest(options: argparse.Namespace) -> int:
    settings = _load(options).settings
    with _open(settings, options.wait) as bot:
        events = bot.ingest(options.paths, settings.collection, allow_removal=options.allow_removal)
        report = _watch(events, quiet=options.json)
    if options.json:
        _print_json(report.as_json())
    else:
        _print_report(report)
    return DONE if report.complete else IN_PART


def _ask(options: argparse.Namespace) -> int:
    import dataclasses

    settings = _load(options).settings
    with _open(settings, options.wait) as bot:
        answer = _speak(bot, options.question, (), settings.collection, quiet=options.json)
    if options.json:
        _print_json(dataclasses.asdict(answer))
    return DONE


def _chat(options: argparse.Namespace) -> int:
    from rag_bot.types import Message

    settings = _load(options).settings
    history: list[Message] = []
    with _open(settings, options.wait) as bot:
        print("Ask about your documents. An empty line or Ctrl-D ends the conversation.")
        while question := _read_question():
            answer = _speak(bot, question, history, settings.collection, quiet=False)
            history += [Message("user", question), Message("assistant", answer.text)]
    return DONE


def _search(options: argparse.Namespace) -> int:
    from rag_bot.errors import UsageError

    if options.top_k is not None and options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: at least 1", "leave it out for 10")
    settings = _load(options).settings
    with _open(settings, options.wait) as bot:
        sources = bot.search(options.query, settings.collection, options.top_k or 10)
    if options.json:
        results = [
            {
                "rank": source.marker,
                "document": source.source,
                "page_start": source.chunk.page_start,
                "page_end": source.chunk.page_end,
                "heading": source.chunk.heading,
                "chunk_id": source.chunk.id,
                "score": source.score,
                "text": source.chunk.text,
            }
            for source in sources
        ]
        _print_json({"query": options.query, "results": results})
        return DONE
    for source in sources:
        heading = f" · {source.chunk.heading}" if source.chunk.heading else ""
        print(f"{source.marker}. {source.document}, page {source.chunk.page_start}{heading}")
        print(f"   {_short(source.chunk.text, 300)}\n")
    if not sources:
        print("Nothing found.")
    return DONE


def _documents(options: argparse.Namespace) -> int:
    import dataclasses

    settings = _load(options).settings
    with _open(settings, options.wait) as bot:
        entries = bot.documents(settings.collection)
    if options.json:
        _print_json(
            {
                "collection": settings.collection,
                "documents": [dataclasses.asdict(entry) for entry in entries],
            }
        )
        return DONE
    for entry in entries:
        print(f"{entry.pages:5} pages {entry.chunks:6} chunks  {entry.source}")
    print(f"{len(entries)} documents in collection {settings.collection!r}")
    return DONE


def _delete(options: argparse.Namespace) -> int:
    import dataclasses

    from rag_bot.errors import UsageError

    if bool(options.documents) == options.all:
        raise UsageError("name documents, or say --all", "`rag-bot documents` lists them")
    settings = _load(options).settings
    with _open(settings, options.wait) as bot:
        gone = bot.delete(options.documents, settings.collection, everything=options.all)
    if options.json:
        _print_json({"deleted": [dataclasses.asdict(entry) for entry in gone]})
        return DONE
    for entry in gone:
        print(f"deleted  {entry.source}")
    return DONE


def _models(options: argparse.Namespace) -> int:
    from rag_bot import models
    from rag_bot.errors import RagBotError, UsageError

    settings = _load(options).settings
    unknown = [name for name in options.names if name not in models.RELEASES]
    if unknown:
        raise UsageError(f"no model {unknown[0]!r}", "there are " + ", ".join(models.RELEASES))
    releases = [models.RELEASES[name] for name in options.names or models.RELEASES]
    rows: list[dict[str, str]] = []
    status = DONE
    for release in releases:
        place = settings.models.dir / release.name
        state = "ready"
        try:
            if options.action == "pull":
                models.pull(release, settings.models.dir, lambda line: print(line, file=sys.stderr))
            models.locate(release.name, settings.models.dir)
            if options.action == "verify":
                models.verify(place, deep=True)
        except RagBotError as error:
            if options.action == "pull":
                raise
            state = str(error)
            status = error.exit_status if options.action == "verify" else status
        rows.append(
            {
                "name": release.name,
                "kind": release.kind,
                "license": release.license,
                "origin": f"{release.package}=={release.version}",
                "path": str(place),
                "state": state,
            }
        )
    if options.json:
        _print_json({"models": rows})
    else:
        for row in rows:
            print(f"{row['name']:24} {row['kind']:9} {row['license']:11} {row['state']}")
    return status


def _config(options: argparse.Namespace) -> int:
    rows = [
        {
            "key": setting.key,
            "value": "***"
            if setting.key == "models.endpoint_key" and setting.value
            else setting.value,
            "origin": setting.origin,
            "description": setting.description,
        }
        for setting in _load(options).explain()
    ]
    if options.json:
        print(json.dumps({"settings": rows}, ensure_ascii=False, indent=1, default=str))
        return DONE
    for row in rows:
        value = "" if row["value"] is None else row["value"]
        print(f"{row['key']:28} = {value!s:32} [{row['origin']}]  {row['description']}")
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    from ui.doctor import examine

    findings = list(examine(_load(options)))
    if options.json:
        _print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok   ' if not finding.status else 'WRONG'} {finding.what}: {finding.detail}")
            if finding.remedy:
                print(f"      → {finding.remedy}")
    return max(finding.status for finding in findings)


def _serve(options: argparse.Namespace) -> int:
    from ui.server import serve

    settings = _load(options).settings
    if settings.server.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"rag-bot serve: {settings.server.host} can be reached from other machines, and the"
            " page asks for no password: anyone there can read your documents",
            file=sys.stderr,
        )
    serve(settings, lambda url: print(f"Serving at {url} (Ctrl-C stops it)", flush=True))
    return DONE


# Showing


def _speak(
    bot: Local | Remote,
    question: str,
    history: Sequence[Message],
    collection: str,
    *,
    quiet: bool,
) -> Answer:
    """Print an answer as it comes, then what bears it out."""
    from rag_bot.types import Finished, Token

    draft = ""
    for event in bot.ask(question, history, collection):
        if isinstance(event, Token):
            draft += event.text
            if not quiet:
                print(event.text, end="", flush=True)
        elif isinstance(event, Finished):
            if not quiet:
                _print_proof(event.answer, draft)
            return event.answer
    raise AssertionError("an answer ends with Finished")


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
    if answer.citations:
        print("\nSources")
        for cited in answer.citations:
            place = f"[{cited.marker}] {cited.document}, page {cited.page}"
            print(f"  {place}: “{_short(cited.quote, 240)}”")
    elif answer.abstained and answer.sources:
        print("\nClosest passages")
        for source in answer.sources:
            place = f"{source.document}, page {source.chunk.page_start}"
            print(f"  {place}: {_short(source.chunk.text, 120)}")


def _read_question() -> str:
    try:
        return input("\n> ").strip()
    except EOFError:
        print()
        return ""


def _watch(events: Iterator[Progress | Report], *, quiet: bool) -> Report:
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
                name=_short(Path(event.result.path).name, 30),
            )
    raise AssertionError("an ingest ends with its report")


def _print_step(event: Progress, stream: TextIO) -> None:
    if event.result.status != "unchanged":
        reason = f"  {event.result.reason}" if event.result.reason else ""
        place = f"{event.done}/{event.total}"
        print(f"{place:>9} {event.result.status:9} {event.result.path}{reason}", file=stream)


def _print_report(report: Report) -> None:
    data = report.as_json()
    words = ("indexed", "unchanged", "removed", "skipped", "failed")
    print(", ".join(f"{data[word]} {word}" for word in words) + f" in {report.seconds:.1f} s")
    for each in report.files:
        if each.status in ("skipped", "failed"):
            print(f"  {each.status:8} {each.path}: {each.reason}")
        elif each.status == "indexed" and each.reason:
            print(f"  note     {each.path}: {each.reason}")
    for warning in report.warnings:
        print(f"  warning  {warning}")


def _short(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
