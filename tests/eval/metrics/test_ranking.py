"""Ranking metrics: by hand, and against trec_eval on random and on real rankings."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import pytrec_eval

from eval.metrics.average_precision import average_precision
from eval.metrics.ndcg import ndcg
from eval.metrics.precision import precision
from eval.metrics.recall import recall
from eval.metrics.reciprocal_rank import reciprocal_rank

RANKING = ["a", "b", "c", "d", "e"]
SCIFACT = Path(__file__).parents[4] / "shared/data/scifact_beir"
CUTS = (1, 3, 5, 10, 100)

Run = dict[str, list[str]]
Relevant = dict[str, set[str]]


def test_recall_divides_by_what_is_relevant() -> None:
    assert recall(RANKING, {"b", "d", "x"}, 2) == pytest.approx(1 / 3)
    assert recall(RANKING, {"b", "d", "x"}, 9) == pytest.approx(2 / 3)


def test_precision_divides_by_k_however_short_the_ranking_is() -> None:
    assert precision(RANKING, {"b", "d"}, 2) == 1 / 2
    assert precision(RANKING, {"b", "d"}, 5) == 2 / 5
    assert precision(RANKING, {"b", "d"}, 10) == 2 / 10


def test_reciprocal_rank_is_of_the_first_hit_alone() -> None:
    assert reciprocal_rank(RANKING, {"b", "c"}, 5) == 1 / 2
    assert reciprocal_rank(RANKING, {"x"}, 5) == 0


def test_ndcg_compares_with_the_best_ranking() -> None:
    # one of three at rank 3; the best two places would hold two of them
    assert ndcg(RANKING, {"c", "x", "y"}, 3) == pytest.approx(
        (1 / math.log2(4)) / (1 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4))
    )


def test_average_precision_is_the_mean_of_the_precisions_at_hits() -> None:
    # precision 1/2 at rank 2 and 2/4 at rank 4; the third relevant id is never found
    assert average_precision(RANKING, {"b", "d", "x"}) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert average_precision(RANKING, {"b", "d", "x"}, 3) == pytest.approx((1 / 2) / 3)
    assert average_precision(RANKING, {"a", "b"}) == 1


def test_ids_may_be_anything_that_hashes() -> None:
    pages = [("lease.pdf", 3), ("lease.pdf", 1)]
    assert recall(pages, {("lease.pdf", 1)}, 1) == 0
    assert average_precision(pages, {("lease.pdf", 1)}) == 1 / 2


@pytest.mark.parametrize("metric", [recall, ndcg, average_precision])
def test_with_nothing_to_find_there_is_no_value(metric: object) -> None:
    with pytest.raises(ZeroDivisionError):
        metric(RANKING, set(), 5)  # type: ignore[operator]


def test_random_rankings_score_as_trec_eval_scores_them() -> None:
    chance = random.Random(3)
    run: Run = {}
    relevant: Relevant = {}
    for number in range(300):
        ids = [f"d{i}" for i in range(chance.randint(1, 150))]
        chance.shuffle(ids)
        unfound = [f"x{i}" for i in range(chance.choice([0, 0, 1, 5]))]
        chosen = chance.sample(ids, min(len(ids), chance.choice([1, 1, 2, 7, 40]))) + unfound
        run[f"q{number}"] = ids[: chance.randint(1, len(ids))]
        relevant[f"q{number}"] = set(chosen)
    _agree(run, relevant)


@pytest.mark.skipif(not SCIFACT.exists(), reason="the public data is not here")
def test_rankings_of_real_questions_score_as_trec_eval_scores_them() -> None:
    documents = {
        row["_id"]: set(_words(row["title"] + " " + row["text"]))
        for row in map(json.loads, (SCIFACT / "corpus.jsonl").open(encoding="utf-8"))
    }
    frequency = Counter(word for words in documents.values() for word in words)
    relevant: Relevant = {}
    for line in (SCIFACT / "qrels/test.tsv").read_text("utf-8").splitlines()[1:]:
        question, document, grade = line.split("\t")
        if int(grade):
            relevant.setdefault(question, set()).add(document)
    asked = dict(sorted(relevant.items())[:60])
    run: Run = {}
    for row in map(json.loads, (SCIFACT / "queries.jsonl").open(encoding="utf-8")):
        if row["_id"] in asked:
            weights = {w: 1 / frequency[w] for w in _words(row["text"]) if w in frequency}
            scores = {
                i: sum(weights[word] for word in words & weights.keys())
                for i, words in documents.items()
            }
            run[row["_id"]] = sorted(scores, key=lambda i: (-scores[i], i))[:100]
    assert 0.3 < sum(recall(run[q], asked[q], 10) for q in asked) / len(asked) < 1
    _agree(run, asked)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _agree(run: Run, relevant: Relevant) -> None:
    cuts = ",".join(map(str, CUTS))
    measures = {f"{name}.{cuts}" for name in ("recall", "P", "ndcg_cut", "map_cut")}
    found = pytrec_eval.RelevanceEvaluator(
        {question: dict.fromkeys(ids, 1) for question, ids in relevant.items()},
        measures | {"map", "recip_rank"},
    ).evaluate(
        {
            question: {i: float(len(ranking) - rank) for rank, i in enumerate(ranking)}
            for question, ranking in run.items()
        }
    )
    assert found.keys() == relevant.keys()
    for question, theirs in found.items():
        case = (run[question], relevant[question])
        ours = {"map": average_precision(*case), "recip_rank": reciprocal_rank(*case, 10**6)}
        for k in CUTS:
            ours[f"recall_{k}"] = recall(*case, k)
            ours[f"P_{k}"] = precision(*case, k)
            ours[f"ndcg_cut_{k}"] = ndcg(*case, k)
            ours[f"map_cut_{k}"] = average_precision(*case, k)
        assert ours == pytest.approx(theirs, abs=5e-5)
