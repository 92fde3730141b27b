"""The whole loop, as a scheduled job runs it: examples, training, evaluation, and the verdict.

Documents are parted first. From those for training come the examples, from those for testing the
golden cases that decide, unless a person's own are given: nothing is judged by what was taught.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

from eval import bench, cases, draft
from eval.bench import Watch
from eval.cases import GoldenSet
from eval.metrics.squad import normalize
from eval.rows import Row
from eval.run import Plan, Step
from finetune import compose, examples, feedback, promotion, questions, reader, registry, train
from finetune.examples import QAExample, Split
from finetune.promotion import Verdict
from finetune.registry import Card
from finetune.train import Recipe, Trained
from ingest.delete import delete
from ingest.lineage import COPIES
from rag_bot import adapters, models, read
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.errors import RagBotError, UsageError
from rag_bot.index import Index
from rag_bot.ledger import Forgotten, Ledger, Origin
from rag_bot.read import located

EXAMPLES, GOLDEN = "examples.jsonl", "golden.jsonl"
_READER = reader.Recipe(
    rate=3e-5, longest=4000, wrong=0.8, removed=0.15, twisted=0.2, headed=1.0, mix={}
)
"""A fifth of the rate that the reader was made with: the questions of a folder are all alike."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a loop makes: so many examples, judged by so many cases."""

    recipe: Recipe = field(default_factory=Recipe)
    count: int = 300
    cases: int = 100
    by_model: int = 0
    seed: int = 0
    hours: float = 24.0


class Progress(NamedTuple):
    """Event: so many of the questions have been made into examples."""

    done: int
    total: int
    made: int


class Written(NamedTuple):
    """Event: the examples are in `file`, and a page to look at them beside it.

    `without` questions gave none; `unheard` is what people said that none could be made of.
    """

    file: Path
    examples: list[QAExample]
    without: int
    unheard: int


Event = Progress | Written | train.Event | Step | Verdict | Card


@contextmanager
def over(docs: Path, settings: Settings, watch: Watch) -> Iterator[Pipeline]:
    """A pipeline over a copy of the documents, without those that the user deleted."""

    def forget(index: Index) -> None:
        gone = _deleted(settings)
        name, paths = settings.collection, {each.source for each in gone}
        for back in {each.source for each in index.ledger.forgotten(name)} - paths:
            index.ledger.let_in(name, back)
        held = index.catalogue.collection(name)
        hashes = {each.sha256 for each in gone}
        there = [
            entry
            for entry in (index.catalogue.entries(held) if held else ())
            if entry.source in paths or entry.sha256 in hashes
        ]
        if held and there:
            delete(index, held, there, settings)
        for each in gone:
            index.ledger.keep_out(name, each.source, each.sha256)

    loaded = bench.engines(settings)
    with bench.over([docs], settings, loaded, watch, prepare=forget) as pipeline:
        yield pipeline


def _deleted(settings: Settings) -> list[Forgotten]:
    """What was deleted from the user's index and stays out, from whichever collection.

    What the collection in use has in spite of that is the user's to learn from.
    """
    with bench.ledger(settings) as ledger:
        kept = {each.source for each in ledger.held()}
        ours = ledger.forgotten(settings.collection)
        return ours + [each for each in ledger.forgotten() if each.source not in kept]


