"""Our types as JSON, and back: what travels between `rag-bot serve` and the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ingest.report import Progress, Report, report_from_json, result_from_json
from rag_bot import errors
from rag_bot.errors import RagBotError
from rag_bot.scope import Scope, made
from rag_bot.types import (
    Answer,
    Chunk,
    Citation,
    Event,
    Finished,
    Reading,
    Retrieved,
    Source,
    Token,
    Verdict,
)

Line = dict[str, Any]


def event_to_json(event: Event | Progress | Report | RagBotError) -> Line:
    """One event of an answer or an ingest, or the error that ended it."""
    match event:
        case Retrieved():
            return {"event": "retrieved", **dataclasses.asdict(event)}
        case Token():
            return {"event": "token", "text": event.text}
        case Finished():
            return {"event": "finished", "answer": dataclasses.asdict(event.answer)}
        case Progress():
            return {"event": "progress", **dataclasses.asdict(event)}
        case Report():
            return {"event": "report", "report": event.as_json()}
        case RagBotError():
            return {"event": "error", **error_to_json(event)}


def event_from_json(line: Line) -> Event | Progress | Report:
    """The reverse. Raises the error that the line carries, if it carries one."""
    kind = line.pop("event")
    if kind == "retrieved":
        return Retrieved(line["query"], tuple(map(source_from_json, line["sources"])))
    if kind == "token":
        return Token(line["text"])
    if kind == "finished":
        return Finished(answer_from_json(line["answer"]))
    if kind == "progress":
        return Progress(**{**line, "result": result_from_json(line["result"])})
    if kind == "report":
        return report_from_json(line["report"])
    raise error_from_json(line)


def answer_from_json(data: Line) -> Answer:
    """An `Answer` from `dataclasses.asdict` of one."""
    return Answer(
        **{
            **data,
            "sources": tuple(map(source_from_json, data["sources"])),
            "citations": tuple(Citation(**each) for each in data["citations"]),
            "verdicts": tuple(
                Verdict(**{**each, "citations": tuple(Citation(**c) for c in each["citations"])})
                for each in data["verdicts"]
            ),
            "unresolved": tuple(data["unresolved"]),
            "parts": tuple(data["parts"]),
            "unanswered": tuple(data["unanswered"]),
        }
    )


def source_from_json(data: Line) -> Source:
    """A `Source` from `dataclasses.asdict` of one."""
    return Source(
        **{
            **data,
            "chunk": Chunk(**data["chunk"]),
            "reading": Reading(**data["reading"]) if data["reading"] else None,
            "shown": tuple((start, end) for start, end in data["shown"]),
        }
    )


def scope_to_json(scope: Scope) -> Line:
    """A scope with its dates as text."""
    dates = {word: day.isoformat() if (day := getattr(scope, word)) else None for word in _DATES}
    return dataclasses.asdict(scope) | dates


def scope_from_json(data: Line) -> Scope:
    """The reverse. Raises UsageError for a pattern, a type or a date that is none."""
    return made(**data)


_DATES = ("after", "before")


def error_to_json(error: RagBotError) -> Line:
    """An error by the name of its class, its line and its remedy."""
    return {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}


def error_from_json(line: Line) -> RagBotError:
    """The reverse."""
    kind = getattr(errors, line["kind"], RagBotError)
    error: RagBotError = kind(line["message"], line["remedy"])
    return error


def lines(events: Iterable[Event | Progress | Report]) -> Iterator[str]:
    """Events as newline-delimited JSON; an error becomes the last line."""
    try:
        for event in events:
            yield json.dumps(event_to_json(event)) + "\n"
    except RagBotError as error:
        yield json.dumps(event_to_json(error)) + "\n"
