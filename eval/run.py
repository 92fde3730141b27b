"""A run: each golden case through the very pipeline that users get, and a row kept of each.

A folder holds a run: `run.json` (what was run), `rows.jsonl` (a line a case, written as it is
done, so that a killed run goes on), and what `eval.score` and `eval.report` make of the rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

import rag_bot
from eval import rows as rows_
from eval.cases import GoldenCase, GoldenSet, check_places, sample
from eval.judge import Judge
from eval.rows import Cited, Hit, Judged, Row, Shown
from rag_bot import models, prompt
from rag_bot.answer import Pipeline
from rag_bot.catalogue import Collection, Entry
from rag_bot.config import Settings
from rag_bot.errors import RagBotError, Unavailable, UsageError
from rag_bot.generate import Scoring
from rag_bot.index import Index, fingerprint
from rag_bot.ledger import Origin
from rag_bot.scope import take
from rag_bot.types import Answer, Finished, Message, Retrieved, Source, Token

FORMAT = 1
RUN, ROWS = "run.json", "rows.jsonl"
DEPTH = 100
"""How many chunks of the ranking are kept at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. Two runs of one plan over one collection have the same rows but for timings.

    Without `check`, cases may name pages that are not there: they are asked all the same.
    """

    golden: GoldenSet
    limit: int | None = None
    seed: int = 0
    answers: bool = True
    perplexity: bool = False
    check: bool = True

    @property
    def cases(self) -> list[GoldenCase]:
        """The cases to be asked."""
        return sample(self.golden.cases, self.limit, self.seed)


@dataclass(frozen=True, slots=True)
class Record:
    """What a run was: enough to tell whether another one is the same.

    `corpus` is a hash of the documents' names and contents and of how they were cut.
    """

    format: int
    version: str
    commit: str
    golden: str
    golden_sha256: str
    limit: int | None
    seed: int
    answers: bool
    perplexity: bool
    judge: str
    collection: str
    documents: int
    corpus: str
    settings: Mapping[str, Any]
    models: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """Event: so many cases are done, this one last."""

    done: int
    total: int
    row: Row


def run(
    plan: Plan, pipeline: Pipeline, collection: str, folder: Path, judge: Judge | None = None
) -> Iterator[Step]:
    """Ask every case that `folder` has no row of yet. Its rows are complete at the end.

    A case on which the model fails costs that case alone. Raises UsageError for cases that name
    pages which are not there and for a folder that holds another run; before the first question,
    IndexMismatch, ModelMissing or ModelBroken.
    """
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(collection, fingerprint(settings))
    entries = index.catalogue.entries(held)
    if plan.check:
        check_places(plan.golden, _page_counts(entries))
    pipeline.embedder()
    if plan.answers:
        pipeline.generator()
    record = describe(plan, pipeline, held, entries, judge)
    done = {row.case.id: row for row in _begin(folder, record) if not row.error}
    cases = plan.cases
    places = _Places(index, held, entries)
    location = str((folder / ROWS).resolve())
    with (folder / ROWS).open("a", encoding="utf-8") as stream:
        for number, case in enumerate(cases, start=1):
            row = done.get(case.id)
            if row is None:
                row = done[case.id] = _asked(plan, pipeline, collection, places, case, judge)
                # So that deleting one of these documents takes the row out as well.
                origins = index.catalogue.origins(places.taken()).values()
                index.ledger.record_lineage(
                    "evaluation", case.id, collection, map(Origin._make, origins), location
                )
                stream.write(rows_.to_line(row) + "\n")
                stream.flush()
            yield Step(number, len(cases), row)
    try:
        rows_.write(folder / ROWS, [done[case.id] for case in cases])
    except FileNotFoundError:  # a deletion takes whole copies away, and runs over them
        raise Unavailable(f"{folder} was removed while it was written to", "run it again") from None


def read(folder: Path) -> tuple[Record, list[Row]]:
    """A run's record and its rows. Raises UsageError for what is no run of this version."""
    record = read_record(folder)
    if record is None:
        raise UsageError(f"{folder} holds no run", "`rag-bot eval run --out DIR` makes one")
    if not (folder / ROWS).exists():
        raise UsageError(f"{folder} has no rows yet", "run it once more: it goes on")
    return record, rows_.read(folder / ROWS)


def read_record(folder: Path) -> Record | None:
    """What the run in a folder was; None if there is none. Raises UsageError."""
    file = folder / RUN
    if not file.exists():
        return None
    again = "run the evaluation anew into another folder"
    try:
        said = json.loads(file.read_text("utf-8"))
        if said["format"] != FORMAT:
            raise UsageError(
                f"{file} is of format {said['format']}, made by rag-bot {said['version']};"
                f" this one reads format {FORMAT}",
                again,
            )
        return TypeAdapter(Record).validate_python(said)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise UsageError(f"{file} is no record of a run", again) from None


