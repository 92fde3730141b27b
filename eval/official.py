"""A run's metrics held against other people's code. `python -m eval.official RUN`.

Retrieval against trec_eval (pytrec-eval-terrier, Van Gysel & de Rijke, 2018), which is a
development dependency; with `--script` and `--gold`, exact match and F1 against SQuAD's official
evaluation. Prints the greatest difference over the cases, of each metric.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from eval import run, score
from eval.rows import Row
from rag_bot.errors import RagBotError

NAMES = {
    "recall@1": "recall_1",
    "recall@5": "recall_5",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
    "precision@5": "P_5",
    "nDCG@10": "ndcg_cut_10",
    "MAP@100": "map_cut_100",
}
"""Ours, and what trec_eval calls it. Its reciprocal rank has no cut-off: it is given ten pages."""


def by_trec_eval(rows: Sequence[Row]) -> dict[str, float]:
    """The greatest difference of each retrieval metric over the cases with relevant pages."""
    import pytrec_eval

    asked = [row for row in rows if row.case.relevant and not row.error]
    qrels = {
        row.case.id: {_key(ref.document, ref.page): 1 for ref in row.case.relevant} for row in asked
    }
    ranked = {row.case.id: [_key(*place) for place in score.ranking(row)] for row in asked}
    theirs = _evaluated(pytrec_eval, qrels, ranked, set(NAMES.values()))
    ten = {case: keys[:10] for case, keys in ranked.items()}
    firsts = _evaluated(pytrec_eval, qrels, ten, {"recip_rank"})
    differences: dict[str, float] = {}
    for row in asked:
        pairs = [(ours, theirs[row.case.id][name]) for ours, name in NAMES.items()]
        pairs.append(("MRR@10", firsts[row.case.id]["recip_rank"]))
        for ours, value in pairs:
            mine = score.PER_CASE[ours].value(row)
            assert mine is not None, "a case with relevant pages has every retrieval metric"
            differences[ours] = max(differences.get(ours, 0.0), abs(mine - value))
    return differences


def by_squad(rows: Sequence[Row], script: Path, gold: Path) -> dict[str, tuple[float, float]]:
    """EM and F1, in percent: ours and the official script's over the same questions."""
    said = {row.case.id: score.said(row) for row in rows if not row.error}
    with tempfile.TemporaryDirectory() as work:
        kept = json.loads(gold.read_text("utf-8"))
        for article in kept["data"]:
            for paragraph in article["paragraphs"]:
                paragraph["qas"] = [qa for qa in paragraph["qas"] if qa["id"] in said]
        answers, asked = Path(work) / "answers.json", Path(work) / "gold.json"
        answers.write_text(json.dumps(said), "utf-8")
        asked.write_text(json.dumps(kept), "utf-8")
        done = subprocess.run(
            [sys.executable, str(script), str(asked), str(answers)],
            capture_output=True,
            text=True,
            check=True,
        )
    official: Mapping[str, float] = json.loads(done.stdout)
    return {
        ours: (100 * mean(_values(rows, ours)), official[theirs])
        for ours, theirs in (("exact_match", "exact"), ("F1", "f1"))
    }


def _values(rows: Sequence[Row], name: str) -> list[float]:
    found = (score.PER_CASE[name].value(row) for row in rows if not row.error)
    return [value for value in found if value is not None]


def _evaluated(
    library: object,
    qrels: Mapping[str, Mapping[str, int]],
    ranked: Mapping[str, Sequence[str]],
    measures: set[str],
) -> dict[str, dict[str, float]]:
    # trec_eval orders by score alone: a page's is one less than that of the page before it.
    scored = {
        case: {key: float(-rank) for rank, key in enumerate(keys)} for case, keys in ranked.items()
    }
    evaluator = library.RelevanceEvaluator(qrels, measures)  # type: ignore[attr-defined]
    found = evaluator.evaluate(scored)
    # It leaves out a case for which nothing was found: that counts nothing.
    nothing = dict.fromkeys(measures, 0.0)
    return {case: found.get(case, nothing) for case in qrels}


def _key(document: str, page: int | None) -> str:
    return f"{document}#{page}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where any metric differs in the fourth decimal."""
    parser = argparse.ArgumentParser(prog="python -m eval.official", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--script", type=Path, help="SQuAD's evaluate-v2.0.py")
    parser.add_argument("--gold", type=Path, help="the SQuAD file whose questions were asked")
    options = parser.parse_args(arguments)
    try:
        rows = run.read(options.run)[1]
    except RagBotError as error:
        print(f"eval.official: {error}", file=sys.stderr)
        return error.exit_status
    worst = 0.0
    for name, difference in by_trec_eval(rows).items():
        print(f"{name:12} differs by {difference:.2e} at most")
        worst = max(worst, difference)
    if options.script and options.gold:
        for name, (ours, theirs) in by_squad(rows, options.script, options.gold).items():
            print(f"{name:12} {ours:.4f}, official {theirs:.4f}")
            worst = max(worst, abs(ours - theirs))
    return int(worst >= 5e-5)


if __name__ == "__main__":
    sys.exit(main())
