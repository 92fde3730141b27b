"""Questions with sources and the answer that should follow: what the LLM is trained on.

An example keeps what `rag_bot.prompt.build` needs, so that training reads the very bytes that
serving writes. Files are JSON lines of `QAExample`, or a user's own, with only

    {"question": "When does the lease end?", "context": "The lease ends on 31 March 2031.",
     "answer": "On 31 March 2031."}

on each line, or the same as columns of a CSV file. `context` may be a list of texts; an empty
`answer` says that the context does not tell.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from eval.metrics.squad import normalize
from rag_bot import prompt
from rag_bot.cite import parse, renumbered
from rag_bot.errors import UsageError
from rag_bot.types import Chunk, Message, Reading, Source

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FEWEST = 8
"""Fewer examples than this teach nothing."""
_SHARES: Mapping[Split, float] = {"validation": 0.15, "test": 0.3}


@dataclass(frozen=True, slots=True)
class QASource:
    """A source of an example: the chunk's text, and what of it is shown (all, if none is named).

    `shown` and `evidence` are offsets into `text`; `evidence` is what the reader pointed at, and
    `sure` how surely.
    """

    document: str
    page: int
    text: str
    heading: str = ""
    shown: tuple[tuple[int, int], ...] = ()
    evidence: tuple[int, int] | None = None
    sure: float = 0.0


@dataclass(frozen=True, slots=True)
class QAExample:
    """A question over numbered sources, and what should be answered.

    `document_id` is the document that the question is about: examples of one document are in one
    split. `answer` carries its markers; where the sources don't tell, it is `prompt.NO_ANSWER`.
    `rejected` is a worse answer, for learning from preferences. `origins` are path and SHA-256 of
    all documents that are quoted here; none for an example from a file.
    """

    id: str
    document_id: str
    question: str
    answer: str
    sources: tuple[QASource, ...]
    answerable: bool = True
    split: Split = "train"
    kind: str = "own"
    rejected: str = ""
    origins: tuple[tuple[str, str], ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The prompt, built as for a user's question."""
        return prompt.build(self.question, self.numbered)

    @property
    def numbered(self) -> tuple[Source, ...]:
        """The sources as serving has them."""
        return tuple(
            Source(
                marker=n,
                chunk=Chunk(
                    id=f"{self.id}:{n}",
                    document_id=each.document,
                    text=each.text,
                    page_start=each.page,
                    page_end=each.page,
                    char_start=0,
                    char_end=len(each.text),
                    heading=each.heading,
                ),
                document=each.document,
                source=each.document,
                score=0.0,
                reading=Reading(0.0, each.sure, *each.evidence, 0.0) if each.evidence else None,
                shown=each.shown,
            )
            for n, each in enumerate(self.sources, start=1)
        )


def of_source(source: Source) -> QASource:
    """What an example keeps of a source that serving found."""
    reading = source.reading
    return QASource(
        source.document,
        source.chunk.page_start,
        source.chunk.text,
        source.chunk.heading,
        source.shown,
        (reading.start, reading.end) if reading else None,
        reading.answerable if reading else 0.0,
    )