def describe(
    plan: Plan,
    pipeline: Pipeline,
    held: Collection,
    entries: Sequence[Entry],
    judge: Judge | None = None,
) -> Record:
    """The record of a run that is about to begin."""
    settings = pipeline.settings
    corpus = sorted(f"{PurePath(each.source).name} {each.sha256}" for each in entries)
    reader = pipeline.reader()
    return Record(
        format=FORMAT,
        version=rag_bot.__version__,
        commit=_commit(),
        golden=plan.golden.path.name,
        golden_sha256=plan.golden.sha256,
        limit=plan.limit,
        seed=plan.seed,
        answers=plan.answers,
        perplexity=plan.perplexity,
        judge=judge.model_id if judge else "",
        collection=held.name,
        documents=len(entries),
        corpus=hashlib.sha256("\n".join([held.fingerprint, *corpus]).encode()).hexdigest(),
        settings=_comparable(settings),
        models={
            "embedder": models.identity(
                models.locate(settings.models.embedder, settings.models.dir)
            ),
            "reader": reader.model_id if reader else "",
            "llm": pipeline.generator().model_id if plan.answers else "",
        },
    )


def prompt_hash(messages: Sequence[Message]) -> str:
    """SHA-256 of the messages that the model was sent."""
    said = [[each.role, each.text] for each in messages]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _begin(folder: Path, record: Record) -> list[Row]:
    """The rows that are there already; writes the record where there are none."""
    before = read_record(folder)
    if before is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{folder} can't be made: {error.strerror}", "give another --out"
            ) from None
        (folder / ROWS).unlink(missing_ok=True)
        text = json.dumps(asdict(record), indent=1, ensure_ascii=False)
        (folder / RUN).write_text(text + "\n", "utf-8")
        return []
    if before != record:
        was, now = asdict(before), asdict(record)
        other = next(key for key in was if was[key] != now[key])
        raise UsageError(
            f"{folder} holds another run: its {other} was {_short(was[other], now[other])}",
            "give another --out, or delete that folder",
        )
    file = folder / ROWS
    found = rows_.read(file) if file.exists() else []
    rows_.write(file, found)  # without a line that was cut short
    return found


def _short(was: object, now: object) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
        inner = _short(was.get(key), now.get(key))
        return f"{key}.{inner}" if isinstance(was.get(key), dict) else f"{key} = {inner}"
    return f"{was!r}, not {now!r}"


def _asked(
    plan: Plan,
    pipeline: Pipeline,
    collection: str,
    places: _Places,
    case: GoldenCase,
    judge: Judge | None,
) -> Row:
    begun = time.perf_counter()
    missing = places.missing(case)
    places.quoted(case)
    try:
        row = (
            _answered(plan, pipeline, collection, places, case)
            if plan.answers
            else _retrieved(pipeline, collection, places, case)
        )
        if judge and row.answered:
            with contextlib.suppress(Exception):  # an answer is not lost with its judge
                row = replace(row, judged_right=judge.right(case, row.answer, row.abstained))
        return replace(row, missing=missing)
    except Exception as error:  # whatever a model or a server raises: the case is counted as lost
        if isinstance(error, RagBotError) and error.exit_status == UsageError.exit_status:
            raise  # settings that fit no case
        said = f"{type(error).__name__}: {error}"
        return Row(case, error=said, timings={"total": time.perf_counter() - begun})


def _retrieved(pipeline: Pipeline, collection: str, places: _Places, case: GoldenCase) -> Row:
    begun = time.perf_counter()
    query = pipeline.query(case.question, case.history)
    found = _ranking(pipeline, collection, case, query)
    seconds = time.perf_counter() - begun
    shown = found[: pipeline.settings.retrieval.top_k]
    return Row(
        case,
        query=query,
        ranking=tuple(map(places.hit, found)),
        sources=tuple(map(places.shown, shown)),
        timings={"retrieve": round(seconds, 4), "total": round(seconds, 4)},
    )


def _ranking(
    pipeline: Pipeline, collection: str, case: GoldenCase, query: str
) -> tuple[Source, ...]:
    """Deeper than what is shown, within the filters of the question, which the query has lost."""
    return pipeline.search(
        query,
        collection=collection,
        limit=_depth(pipeline.settings),
        scope=take(case.question)[1],
    )


