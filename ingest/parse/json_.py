"""JSON as `path.to.key: value` lines; JSONL as one record a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ingest.parse.clean import one_line
from ingest.parse.draft import Draft, Progress
from ingest.parse.parsed import Parsed
from ingest.parse.plain import decode

_CONSTANTS = {True: "true", False: "false", None: "null"}


def parse(data: bytes, progress: Progress) -> Parsed:
    """One page. Raises json.JSONDecodeError or RecursionError where it is not JSON."""
    text = decode(data)
    draft = Draft(progress)
    notes: list[str] = []
    try:
        value = _loads(text)
    except json.JSONDecodeError:
        notes = _write_lines(draft, text)
        media_type = "application/jsonl"
    else:
        _write_value(draft, value)
        media_type = "application/json"
    progress(1, 1)
    return draft.parsed(media_type, notes=notes)


def _loads(text: str) -> Any:
    # Numbers stay as they are written: 1.10 is not 1.1, and 5000 digits are no attack.
    return json.loads(text, parse_int=str, parse_float=str)


def _write_lines(draft: Draft, text: str) -> list[str]:
    """Write every line that is JSON as a record; return notes that name those which are not."""
    broken: list[int] = []
    good = 0
    error: json.JSONDecodeError | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = _loads(line)
        except json.JSONDecodeError as not_json:
            error = not_json
            broken.append(number)
        else:
            good += 1
            draft.line(_record(value))
    if error and good <= len(broken):
        raise error
    return [f"line {number} is not JSON and was left out" for number in broken[:20]] + (
        [f"{len(broken) - 20} more lines are not JSON"] if len(broken) > 20 else []
    )


def _write_value(draft: Draft, value: Any) -> None:
    # A stack of its own: the value may be as deep as json reads, which is as deep as Python goes.
    stack = [("", value)]
    while stack:
        path, value = stack.pop()
        label = f"{path}: " if path else ""
        if isinstance(value, dict) and value:
            stack.extend((_join(path, key), value[key]) for key in reversed(value))
        elif not isinstance(value, list) or not value:
            draft.line(label + _scalar(value))
        elif all(not isinstance(item, dict | list) for item in value):
            draft.line(label + ", ".join(map(_scalar, value)))
        elif all(isinstance(item, dict) and _is_flat(item) for item in value):
            if path:
                draft.line(f"{path}:")
            for item in value:
                draft.line(_record(item))
        else:
            stack.extend((_join(path, str(n)), value[n - 1]) for n in range(len(value), 0, -1))


def _record(value: Any) -> str:
    return " | ".join(
        f"{path}: {one_line(text)}" if path else one_line(text) for path, text in _leaves(value)
    )


def _leaves(value: Any) -> Iterator[tuple[str, str]]:
    stack = [("", value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict) and value:
            stack.extend((_join(path, key), value[key]) for key in reversed(value))
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            stack.extend((_join(path, str(n)), value[n - 1]) for n in range(len(value), 0, -1))
        elif isinstance(value, list) and value:
            yield path, ", ".join(map(_scalar, value))
        else:
            yield path, _scalar(value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_flat(item: dict[str, Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in item.values())


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _CONSTANTS[value] if value is None or isinstance(value, bool) else json.dumps(value)
