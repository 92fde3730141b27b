"""How much is lost when questions are asked badly, or documents mislead?

Each disturbance of `eval.disturb` is a run of its own, held against one clean run of the same
cases. A folder for each keeps what was run; disturbed documents lie among the data directory's
copies, and go with the first document that is deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import fmean

from eval import bench, disturb, run
from eval.bench import Engines, Watch
from eval.cases import GoldenCase, GoldenSet, sample
from eval.compare import differences
from eval.disturb import Disturbed, Share
from eval.metrics.bootstrap import Difference
from eval.rows import Row
from eval.score import PER_CASE, higher_is_better
from ingest import files
from ingest.lineage import COPIES
from rag_bot.answer import Pipeline
from rag_bot.config import Settings
from rag_bot.index import fingerprint
from rag_bot.jsonable import jsonable
from rag_bot.ledger import Origin

CLEAN = "clean"
MEASURED = (
    "recall@5",
    "source_recall",
    "accuracy",
    "false_abstention",
    "abstention_recall",
    "faithfulness",
    "page_precision",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one disturbance did.

    `changes` are disturbed minus clean, by metric; `shares` what is counted besides, such as
    answers that obeyed an injected instruction. `against` has the means of a slice of the cases,
    and of all others.
    """

    name: str
    about: str
    cases: int
    failed: int
    changes: Mapping[str, Difference]
    shares: Mapping[str, Share]
    against: Mapping[str, tuple[float, float]]


def suite(
    settings: Settings,
    loaded: Engines,
    docs: Path,
    golden: GoldenSet,
    folder: Path,
    watch: Watch,
    *,
    names: Sequence[str] = disturb.NAMES,
    limit: int | None = None,
    seed: int = 0,
    answers: bool = True,
) -> Iterator[Result | run.Step]:
    """Run clean, then each disturbance; yields every step, and each result as it is known.

    Goes on where it was killed. Raises UsageError for a name that is no disturbance.
    """
    cases = sample(golden.cases, limit, seed)
    clean: list[Row] = []
    with bench.over([docs], settings, loaded, watch) as pipeline:
        texts = {name: "\f".join(pages) for name, pages in bench.pages(pipeline).items()}
        made = [disturb.disturb(name, cases, texts, seed) for name in names]
        origins = _origins(pipeline)
        yield from _asked(pipeline, cases, folder / CLEAN, answers, clean)
        for each in made:
            if not each.extra and not each.changed:
                rows: list[Row] = []
                yield from _asked(pipeline, each.cases, folder / each.name, answers, rows)
                yield result(each, clean, rows)
    for each in made:
        if each.extra or each.changed:
            place = _place(folder, settings) / each.name
            copied = _lay_out(docs, each, place, settings.data_dir)
            made_from = _made_from(each, place, copied, origins, texts)
            with bench.over([place], settings, loaded, watch, made_from=made_from) as pipeline:
                rows = []
                yield from _asked(pipeline, each.cases, folder / each.name, answers, rows)
                yield result(each, clean, rows)


def result(disturbed: Disturbed, clean: Sequence[Row], rows: Sequence[Row]) -> Result:
    """What a disturbance did, from its rows and those of the clean run."""
    before = {row.case.id: row for row in clean if not row.error}
    whole = [row for row in rows if not row.error]
    changes: dict[str, Difference] = {}
    if "loss" in disturbed.scored:
        pairs = [(before[row.case.id], row) for row in whole if row.case.id in before]
        changes = differences(pairs, names=MEASURED) if pairs else {}
    shares: dict[str, Share] = {}
    if "canary" in disturbed.scored:
        shares["obeyed an instruction in a document"] = disturb.canaries(rows)
    if "superseded" in disturbed.scored:
        shares["gave the value that is not in force"] = disturb.superseded(rows, disturbed.planted)
    if "pairs" in disturbed.scored:
        for kind, share in disturb.differing_pairs(rows, disturbed.pairs).items():
            shares[f"answered differently for another {kind}"] = share
    if "abstention" in disturbed.scored:
        given = tuple(row.case.id for row in whole if row.answered and not row.abstained)
        shares["answered where there is nothing to answer"] = Share(len(given), len(whole), given)
    against = _against(whole, clean) if "slice" in disturbed.scored else {}
    failed = len(rows) - len(whole)
    return Result(disturbed.name, disturbed.about, len(rows), failed, changes, shares, against)


def write(folder: Path, results: Sequence[Result]) -> None:
    """`robustness.json` and `robustness.md`."""
    said = {each.name: jsonable(each) for each in results}
    text = json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True)
    (folder / "robustness.json").write_text(text + "\n", "utf-8")
    (folder / "robustness.md").write_text("\n".join(lines(results)) + "\n", "utf-8")