def write_examples(
    pipeline: Pipeline,
    file: Path,
    settings: Settings,
    wanted: Wanted,
    accepted: GoldenSet | None = None,
    judged_by: GoldenSet | None = None,
    preferred: Sequence[tuple[Row, Row]] = (),
    *,
    tested: bool = True,
) -> Iterator[Progress | Written]:
    """Make examples from the documents of a pipeline, with what accepted cases and feedback say.

    `judged_by` are the cases that models are judged by: no example asks the same. `preferred` are
    answers of two runs, the better first. `tested` says whether examples of the documents for
    testing are made as well, to look at: none is learned. Raises UsageError where too little could
    be made, and Unavailable where a document was deleted meanwhile.
    """
    texts = bench.pages(pipeline)
    home = _homes(texts, wanted.seed, judged_by)
    held_back = {name for name, split in home.items() if split == "test"}
    serving = compose.Serving(pipeline, home)
    asked = questions.by_rule(texts, wanted.count, wanted.seed)
    asked += questions.of_cases(accepted.cases) if accepted else ()
    asked += questions.by_model(texts, pipeline.generator(), pipeline, wanted.by_model, wanted.seed)
    if not tested:
        asked = [each for each in asked if each.document not in held_back]
    golden = set(promotion.asked_by(judged_by.cases, pipeline)) if judged_by else set()
    made: dict[str, compose.Made] = {}
    without = 0
    for done, some in enumerate(compose.compose(asked, serving, wanted.seed), start=1):
        made |= {one.example.id: one for one in some}
        without += not some
        yield Progress(done, len(asked), len(made))
    learned = list(feedback.of_preferred(preferred, serving))
    unheard = len(preferred) - len(learned)
    made |= {one.example.id: one for one in learned}
    with bench.ledger(settings) as ledger:
        rows = [row for row in ledger.feedback() if row["collection"] == settings.collection]
        for row in rows:
            if not (row["thumb"] > 0 or row["correction"].strip()):
                continue
            told = feedback.of_feedback(row, home)
            example = examples.without(told, held_back) if told else None
            if example:
                origins = tuple(ledger.origins("feedback", str(row["id"])))
                made[example.id] = compose.Made(example, origins)
            else:
                unheard += 1
    gone = [each.source for each in _deleted(settings)]
    judged = {normalize(question) for question in golden}
    barred = {name for name, each in made.items() if normalize(each.example.question) in judged}
    unheard += sum(made[name].example.kind in ("feedback", "preferred") for name in barred)
    made = {name: each for name, each in made.items() if name not in barred}
    found = [
        replace(each.example, origins=tuple((o.source, o.sha256) for o in each.origins))
        for each in made.values()
    ]
    examples.check(found, golden, gone, held_back)
    if not found:
        raise UsageError("the documents gave no example", "give more, or examples of your own")
    with _quoting(pipeline, settings) as ledger:
        for each in made.values():
            ledger.record_lineage(
                "example",
                each.example.id,
                settings.collection,
                each.origins,
                str(file.resolve()),
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        examples.write(file, found)
        file.with_suffix(".html").write_text(examples.sheet(found), "utf-8")
    yield Written(file, found, without, unheard)


@contextmanager
def _quoting(pipeline: Pipeline, settings: Settings) -> Iterator[Ledger]:
    """The user's ledger, for saying who is quoted in what is written meanwhile.

    A deletion comes before it, and nothing is written, or after it, and takes out what was.
    """
    with bench.ledger(settings) as ledger, ledger.together():
        bench.nothing_went(pipeline, ledger)
        yield ledger


def _homes(
    texts: Mapping[str, Sequence[str]], seed: int, judged_by: GoldenSet | None
) -> dict[str, Split]:
    """Each document's split; those that golden cases are about are for testing."""
    home = examples.splits(texts, seed)
    named = {ref.document for case in judged_by.cases for ref in case.relevant} if judged_by else ()
    return home | {name: "test" for name in named if name in home}


def write_golden(pipeline: Pipeline, file: Path, settings: Settings, wanted: Wanted) -> GoldenSet:
    """Draft the cases that decide, from the documents for testing alone.

    They are asked as they are: whether a person would have put them so matters less where two
    models get the same. Raises UsageError where too few could be drafted.
    """
    texts = bench.pages(pipeline)
    home = examples.splits(texts, wanted.seed)
    held = {name for name, split in home.items() if split == "test"}
    drafted = draft.draft(texts, count=wanted.cases, seed=wanted.seed, about=held)
    # The live ones may have learned from what was for training then and is for testing now.
    known = {
        question
        for place in (adapters.located(settings), located(settings))
        if place
        for question in registry.was_asked(place, (case.question for case in drafted))
    }
    accepted = [
        replace(each, tags=tuple(tag for tag in each.tags if tag != cases.DRAFT))
        for each in drafted
        if each.question not in known
    ]
    if sum(case.answerable for case in accepted) < examples.FEWEST or all(
        case.answerable for case in accepted
    ):
        raise UsageError(
            f"the documents for testing gave {len(accepted)} cases, and near misses are needed too",
            "give --cases of your own (`rag-bot eval cases` drafts them), or more documents",
        )
    origins = compose.origins(pipeline)
    with _quoting(pipeline, settings) as ledger:
        for case in accepted:
            mine = [origin for origin in origins if PurePath(origin.source).name == case.group]
            ledger.record_lineage(
                "example", case.id, settings.collection, mine, str(file.resolve())
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        cases.write(file, accepted)
    return cases.read(file)


def learn(
    taught: Sequence[QAExample],
    settings: Settings,
    recipe: Recipe,
    *,
    begin: Path | None = None,
    place: Path | None = None,
    device: str = "auto",
    hours: float = 24.0,
    check: Callable[[Ledger], None] = lambda _: None,
) -> Iterator[train.Event | Card]:
    """Train a candidate and register it; the last event is its card.

    `place` is the folder of a candidate whose training was killed: it goes on. `check` is asked, in
    the transaction that says what it learns from, whether all of that is still there.
    """
    base = models.locate(settings.models.llm, settings.models.dir)
    if begin:
        adapters.check_fits(begin, base)
        recipe = train.continuing(recipe, begin)
    place = place or registry.new(settings, recipe.method)
    # What is for testing is not learned, and its deletion concerns nobody here.
    read_of = [each for each in taught if each.split != "test"]
    sources = {Origin(*source) for each in read_of for source in each.origins}
    trained: Trained | None = None
    try:
        theirs = registry.collections(settings, [each.id for each in taught])
        registry.record(settings, place.name, sorted(sources), begin, theirs, check)
        for event in train.train(
            taught, base, recipe, place, begin=begin, device=device, hours=hours
        ):
            if isinstance(event, Trained):
                trained = event
            yield event
    finally:
        # What was refused before its first step leaves no candidate behind.
        if trained is None and place.is_dir() and not any(place.iterdir()):
            place.rmdir()
            registry.forget(settings, place.name)
    assert trained is not None, "a training ends with what it made"
    lessons = [each for each in taught if each.id in trained.learned]
    registry.write_asked(place, (each.question for each in lessons), begin)
    # Without paths: the same data in another folder are the same data.
    learned = registry.Learned.of(
        (each.kind, each.document_id, replace(each, origins=())) for each in lessons
    )
    yield registry.register(
        place, settings, "adapter", dataclasses.asdict(recipe), learned, trained, begin
    )


def learn_reader(
    docs: Path,
    settings: Settings,
    wanted: Wanted,
    watch: Watch,
    accepted: GoldenSet | None = None,
) -> Iterator[Event]:
    """The same loop for the reader: it learns from what the live one knows on, and is judged.

    Ends with the card. The passages are the chunks that retrieval finds, right and wrong.
    """
    promotion.known(settings.finetune.target)
    registry.check_live(settings, "reader")
    with over(docs, settings, watch) as pipeline, _begun(settings, "reader") as place:
        golden = accepted or write_golden(pipeline, place / GOLDEN, settings, wanted)
        begin = located(settings)
        assert begin, "what is promoted, or the shipped one"
        if not _may_begin(settings, begin, golden, pipeline):
            begin = read.SHIPPED
        texts = bench.pages(pipeline)
        home = _homes(texts, wanted.seed, golden)
        asked = [
            each
            for each in questions.by_rule(texts, wanted.count, wanted.seed)
            if home[each.document] == "train"
        ]
        serving = compose.Serving(pipeline, home)
        taught: list[compose.Read] = []
        judged = {normalize(each) for each in promotion.asked_by(golden.cases, pipeline)}
        for done, some in enumerate(compose.readings(asked, serving), start=1):
            taught += [one for one in some if normalize(one.lesson.question) not in judged]
            yield Progress(done, len(asked), len(taught))
        if len(taught) < examples.FEWEST:
            raise UsageError(f"the documents gave {len(taught)} lessons", "give more of them")
        check = partial(bench.nothing_went, pipeline)
        yield _trained_reader(taught, settings, wanted.seed, begin, place, check)
        yield from _decided(place, Plan(golden, check=accepted is None), pipeline, settings)
    yield registry.read(place)


def _trained_reader(
    taught: Sequence[compose.Read],
    settings: Settings,
    seed: int,
    begin: Path,
    place: Path,
    check: Callable[[Ledger], None],
) -> Card:
    sources = {origin for each in taught for origin in each.origins}
    registry.record(settings, place.name, sorted(sources), begin, check=check)
    registry.write_asked(place, (each.lesson.question for each in taught), begin)
    recipe = replace(_READER, seed=seed, pairs=2 * len(taught))  # all that can be drawn
    headers = {text: name for each in taught for text, name in each.headers.items()}
    base = models.locate(settings.models.embedder, settings.models.dir)
    begun = time.monotonic()
    with train.explained(place):
        reader.train([each.lesson for each in taught], headers, recipe, base, place, begin)
    # Its own questions are too few and too plain to say how sure it may be of others.
    read.keep_calibration(begin, place)
    with (place / reader.LOSS).open(encoding="utf-8") as lines:
        curve = [json.loads(line)["loss"] for line in lines]
    tenth = max(1, len(curve) // 10)
    first, last = (statistics.fmean(part) for part in (curve[:tenth], curve[-tenth:]))
    seconds = time.monotonic() - begun
    trained = Trained(place, first, last, len(curve), seconds, train.peak_gb())
    learned = registry.Learned.of((each.kind, each.document, each.lesson) for each in taught)
    said = dataclasses.asdict(recipe)
    return registry.register(place, settings, "reader", said, learned, trained, begin)


def _decided(
    place: Path, plan: Plan, pipeline: Pipeline, settings: Settings
) -> Iterator[Step | Verdict]:
    """Measure a candidate, and promote it if the verdict allows it."""
    with bench.ledger(settings) as own:
        bench.nothing_went(pipeline, own)
    for step in measure(place.name, plan, pipeline, settings):
        yield step
        if isinstance(step, Verdict) and step.passed:
            registry.promote(settings, place.name)


@contextmanager
def _begun(settings: Settings, method: str) -> Iterator[Path]:
    """The folder of a new candidate, which goes again where nothing came of it."""
    place = registry.new(settings, method)
    try:
        yield place
    except RagBotError:
        if not (place / adapters.CARD).exists() and not (place / train.CHECKPOINT).exists():
            shutil.rmtree(place, ignore_errors=True)
            registry.forget(settings, place.name)
        raise


def starting_point(
    settings: Settings, recipe: Recipe, golden: GoldenSet, pipeline: Pipeline
) -> Path | None:
    """The live adapter or else the shipped one, where training can go on from it.

    What it knows need not be taught again. A LoRA may learn on; a soft prompt or a prefix begins
    anew, and so does a network of another rank.
    """
    import peft

    if recipe.method not in ("lora", "qlora"):
        return None
    weights = adapters.base(settings)
    shipped = adapters.card(adapters.SHIPPED).get("base_weights") == weights
    for place in (adapters.located(settings), adapters.SHIPPED if shipped else None):
        if place is None or not _may_begin(settings, place, golden, pipeline):
            continue
        config = peft.PeftConfig.from_pretrained(str(place))
        if isinstance(config, peft.LoraConfig) and config.r == recipe.rank:
            return place
    return None


def _may_begin(settings: Settings, place: Path, golden: GoldenSet, pipeline: Pipeline) -> bool:
    """Whether nothing that it learned was deleted since, or is asked by the cases that decide."""
    if registry.lost(settings, place):
        return False
    return not registry.was_asked(place, promotion.asked_by(golden.cases, pipeline))


def measure(
    name: str, plan: Plan, pipeline: Pipeline, settings: Settings
) -> Iterator[Step | Verdict]:
    """Evaluate a candidate and write the verdict on its card; the last event is the verdict."""
    place = registry.entry(settings, name).folder
    work = settings.data_dir / COPIES / "verdicts"
    for event in promotion.evaluate(place, plan, pipeline, settings.collection, work):
        if isinstance(event, Verdict):
            promotion.keep(place, event)
        yield event


def loop(
    docs: Path, settings: Settings, wanted: Wanted, watch: Watch, accepted: GoldenSet | None
) -> Iterator[Event]:
    """Examples, training, evaluation; promoted if the verdict allows it, refused otherwise.

    Ends with the card, whose verdict says which. `accepted` cases decide in place of drafted ones.
    """
    registry.check_live(settings, "adapter")
    with over(docs, settings, watch) as pipeline, _begun(settings, wanted.recipe.method) as place:
        golden = accepted or write_golden(pipeline, place / GOLDEN, settings, wanted)
        taught: list[QAExample] = []
        for event in write_examples(
            pipeline, place / EXAMPLES, settings, wanted, judged_by=golden, tested=False
        ):
            if isinstance(event, Written):
                taught = event.examples
            yield event
        begin = starting_point(settings, wanted.recipe, golden, pipeline)
        check = partial(bench.nothing_went, pipeline)
        yield from learn(
            taught,
            settings,
            wanted.recipe,
            begin=begin,
            place=place,
            hours=wanted.hours,
            check=check,
        )
        yield from _decided(place, Plan(golden, check=accepted is None), pipeline, settings)
    yield registry.read(place)