def id_of(*parts: str) -> str:
    """An id that the same parts give again."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


# Splits


def splits(documents: Iterable[str], seed: int = 0) -> dict[str, Split]:
    """Each document's split, at random: 15 % validation, 30 % test, but at least one of each.

    By a hash of its name: a document more leaves the others where they are, so that what was
    learned from does not come to judge. In a folder of fewer than twenty or so it may move one.
    Of fewer than three documents, all are for training.
    """
    place = {name: int(id_of(str(seed), name), 16) / 16**16 for name in documents}
    names = sorted(place, key=place.__getitem__)
    if len(names) < len(SPLITS):
        return dict.fromkeys(names, "train")
    found: dict[str, Split] = {}
    bound = 0.0
    for kept, (split, share) in enumerate(_SHARES.items(), start=1 - len(_SHARES)):
        bound += share
        left = [name for name in names if name not in found]
        below = sum(place[name] < bound for name in left)
        found |= dict.fromkeys(left[: min(max(1, below), len(left) + kept - 1)], split)
    return {name: found.get(name, "train") for name in names}


def check(
    examples: Sequence[QAExample],
    golden: Collection[str] = (),
    gone: Collection[str] = (),
    tested: Collection[str] = (),
) -> None:
    """Hold the examples against what must not be learned.

    `golden` are questions that models are judged by, `gone` paths of deleted documents, `tested`
    names of documents for testing, beside those that an example tests. Raises UsageError where a
    document is in two splits or an example should not be there.
    """
    home: dict[str, Split] = {}
    held = {*tested, *(each.document_id for each in examples if each.split == "test")}
    judged = {normalize(question) for question in golden}
    for each in examples:
        if home.setdefault(each.document_id, each.split) != each.split:
            raise UsageError(f"{each.document_id!r} is in two splits", "make the examples again")
        if each.split == "train" and normalize(each.question) in judged:
            raise UsageError(
                f"example {each.id} asks what models are judged by: {each.question!r}",
                "take its line out, or judge by other cases",
            )
        shown = quoted(each, held)
        if shown:
            raise UsageError(
                f"example {each.id} shows {shown}, which is for testing", "make the examples again"
            )
        lost = {source for source, _ in each.origins} & set(gone)
        if lost:
            raise UsageError(
                f"example {each.id} quotes {min(lost)}, which was deleted",
                "make the examples again",
            )


def quoted(example: QAExample, held: Collection[str]) -> str:
    """A document of those held back that is a source of this example, if it may not be one."""
    if example.split == "test":
        return ""
    return next((each.document for each in example.sources if each.document in held), "")


def without(example: QAExample, held: Collection[str]) -> QAExample | None:
    """The example without the sources of these documents; None where its answer cites one."""
    if not quoted(example, held):
        return example
    kept = [n for n, each in enumerate(example.sources, 1) if each.document not in held]
    places = {n: place for place, n in enumerate(kept, 1)}

    def cited(answer: str) -> set[int]:
        return {n for claim in parse(answer) for n in claim.markers}

    if not kept or not cited(example.answer) <= places.keys():
        return None
    spared = example.rejected if cited(example.rejected) <= places.keys() else ""
    return replace(
        example,
        answer=renumbered(example.answer, places),
        rejected=renumbered(spared, places),
        sources=tuple(example.sources[n - 1] for n in kept),
    )


# Files


def write(file: Path, examples: Iterable[QAExample]) -> None:
    """As JSON lines, all or nothing."""
    new = file.with_name(file.name + ".new")
    new.write_bytes(b"".join(_ADAPTER.dump_json(each) + b"\n" for each in examples))
    new.replace(file)


def read(file: Path) -> list[QAExample]:
    """Examples of ours or a user's own. Raises UsageError with the file and the line."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}", "check the path given") from None
    rows = _of_csv(file, text) if file.suffix.lower() == ".csv" else _of_lines(file, text)
    found: list[QAExample] = []
    for number, row in rows:
        try:
            found.append(_ADAPTER.validate_python(row) if "sources" in row else _own(row))
        except (ValidationError, UsageError) as error:
            said = error.errors()[0] if isinstance(error, ValidationError) else None
            what = f"{'.'.join(map(str, said['loc']))}: {said['msg']}" if said else str(error)
            raise UsageError(f"{file}, line {number}: {what}", "mend or delete the line") from None
    return found if any("split" in row for _, row in rows) else _parted(found)


_ADAPTER: TypeAdapter[QAExample] = TypeAdapter(QAExample)


def _of_lines(file: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f"{file}, line {number}: no JSON: {error}", "mend or delete the line"
            ) from None
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number}: no JSON object", "mend or delete the line")
        rows.append((number, row))
    return rows