def _answered(
    plan: Plan, pipeline: Pipeline, collection: str, places: _Places, case: GoldenCase
) -> Row:
    retrieved: tuple[Source, ...] = ()
    draft: list[str] = []
    answer: Answer | None = None
    for event in pipeline.answer(case.question, case.history, collection=collection):
        match event:
            case Retrieved(sources=sources):
                retrieved = sources
            case Token(text=text):
                draft.append(text)
            case Finished(answer=finished):
                answer = finished
    assert answer is not None, "an answer ends with Finished"
    ranking = _ranking(pipeline, collection, case, answer.query)
    generator = pipeline.generator()
    markers = {source.marker for source in answer.sources}
    nll = None
    # An answer in parts had a prompt for each: what stands here is of one prompt. One about many
    # documents, and an abstention without asking, had none.
    whole = not answer.parts
    # Which sources were for a part that was not prompted is not told.
    prompted = bool(answer.model_id) and not answer.unanswered
    if whole and plan.perplexity and case.references and isinstance(generator, Scoring):
        nll = generator.nll(prompt.build(answer.query, answer.sources), case.references[0])
    return Row(
        case,
        query=answer.query,
        ranking=tuple(map(places.hit, ranking)),
        sources=tuple(map(places.shown, answer.sources)),
        cut=tuple(
            places.shown(each) for each in retrieved if prompted and each.marker not in markers
        ),
        prompt_sha256=(
            prompt_hash(prompt.build(answer.query, answer.sources))
            if answer.model_id and whole
            else ""
        ),
        answered=True,
        answer=answer.text,
        draft="".join(draft),
        citations=tuple(
            Cited(
                each.marker,
                each.document,
                each.page,
                each.quote,
                places.verbatim(each.document_id, each.page, each.quote),
            )
            for each in answer.citations
        ),
        verdicts=tuple(
            Judged(each.claim, each.label, each.score, tuple(c.marker for c in each.citations))
            for each in answer.verdicts
        ),
        unresolved=answer.unresolved,
        abstained=answer.abstained,
        reason=answer.reason,
        confidence=answer.confidence,
        model_id=answer.model_id,
        tokens=generator.count("".join(draft)) if whole else 0,
        reference_nll=nll,
        timings=dict(answer.timings),
    )


def _depth(settings: Settings) -> int:
    """How much of the ranking is asked for: never more candidates than an answer would have."""
    return max(settings.retrieval.top_k, min(DEPTH, settings.retrieval.candidates))


class _Places:
    """Where chunks stand, and what stands on pages."""

    def __init__(self, index: Index, collection: Collection, entries: Sequence[Entry]) -> None:
        self._index = index
        self._ids: dict[str, list[str]] = {}
        for entry in entries:
            self._ids.setdefault(PurePath(entry.source).name, []).append(entry.id)
        self._pages: dict[str, dict[int, str]] = {}
        self._taken: set[str] = set()

    def taken(self) -> set[str]:
        """Ids of the documents whose text was put into rows since this was last asked."""
        found, self._taken = self._taken, set()
        return found

    def hit(self, source: Source) -> Hit:
        return Hit(
            source.chunk.id, source.document, source.chunk.page_start, round(source.score, 6)
        )

    def shown(self, source: Source) -> Shown:
        self._taken.add(source.chunk.document_id)
        hit = self.hit(source)
        return Shown(source.marker, hit.chunk_id, hit.document, hit.page, hit.score, source.excerpt)

    def quoted(self, case: GoldenCase) -> None:
        """A row holds its case, and with it what that quotes of its pages."""
        for ref in case.relevant:
            if ref.quote:
                self._taken.update(self._ids.get(ref.document, ()))

    def verbatim(self, document_id: str, page: int, quote: str) -> bool:
        """Whether a quote stands on a page, letter for letter."""
        return bool(quote) and quote in self._text(document_id).get(page, "")

    def missing(self, case: GoldenCase) -> tuple[int, ...]:
        """Which of a case's pages, counted from 0, have lost the quote that makes them right."""
        return tuple(
            number
            for number, ref in enumerate(case.relevant)
            if ref.quote
            and not any(
                squeezed(ref.quote) in squeezed(text)
                for document_id in self._ids.get(ref.document, ())
                for page, text in self._text(document_id).items()
                if ref.page in (None, page)
            )
        )

    def _text(self, document_id: str) -> dict[int, str]:
        if document_id not in self._pages:
            document = self._index.catalogue.document(document_id)
            pages = document.pages if document else ()
            self._pages[document_id] = {page.number: page.text for page in pages}
        return self._pages[document_id]


def squeezed(text: str) -> str:
    """Without white space, which every reader of files guesses differently."""
    return "".join(text.split())


def _page_counts(entries: Sequence[Entry]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in entries:
        name = PurePath(entry.source).name
        counts[name] = max(entry.pages, counts.get(name, 0))
    return counts


def _comparable(settings: Settings) -> dict[str, Any]:
    """Settings that can change a result, without where things lie on this machine."""
    said = settings.model_dump(
        mode="json", exclude={"data_dir", "server", "collection", "eval", "finetune"}
    )
    for key in ("dir", "endpoint_key", "threads"):
        said["models"].pop(key)
    for section in ("models", "ingest"):
        for key, value in said[section].items():
            if isinstance(value, str) and "/" in value and "://" not in value:
                said[section][key] = PurePath(value).name
    return {key: said[key] for key in sorted(said)}


def _commit() -> str:
    """The commit of the source tree, with a + if it was changed; empty for an installed package."""
    here = Path(__file__).parents[1]
    if not (here / ".git").exists():
        return ""

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