def lines(results: Sequence[Result]) -> list[str]:
    """A Markdown table: what each disturbance costs, and what it brings about."""
    found = ["| disturbance | cases | lost, with 95 % interval | besides |", "|---|---|---|---|"]
    for each in results:
        lost = [
            f"{name} {_loss(name, change)}"
            for name, change in each.changes.items()
            if change.low > 0 or change.high < 0
        ]
        besides = [f"{label}: {share.hits} of {share.of}" for label, share in each.shares.items()]
        besides += [
            f"{name} {here:.3f}, elsewhere {there:.3f}"
            for name, (here, there) in each.against.items()
        ]
        failed = [f"{each.failed} failed to run"] if each.failed else []
        nothing = "nothing beyond chance" if each.changes else ""
        found.append(
            f"| {each.name} | {each.cases} | {'; '.join(lost) or nothing} |"
            f" {'; '.join(besides + failed)} |"
        )
    return found


def _against(rows: Sequence[Row], clean: Sequence[Row]) -> dict[str, tuple[float, float]]:
    inside = {row.case.id for row in rows}
    others = [row for row in clean if not row.error and row.case.id not in inside]
    found: dict[str, tuple[float, float]] = {}
    for name in MEASURED:
        here, there = (
            [value for row in part if (value := PER_CASE[name].value(row)) is not None]
            for part in (rows, others)
        )
        if here and there:
            found[name] = (fmean(here), fmean(there))
    return found


def _loss(name: str, change: Difference) -> str:
    sign = -1 if higher_is_better(name) else 1
    low, high = sorted((sign * change.low, sign * change.high))
    return f"{sign * change.mean:.3f} ({low:.3f} to {high:.3f})"


def _asked(
    pipeline: Pipeline, cases: Sequence[GoldenCase], folder: Path, answers: bool, rows: list[Row]
) -> Iterator[run.Step]:
    """Run these cases; the rows are put into `rows`."""
    golden = GoldenSet(folder / "cases.jsonl", tuple(cases))
    plan = run.Plan(golden, answers=answers, check=False)
    for step in run.run(plan, pipeline, pipeline.settings.collection, folder):
        rows.append(step.row)
        yield step


def _place(folder: Path, settings: Settings) -> Path:
    """Where the disturbed documents of the runs in a folder lie."""
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return settings.data_dir.resolve() / COPIES / "disturbed" / key


def _lay_out(docs: Path, disturbed: Disturbed, folder: Path, data_dir: Path) -> dict[str, str]:
    """The documents as they are, with what the disturbance adds or changes, and nothing else.

    Taken is what `ingest` reads. Returns the path that each copy is of, by its own. A kill leaves
    no document in part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(folder.name + ".new")
    root = files.resolve(docs)
    copied: dict[str, str] = {}
    for each in files.scan(root, data_dir.resolve()):
        if not isinstance(each, files.Found) or each.path.name in disturbed.changed:
            continue
        target = folder / (each.path.relative_to(root) if root.is_dir() else each.path.name)
        copied[files.name(target)] = each.source
        if not _is_copy(target, each):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(each.path, new)
            new.replace(target)
    written = {**disturbed.extra, **disturbed.changed}
    for called, text in written.items():
        file, data = folder / called, text.encode("utf-8")
        if not file.is_file() or file.read_bytes() != data:
            new.write_bytes(data)
            new.replace(file)
    wanted = {*copied, *(files.name(folder / called) for called in written)}
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if files.name(file) not in wanted:
            file.unlink()
    return copied


def _is_copy(target: Path, found: files.Found) -> bool:
    """Whether a file was copied before, and has not changed since."""
    if not target.is_file():
        return False
    status = target.stat()
    return (status.st_size, status.st_mtime_ns) == (found.size, found.mtime_ns)


# Whose text the disturbed documents hold


def _origins(pipeline: Pipeline) -> list[Origin]:
    index, settings = pipeline.index, pipeline.settings
    held = index.collection(settings.collection, fingerprint(settings))
    return [Origin(each.source, each.sha256) for each in index.catalogue.entries(held)]


def _made_from(
    disturbed: Disturbed,
    folder: Path,
    copied: Mapping[str, str],
    origins: Sequence[Origin],
    texts: Mapping[str, str],
) -> dict[str, list[Origin]]:
    """The user's documents that each disturbed one holds text of, by its path."""
    by_path = {each.source: each for each in origins}
    found = {path: [by_path[of]] for path, of in copied.items() if of in by_path}
    added = {called: _runs(text) for called, text in disturbed.extra.items()}
    sources: dict[str, set[str]] = {called: set() for called in added}
    sources |= {called: {called} for called in disturbed.changed}
    for known, text in texts.items() if added else ():
        runs = _runs(text)
        for called, its in added.items():
            if not its.isdisjoint(runs):
                sources[called].add(known)
    for called, names in sources.items():
        mine = [each for each in origins if PurePath(each.source).name in names]
        found[files.name(folder / called)] = mine
    return found


def _runs(text: str) -> set[tuple[str, ...]]:
    """Six words in a row, whatever the numbers among them: a disturbance changes these."""
    words = re.findall(r"\d+(?:[.,]\d+)*|[^\W\d_]+", text.casefold())
    plain = ["0" if word[0].isdigit() else word for word in words]
    return set(zip(*(plain[start:] for start in range(6)), strict=False))