def _of_csv(file: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    wanted = {"question", "context", "answer"}
    if not wanted <= set(reader.fieldnames or ()):
        raise UsageError(
            f"{file} lacks {', '.join(sorted(wanted - set(reader.fieldnames or ())))}",
            "its first line names the columns: question,context,answer",
        )
    try:
        return [(reader.line_num, dict(row)) for row in reader]
    except csv.Error as error:
        raise UsageError(
            f"{file}, line {reader.line_num}: {error}", "mend or delete the line"
        ) from None


def _own(row: Mapping[str, Any]) -> QAExample:
    question, answer = row.get("question"), row.get("answer", "")
    context = row.get("context")
    texts = [context] if isinstance(context, str) else context
    if not isinstance(question, str) or not question.strip():
        raise UsageError("no question")
    if not isinstance(answer, str) or not isinstance(row.get("rejected", ""), str):
        raise UsageError("answer is no text")
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise UsageError("no context: a text or a list of texts")
    split = row.get("split", "train")
    if split not in SPLITS:
        raise UsageError(f"split is none of {', '.join(SPLITS)}")
    document = str(row.get("document") or id_of(*texts))
    # The worse answer has a marker too: it is not for lacking one that it is worse.
    said, rejected = (_marked(each.strip(), texts) for each in (answer, row.get("rejected", "")))
    return QAExample(
        id=id_of(document, question, said),
        document_id=document,
        question=question.strip(),
        answer=said or prompt.NO_ANSWER,
        sources=tuple(QASource(document, 1, text) for text in texts),
        answerable=bool(said),
        split=split,
        rejected=rejected,
    )


def _marked(said: str, texts: Sequence[str]) -> str:
    """An answer with the marker of the text that has it, or of the first."""
    if said in ("", prompt.NO_ANSWER) or any(claim.markers for claim in parse(said)):
        return said
    marker = next((n for n, text in enumerate(texts, start=1) if said.rstrip(".") in text), 1)
    return f"{said} [{marker}]"


def _parted(found: Sequence[QAExample]) -> list[QAExample]:
    where = splits(each.document_id for each in found)
    # A file of one's own is for learning: its test documents would only be kept from it.
    home = {name: "train" if split == "test" else split for name, split in where.items()}
    return [replace(each, split=home[each.document_id]) for each in found]


# A look at them


def sheet(examples: Sequence[QAExample], samples: int = 3, seed: int = 0) -> str:
    """An HTML page: how many of each kind, how long, from where, and samples to read."""
    kinds: dict[str, list[QAExample]] = defaultdict(list)
    for each in examples:
        kinds[each.kind].append(each)
    counts = Counter((each.kind, each.split) for each in examples)
    rows = "".join(
        "<tr><td>{}</td>{}<td>{}</td><td>{:.0f}</td><td>{:.0f}</td></tr>".format(
            html.escape(kind),
            "".join(f"<td>{counts[kind, split] or ''}</td>" for split in SPLITS),
            sum(not each.answerable for each in of_kind) or "",
            statistics.median(len(each.answer) for each in of_kind),
            statistics.median(sum(len(s.excerpt) for s in each.numbered) for each in of_kind),
        )
        for kind, of_kind in sorted(kinds.items())
    )
    drawn = random.Random(seed)
    shown = "".join(
        f"<h2>{html.escape(kind)}</h2>"
        + "".join(_card(each) for each in drawn.sample(of_kind, min(samples, len(of_kind))))
        for kind, of_kind in sorted(kinds.items())
    )
    sources = Counter(each.document_id for each in examples)
    from_where = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{n}</td></tr>" for name, n in sources.most_common(50)
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Training examples</title>'
        f"<style>{_STYLE}</style><h1>{len(examples)} training examples</h1>"
        "<table><tr><th>kind</th>"
        + "".join(f"<th>{split}</th>" for split in SPLITS)
        + "<th>unanswerable</th><th>answer, characters</th><th>sources, characters</th></tr>"
        + f"{rows}</table>{shown}<h2>Documents asked about</h2><table>{from_where}</table></html>\n"
    )


def _card(example: QAExample) -> str:
    prompted = html.escape(example.messages[-1].text)
    rejected = (
        f"<p class=no>rather than: {html.escape(example.rejected)}</p>" if example.rejected else ""
    )
    return (
        f"<article><p><b>{html.escape(example.question)}</b> <i>{example.split}</i></p>"
        f"<p class=yes>{html.escape(example.answer)}</p>{rejected}"
        f"<details><summary>prompt</summary><pre>{prompted}</pre></details></article>"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;"
    "text-align:left}td+td,th+th{text-align:right}article{border-left:3px solid #ccc;"
    "padding-left:1rem;margin:1rem 0}pre{white-space:pre-wrap;background:#f6f6f6;padding:1rem}"
    ".yes{color:#0a5}.no{color:#a30}"
)
