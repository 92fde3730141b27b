"""The commands `rag-bot` and `ingest`.

Parsing arguments imports nothing heavy, so that `--help` answers at once; each command imports
what it needs. Errors become one line here and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rag_bot
from ui import show
from ui.reach import DONE, load, reach

if TYPE_CHECKING:
    from rag_bot.scope import Scope
    from rag_bot.types import Message

CARE = ("status", "verify", "repair", "rebuild", "backup", "restore")
"""What `ingest` does besides ingesting. A folder of that name is given as `./status`."""
MEASURES = ("run", "report", "compare", "gate", "robustness", "cases", "judge-ui")
"""What `rag-bot eval` does."""
LESSONS = (
    "examples", "train", "evaluate", "promote", "rollback", "list", "loop", "reader", "export"
)  # fmt: skip
"""What `rag-bot finetune` does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; see `EXIT STATUS` in `rag-bot --help`."""
    from rag_bot.errors import RagBotError

    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except RagBotError as error:
        if getattr(options, "json", False):
            from ui.wire import error_to_json

            show.print_json({"error": error_to_json(error)})
        print(f"{options.prog}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """A command line as options, `run` among them; wrong usage ends the process with status 2."""
    given = list(arguments)
    for first, seconds in (("ingest", CARE), ("eval", MEASURES), ("finetune", LESSONS)):
        if given[:1] == [first] and given[1:2] and given[1] in seconds:
            given[:2] = [f"{first} {given[1]}"]
    # Followed by none of its commands: then those are what is told about.
    family = given[0] if given[:1] in (["eval"], ["finetune"]) else ""
    return _parser(family).parse_args(given[1:] if family else given)


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


def _parser(family: str = "") -> argparse.ArgumentParser:
    """All commands, or those whose first word is `family`."""
    parser = argparse.ArgumentParser(
        prog="rag-bot",
        description="Answers questions about a private folder of documents, and proves them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rag-bot {rag_bot.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    aside = argparse.ArgumentParser().add_subparsers()

    def command(name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
        shown = name.startswith(f"{family} ") or not family
        made = (commands if shown else aside).add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        prog = name if name.startswith("ingest") else f"rag-bot {name}"
        made.set_defaults(run=run, prog=prog)
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
        _wait_flag(made)
        if with_json:
            _json_flag(made)
        return made

    made = on_index(
        command(
            "ingest",
            _upkeep("ingest"),
            "make a collection equal files and folders",
            "ingest ./docs --exclude 'drafts/' --every 30m\n\nlooking after the index"
            f" (each has --help):\n  ingest {{{','.join(CARE)}}}",
        )
    )
    made.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file or a folder")
    made.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="read only files that match this `.gitignore` pattern; may be repeated",
    )
    made.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out what matches this pattern; may be repeated",
    )
    made.add_argument("--dry-run", action="store_true", help="say what would happen; write nothing")
    made.add_argument(
        "--no-delete", action="store_true", help="keep documents whose files are gone"
    )
    made.add_argument(
        "--allow-removal",
        action="store_true",
        help="let documents go whose files are gone, even if they are more than a third",
    )
    made.add_argument("--every", metavar="TIME", help="again and again, e.g. 30m or 12h")
    made.add_argument("--cron", metavar="EXPRESSION", help='by the clock, e.g. "0 3 * * *"')
    made.add_argument("--watch", action="store_true", help="whenever something changes")

    made = command(
        "ingest status",
        _upkeep("status"),
        "show the last runs, the next ones, and what failed",
        "ingest status",
    )
    made.add_argument("--runs", type=int, default=10, metavar="N", help="how many (default: 10)")
    _json_flag(made)
    on_index(
        command(
            "ingest verify",
            _upkeep("verify"),
            "compare the index with its folders",
            "ingest verify",
        )
    )
    on_index(
        command("ingest repair", _upkeep("repair"), "mend what `verify` finds", "ingest repair")
    )
    on_index(
        command(
            "ingest rebuild",
            _upkeep("rebuild"),
            "make a collection anew with other settings, while the old one answers",
            "ingest rebuild --set ingest.chunk_tokens=200",
        )
    )
    made = on_index(
        command(
            "ingest backup",
            _upkeep("backup"),
            "write everything needed to restore into one file",
            "ingest backup ~/rag-bot.backup",
        )
    )
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    made = on_index(
        command(
            "ingest restore",
            _upkeep("restore"),
            "take over a backup",
            "ingest restore ~/rag-bot.backup",
        )
    )
    made.add_argument("file", type=Path, metavar="FILE")

    made = on_index(
        command("ask", _ask, "answer one question", 'rag-bot ask "When does the lease end?"')
    )
    made.add_argument("question", metavar="QUESTION")
    made.add_argument(
        "--top-k", type=int, dest="sources", metavar="N", help="sources shown to the model"
    )
    _scope_flags(made)

    made = on_index(
        command("chat", _chat, "hold a conversation in the terminal", "rag-bot chat"),
        with_json=False,
    )
    _scope_flags(made)

    made = on_index(
        command(
            "search", _search, "find passages, without a model", 'rag-bot search "notice period"'
        )
    )
    made.add_argument("query", metavar="QUERY")
    made.add_argument("--top-k", type=int, metavar="N", help="how many passages (default: 10)")
    _scope_flags(made)

    on_index(command("documents", _documents, "list what is indexed", "rag-bot documents --json"))

    made = on_index(
        command(
            "delete",
            _upkeep("delete"),
            "delete documents and every trace of them",
            "rag-bot delete old_lease.pdf",
        )
    )
    made.add_argument(
        "documents", nargs="*", metavar="DOCUMENT", help="an id, a path or a file name"
    )
    made.add_argument("--all", action="store_true", help="all documents, and the collection itself")
    made = on_index(
        command(
            "undelete",
            _upkeep("undelete"),
            "let deleted documents come back with the next ingest",
            "rag-bot undelete old_lease.pdf",
        )
    )
    made.add_argument("documents", nargs="+", metavar="DOCUMENT", help="a path or a file name")
    made = on_index(
        command(
            "forgotten",
            _upkeep("forgotten"),
            "look for any trace of a deleted document",
            "rag-bot forgotten old_lease.pdf",
        )
    )
    made.add_argument("document", metavar="DOCUMENT", help="a path, a file name, an id or SHA-256")
    made.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="PHRASE",
        help="look for these words as well; may be repeated",
    )

    _measuring(command)
    _tuning(command)

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


def _measuring(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands of `rag-bot eval`."""

    def seeded(made: argparse.ArgumentParser) -> None:
        made.add_argument("--seed", type=int, default=0, metavar="N", help="where drawing begins")

    made = command(
        "eval run",
        _evaluation("run"),
        "ask golden cases and measure retrieval, answers, citations and abstention",
        "rag-bot eval run --cases golden.jsonl --docs ./docs --out runs/monday",
    )
    made.add_argument(
        "--cases",
        type=Path,
        metavar="FILE",
        help="golden cases as JSON lines (default: the shipped ones, about examples/)",
    )
    made.add_argument("--docs", type=Path, metavar="DIR", help="index these documents for the run")
    made.add_argument("--collection", metavar="NAME", help="ask this collection of your index")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the run goes")
    made.add_argument("--limit", type=_positive, metavar="N", help="so many cases, drawn at random")
    seeded(made)
    made.add_argument(
        "--retrieval-only", action="store_true", help="measure what is found, without a model"
    )
    made.add_argument(
        "--perplexity", action="store_true", help="measure the reference answers' perplexity too"
    )
    made.add_argument(
        "--judge", type=Path, metavar="FILE", help="a rag-bot.toml whose model judges answers too"
    )
    made.add_argument(
        "--config", action="append", dest="set", metavar="KEY=VALUE", help="the same as --set"
    )
    _wait_flag(made)
    _json_flag(made)

    made = command(
        "eval report",
        _evaluation("report"),
        "write figures and report of a run anew, from its rows",
        "rag-bot eval report runs/monday",
    )
    made.add_argument("run_dir", type=Path, metavar="DIR")

    made = command(
        "eval compare",
        _evaluation("compare"),
        "say what is better or worse in run B than in run A, and how surely",
        "rag-bot eval compare runs/monday runs/tuesday",
    )
    made.add_argument("a", type=Path, metavar="A")
    made.add_argument("b", type=Path, metavar="B")
    made.add_argument(
        "--cases", type=int, default=10, metavar="N", help="changed cases shown (default: 10)"
    )
    _json_flag(made)

    made = command(
        "eval gate",
        _evaluation("gate"),
        "exit with 1 if a guarded metric is worse than in the baseline",
        "rag-bot eval gate --baseline runs/live --run runs/candidate",
    )
    made.add_argument("--baseline", type=Path, required=True, metavar="DIR", help="the run to hold")
    made.add_argument(
        "--run", type=Path, required=True, dest="run_dir", metavar="DIR", help="the new one"
    )
    _json_flag(made)

    made = command(
        "eval robustness",
        _evaluation("robustness"),
        "measure what is lost when questions or documents are disturbed",
        "rag-bot eval robustness --out runs/robustness --limit 60",
    )
    made.add_argument("--cases", type=Path, metavar="FILE", help="golden cases (default: shipped)")
    made.add_argument("--docs", type=Path, metavar="DIR", help="the documents they are about")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the runs go")
    made.add_argument("--limit", type=_positive, metavar="N", help="so many cases, drawn at random")
    seeded(made)
    made.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only this disturbance (typos, distractors, injections, …); may be repeated",
    )
    made.add_argument(
        "--retrieval-only", action="store_true", help="measure what is found, without a model"
    )
    _json_flag(made)

    made = command(
        "eval judge-ui",
        _evaluation("judge_ui"),
        "let people say which of two runs' answers is better, not knowing which is which",
        "rag-bot eval judge-ui runs/monday runs/tuesday --out preferences.jsonl",
    )
    made.add_argument("a", type=Path, metavar="A")
    made.add_argument("b", type=Path, metavar="B")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="where they are kept")
    made.add_argument("--rater", default="", metavar="NAME", help="who judges")
    made.add_argument("--cases", type=_positive, metavar="N", help="at most so many")
    seeded(made)
    made.add_argument("--host", default="127.0.0.1", help="address to listen on")
    made.add_argument("--port", type=int, default=7861, help="port to listen on (default: 7861)")
    made.add_argument(
        "--report", action="store_true", help="only print what FILE says: win rates and agreement"
    )

    made = command(
        "eval cases",
        _evaluation("draft"),
        "draft golden cases from documents, for you to accept or mend",
        "rag-bot eval cases ./docs --out golden.jsonl",
    )
    made.add_argument("docs", type=Path, metavar="DIR")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="where they go")
    made.add_argument("--count", type=_positive, default=100, metavar="N", help="how many (100)")
    seeded(made)


