"""A second opinion: a model that says whether an answer is right. Optional, and never in the gate.

It is asked once; what it said is kept in a file, under a hash of what it was asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from eval.cases import GoldenCase
from rag_bot.generate import Generator
from rag_bot.types import Message

_ASK = """\
Question: {question}
Right answer: {reference}
Given answer: {answer}

Does the given answer say the same as the right answer? Reply with one word: yes or no."""
_NONE = "(the documents do not answer this question)"


class Judge:
    """Asks a generator, and remembers in `file` (JSON lines)."""

    def __init__(self, generator: Generator, file: Path) -> None:
        self._generator = generator
        self._file = file
        self._said: dict[str, bool | None] = {}
        if file.exists():
            text = file.read_text("utf-8")
            if not text.endswith("\n"):
                file.write_text(text + "\n", "utf-8")
            for line in text.splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # empty, or cut short by a kill: asked again
                self._said[row["key"]] = row["right"]

    @property
    def model_id(self) -> str:
        """Which model judges."""
        return self._generator.model_id

    def right(self, case: GoldenCase, answer: str, abstained: bool) -> bool | None:
        """Whether the answer is right; None when the model says neither yes nor no."""
        question = _ASK.format(
            question=case.question,
            reference=" / ".join(case.references) or _NONE,
            answer=_NONE if abstained else answer,
        )
        key = hashlib.sha256(f"{self.model_id}\n{question}".encode()).hexdigest()
        if key not in self._said:
            reply = "".join(self._generator.stream([Message("user", question)]))
            self._said[key] = _verdict(reply)
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "right": self._said[key]}) + "\n")
        return self._said[key]


def _verdict(reply: str) -> bool | None:
    first = re.match(r"\W*(yes|no)\b", reply, re.IGNORECASE)
    return first[1].casefold() == "yes" if first else None