def _tuning(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands of `rag-bot finetune`."""

    def making(made: argparse.ArgumentParser, count: int) -> None:
        made.add_argument(
            "--count", type=_positive, default=count, metavar="N", help=f"questions ({count})"
        )
        made.add_argument(
            "--by-model",
            type=_positive,
            default=0,
            metavar="N",
            help="so many more that the LLM writes itself, checked by the reader (default: none)",
        )

    def training(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--method",
            choices=("qlora", "lora", "prompt", "prefix", "dpo"),
            help="(Q)LoRA, a soft prompt, a prefix, or preferences with LoRA (default:"
            " finetune.method)",
        )
        made.add_argument(
            "--epochs", type=_above_zero, metavar="N", help="times over the examples (1)"
        )
        made.add_argument(
            "--rate", type=_above_zero, metavar="R", help="learning rate (the method's)"
        )
        made.add_argument(
            "--rank", type=_positive, metavar="R", help="LoRA's rank (16, or that of --begin)"
        )
        made.add_argument("--batch", type=_positive, metavar="TOKENS", help="tokens a step (2048)")
        made.add_argument(
            "--longest", type=_positive, metavar="TOKENS", help="longer examples are left out"
        )
        made.add_argument("--seed", type=int, default=0, metavar="N", help="where drawing begins")
        made.add_argument(
            "--hours", type=float, default=24, metavar="H", help="refuse what would take longer"
        )

    made = command(
        "finetune examples",
        _lesson("make"),
        "make training examples from documents, through the real retriever and reader",
        "rag-bot finetune examples ./docs --out examples.jsonl",
    )
    made.add_argument("docs", type=Path, metavar="DIR")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="where they go")
    making(made, 1000)
    made.add_argument(
        "--cases", type=Path, metavar="FILE", help="golden cases of yours to learn from as well"
    )
    made.add_argument(
        "--judged-by", type=Path, metavar="FILE", help="golden cases that must not be learned"
    )
    made.add_argument(
        "--preferred",
        type=Path,
        metavar="FILE",
        help="what `eval judge-ui` wrote, for --method dpo",
    )
    made.add_argument(
        "--runs", type=Path, nargs=2, metavar=("A", "B"), help="the two runs that were judged"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="where drawing begins")

    made = command(
        "finetune train",
        _lesson("train"),
        "train a candidate: an adapter of the LLM",
        "rag-bot finetune train examples.jsonl --method qlora",
    )
    made.add_argument(
        "examples", type=Path, metavar="FILE", help="examples as JSON lines or CSV, ours or yours"
    )
    training(made)
    made.add_argument(
        "--beta", type=_above_zero, metavar="B", help="learn preferences (DPO) this strictly (0.1)"
    )
    made.add_argument("--begin", type=Path, metavar="DIR", help="an adapter to go on from")
    made.add_argument("--resume", metavar="NAME", help="go on with a training that was killed")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument(
        "--judged-by", type=Path, metavar="FILE", help="golden cases that must not be learned"
    )

    made = command(
        "finetune evaluate",
        _lesson("evaluate"),
        "measure a candidate beside what is live",
        "rag-bot finetune evaluate --cases golden.jsonl --docs ./docs",
    )
    made.add_argument("candidate", nargs="?", default="", metavar="NAME", help="default: the last")
    made.add_argument("--cases", type=Path, metavar="FILE", help="golden cases (default: shipped)")
    made.add_argument("--docs", type=Path, metavar="DIR", help="the documents they are about")
    made.add_argument("--collection", metavar="NAME", help="ask this collection of your index")
    made.add_argument("--limit", type=_positive, metavar="N", help="so many cases, drawn at random")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="where drawing begins")
    _wait_flag(made)
    _json_flag(made)

    made = command(
        "finetune promote",
        _lesson("promote"),
        "let a candidate answer that its evaluation allows; a server needs no restart",
        "rag-bot finetune promote",
    )
    made.add_argument("candidate", nargs="?", default="", metavar="NAME", help="default: the last")
    made = command(
        "finetune rollback",
        _lesson("rollback"),
        "go back to the adapter that answered before",
        "rag-bot finetune rollback",
    )
    made.add_argument("--reader", action="store_true", help="the reader instead")
    _json_flag(
        command(
            "finetune list",
            _lesson("candidates"),
            "list the candidates, and which one is live",
            "rag-bot finetune list",
        )
    )

    def judging(made: argparse.ArgumentParser) -> None:
        made.add_argument("docs", type=Path, metavar="DIR")
        made.add_argument(
            "--cases", type=Path, metavar="FILE", help="golden cases that decide (default: drafted)"
        )
        made.add_argument(
            "--cases-count", type=_positive, default=100, metavar="N", help="cases drafted (100)"
        )

    made = command(
        "finetune reader",
        _lesson("run_reader"),
        "train the reader on documents, evaluate it, and promote or refuse",
        "rag-bot finetune reader ./docs",
    )
    judging(made)
    made.add_argument("--count", type=_positive, default=600, metavar="N", help="questions (600)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="where drawing begins")
    made = command(
        "finetune loop",
        _lesson("run"),
        "make examples, train, evaluate, and promote or refuse",
        "rag-bot finetune loop ./docs",
    )
    judging(made)
    made.add_argument(
        "--unsure", type=int, default=5, metavar="N", help="questions shown that it was least sure"
    )
    making(made, 300)
    training(made)

    made = command(
        "finetune export",
        _lesson("export"),
        "write the LLM with an adapter merged in, for vLLM and others",
        "rag-bot finetune export --out ./merged",
    )
    made.add_argument("candidate", nargs="?", default="", metavar="NAME", help="default: the live")
    made.add_argument("--out", type=Path, required=True, metavar="DIR")


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _evaluation(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from ui import evaluation

        status: int = getattr(evaluation, name)(options)
        return status

    return run


def _lesson(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from ui import tuning

        status: int = getattr(tuning, name)(options)
        return status

    return run


def _upkeep(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from ui import upkeep

        status: int = getattr(upkeep, name)(options)
        return status

    return run


def _wait_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait for an index that another process uses (default: fail at once)",
    )


def _scope_flags(parser: argparse.ArgumentParser) -> None:
    given = parser.add_argument_group(
        "which documents (a question may say so itself: in:contracts/*.pdf, doc:NAME, type:pdf,"
        " after:2025-01-01, before:2026-01-01)"
    )
    given.add_argument(
        "--in",
        action="append",
        default=[],
        dest="patterns",
        metavar="PATTERN",
        help="only those whose path matches this `.gitignore` pattern, or with ! in front those"
        " whose path does not; may be repeated",
    )
    given.add_argument(
        "--doc",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="only this file, by its name or path; may be repeated",
    )
    given.add_argument(
        "--type",
        action="append",
        default=[],
        dest="types",
        metavar="ENDING",
        help="only files that end so, e.g. pdf; may be repeated",
    )
    given.add_argument(
        "--after", metavar="DATE", help="only files changed on this day or later, e.g. 2025-01-31"
    )
    given.add_argument("--before", metavar="DATE", help="only files changed before this day")


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


# Commands


def _scope(options: argparse.Namespace) -> Scope:
    from rag_bot.scope import made

    return made(
        documents=options.names,
        patterns=options.patterns,
        types=options.types,
        after=options.after,
        before=options.before,
    )


def _ask(options: argparse.Namespace) -> int:
    import dataclasses

    settings, scope = load(options).settings, _scope(options)
    with reach(settings, options.wait) as bot:
        answer = show.speak(
            bot, options.question, (), settings.collection, scope, quiet=options.json
        )
    if options.json:
        show.print_json(dataclasses.asdict(answer))
    return DONE


def _chat(options: argparse.Namespace) -> int:
    from rag_bot.types import Message

    settings, scope = load(options).settings, _scope(options)
    history: list[Message] = []
    with reach(settings, options.wait) as bot:
        print("Ask about your documents. An empty line or Ctrl-D ends the conversation.")
        while question := show.read_question():
            answer = show.speak(bot, question, history, settings.collection, scope, quiet=False)
            history += [Message("user", question), Message("assistant", answer.text)]
    return DONE


def _search(options: argparse.Namespace) -> int:
    from rag_bot.errors import UsageError

    if options.top_k is not None and options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: at least 1", "leave it out for 10")
    settings, scope = load(options).settings, _scope(options)
    with reach(settings, options.wait) as bot:
        sources = bot.search(options.query, settings.collection, options.top_k or 10, scope)
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
        show.print_json({"query": options.query, "results": results})
        return DONE
    for source in sources:
        heading = f" · {source.chunk.heading}" if source.chunk.heading else ""
        print(f"{source.marker}. {source.document}, page {source.chunk.page_start}{heading}")
        print(f"   {show.short(source.chunk.text, 300)}\n")
    if not sources:
        print("Nothing found.")
    return DONE


def _documents(options: argparse.Namespace) -> int:
    import dataclasses

    settings = load(options).settings
    with reach(settings, options.wait) as bot:
        entries = bot.documents(settings.collection)
    if options.json:
        show.print_json(
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


def _models(options: argparse.Namespace) -> int:
    from rag_bot import models
    from rag_bot.errors import RagBotError, UsageError

    settings = load(options).settings
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
        show.print_json({"models": rows})
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
        for setting in load(options).explain()
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

    findings = list(examine(load(options)))
    if options.json:
        show.print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok   ' if not finding.status else 'WRONG'} {finding.what}: {finding.detail}")
            if finding.remedy:
                print(f"      → {finding.remedy}")
    return max(finding.status for finding in findings)


def _serve(options: argparse.Namespace) -> int:
    from ui.server import serve

    settings = load(options).settings
    if settings.server.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"rag-bot serve: {settings.server.host} can be reached from other machines, and the"
            " page asks for no password: anyone there can read your documents",
            file=sys.stderr,
        )
    serve(settings, lambda url: print(f"Serving at {url} (Ctrl-C stops it)", flush=True))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
