"""Figures from five small rows, each worked out by hand.

Where they stand: `one` finds its only page second, is answered right and cites it. `two` finds
its pages first and third, is shown one of them, and is answered wrong. `given` and `kept` are
unanswerable: one is answered all the same, one abstained from. `shy` is abstained from though its
page was shown.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval import rows, score
from eval.cases import GoldenCase
from eval.metrics.bootstrap import Estimate
from eval.rows import Row
from eval.score import Scores

MakeCase = Callable[..., GoldenCase]
MakeRow = Callable[..., Row]
LN2 = math.log(2)


@pytest.fixture(scope="module")
def five(case: MakeCase, row: MakeRow) -> dict[str, Row]:
    made = [
        row(
            case("one", ("leave.txt", 2), tags=("single",)),
            "They have 28 days. [1]",
            found=[("leave.txt", 1), ("leave.txt", 2), ("pump.txt", 1)],
            shown=[("leave.txt", 2)],
            cited=[("leave.txt", 2, True)],
            claims=[("supported", (1,))],
            confidence=0.9,
            reference_nll=LN2,
            tokens=5,
            timings={"retrieve": 0.1, "generate": 1.0, "total": 1.2},
        ),
        row(
            case(
                "two",
                ("pump.txt", 1),
                ("lease.txt", 3),
                tags=("multi", "single"),
                nuggets=(("4.5 bar",), ("quiet", "loud")),
            ),
            "It is 5 bar. [1] It is loud. [9] Ask Ann.",
            found=[("pump.txt", 1), ("pump.txt", 1), ("tax.txt", 1), ("lease.txt", 3)],
            shown=[("pump.txt", 1), ("tax.txt", 1)],
            cited=[("pump.txt", 1, True), ("tax.txt", 1, False)],
            claims=[("supported", (1, 2)), ("unsupported", ()), ("unsupported", (2,))],
            unresolved=(9,),
            confidence=0.6,
            reference_nll=3 * LN2,
            tokens=10,
            timings={"retrieve": 0.3, "generate": 2.0, "total": 2.4},
        ),
        row(
            case("given", tags=("multi",)),
            "It is 4.5 bar.",
            found=[("pump.txt", 1)],
            shown=[("pump.txt", 1)],
            claims=[("unsupported", ())],
            confidence=0.3,
        ),
        row(case("kept"), "", found=[("pump.txt", 1)], shown=[("pump.txt", 1)], confidence=0.2),
        row(
            case("shy", ("leave.txt", None)),
            "",
            found=[("pump.txt", 1), ("leave.txt", 5), ("leave.txt", 6)],
            shown=[("pump.txt", 1), ("leave.txt", 5)],
            confidence=0.5,
        ),
    ]
    return {each.case.id: each for each in made}


@pytest.fixture(scope="module")
def scored(five: dict[str, Row]) -> Scores:
    return score.scores([*five.values()])


BY_HAND: dict[str, dict[str, float]] = {
    "recall@1": {"one": 0, "two": 1 / 2, "shy": 0},
    "recall@5": {"one": 1, "two": 1, "shy": 1},
    "recall@10": {"one": 1, "two": 1, "shy": 1},
    "recall@100": {"one": 1, "two": 1, "shy": 1},
    # Two chunks of a page are one place: `two` finds its pages at ranks 1 and 3.
    "precision@5": {"one": 1 / 5, "two": 2 / 5, "shy": 1 / 5},
    "MRR@10": {"one": 1 / 2, "two": 1, "shy": 1 / 2},
    "nDCG@10": {
        "one": 1 / math.log2(3),
        "two": (1 + 1 / 2) / (1 + 1 / math.log2(3)),
        "shy": 1 / math.log2(3),
    },
    "MAP@100": {"one": 1 / 2, "two": (1 + 2 / 3) / 2, "shy": 1 / 2},
    "source_recall": {"one": 1, "two": 1 / 2, "shy": 1},
    "accuracy": {"one": 1, "two": 0, "given": 0, "kept": 1, "shy": 0},
    "accuracy_answerable": {"one": 1, "two": 0, "shy": 0},
    "accuracy_with_quotes": {"one": 1, "two": 0, "shy": 0},
    # "4.5 bar" is not said, "loud" is; the others have one nugget, their references.
    "nugget_recall": {"one": 1, "two": 1 / 2, "shy": 0},
    "exact_match": {"one": 0, "two": 0, "given": 0, "kept": 1, "shy": 0},
    # "they have 28 days" and "28 days": 2 × 2 of 4 + 2 words.
    "F1": {"one": 4 / 6, "two": 0, "given": 0, "kept": 1, "shy": 0},
    "exact_match_answerable": {"one": 0, "two": 0, "shy": 0},
    "F1_answerable": {"one": 4 / 6, "two": 0, "shy": 0},
    "ROUGE-L": {"one": 4 / 6, "two": 0, "shy": 0},
    "abstention_recall": {"given": 0, "kept": 1},
    "false_abstention": {"one": 0, "two": 0, "shy": 1},
    "own_words": {"one": 1, "two": 1, "given": 1},
    "faithfulness": {"one": 1, "two": 1 / 3, "given": 0},
    "citation_recall": {"one": 1, "two": 1 / 3, "given": 0},
    # Of the three citations of `two`, those of its first claim.
    "citation_precision": {"one": 1, "two": 2 / 3},
    "page_precision": {"one": 1, "two": 1 / 2},
    "page_recall": {"one": 1, "two": 1 / 2},
    # `two` wrote 1, 2 and 9, and was shown two sources.
    "markers_resolved": {"one": 1, "two": 2 / 3},
    "quotes_verbatim": {"one": 1, "two": 1 / 2},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_figures_of_cases_are_those_worked_out_by_hand(five: dict[str, Row], name: str) -> None:
    values = {key: score.PER_CASE[name].value(each) for key, each in five.items()}
    assert {k: v for k, v in values.items() if v is not None} == pytest.approx(BY_HAND[name])


def test_a_quotation_is_not_in_the_models_words_and_its_quote_counts(five: dict[str, Row]) -> None:
    quoting = replace(five["one"], answer="The documents say: “All staff have 28 days.” [1]")
    assert score.PER_CASE["own_words"].value(quoting) == 0
    quoted = replace(
        five["two"], citations=(replace(five["two"].citations[0], quote="It has 28 days."),)
    )
    assert score.PER_CASE["accuracy_with_quotes"].value(quoted) == 1


def test_all_the_nuggets_make_an_answer_right(five: dict[str, Row]) -> None:
    both = replace(five["two"], answer="It delivers 4.5 bar. [1]\n\nIt is loud. [2]")
    for name in ("accuracy", "accuracy_answerable", "accuracy_with_quotes", "nugget_recall"):
        assert score.PER_CASE[name].value(both) == 1


def test_the_parts_of_an_answer_are_read_each_by_itself(five: dict[str, Row]) -> None:
    quoted = "The documents say: “It delivers 4.5 bar.” [1]"
    silent = "The documents do not answer “who built it”."
    parted = replace(five["two"], answer=f"{quoted}\n\n{silent}")
    assert score.said(parted) == "It delivers 4.5 bar."
    assert score.PER_CASE["own_words"].value(parted) == 0
    parted = replace(parted, answer=f"{quoted}\n\nIt is loud. [2]")
    assert score.said(parted) == "It delivers 4.5 bar.\n\nIt is loud."
    assert score.PER_CASE["own_words"].value(parted) == 1


def test_every_figure_of_a_case_is_held_against_one_worked_out_by_hand() -> None:
    elsewhere = {"BLEU", "judge_accuracy"}
    assert BY_HAND.keys() | elsewhere == score.PER_CASE.keys()


def test_the_mean_of_the_cases_is_the_figure(scored: Scores) -> None:
    assert (scored.cases, scored.failed) == (5, 0)
    for name, values in BY_HAND.items():
        each = scored.metrics[name]
        assert each.mean == pytest.approx(sum(values.values()) / len(values)), name
        assert each.n == len(values)
        assert each.low <= each.mean <= each.high


def test_bleu_of_the_reference_itself_is_one(five: dict[str, Row]) -> None:
    bleu = score.PER_CASE["BLEU"].value
    assert bleu(replace(five["one"], answer="28 days [1]")) == pytest.approx(1)
    assert bleu(five["shy"]) == 0
    assert bleu(five["kept"]) is None


@pytest.mark.parametrize(("said", "value"), [(True, 1.0), (False, 0.0), (None, None)])
def test_a_judge_counts_where_it_spoke(
    five: dict[str, Row], said: bool | None, value: float | None
) -> None:
    judged = replace(five["one"], judged_right=said)
    assert score.PER_CASE["judge_accuracy"].value(judged) == value
    assert ("judge_accuracy" in score.scores([judged]).metrics) == (value is not None)


def test_figures_of_the_set_are_those_worked_out_by_hand(scored: Scores) -> None:
    """Answered are `one` (0.9, right), `two` (0.6, wrong) and `given` (0.3, wrong)."""
    found = {name: each.mean for name, each in scored.metrics.items()}
    assert {name: found[name] for name in score.OVERALL} == pytest.approx(
        {
            "abstention_precision": 1 / 2,
            "abstention_F1": 2 * 1 / (2 + 2),
            "AURC": (0 + 1 / 2 + 2 / 3) / 3,
            "coverage@80": 1 / 5,
            "coverage@90": 1 / 5,
            "ECE": (0.1 + 0.6 + 0.3) / 3,
            "Brier": (0.01 + 0.36 + 0.09) / 3,
            "confidence_AUROC": 1.0,
            "perplexity": 4.0,  # the mean of ln 2 and 3 ln 2 is ln 4
        }
    )


def test_what_is_asked_of_answers_is_not_asked_of_retrieval_alone(five: dict[str, Row]) -> None:
    bare = [
        replace(five[key], answered=False, abstained=False, answer="", reference_nll=None)
        for key in ("one", "two")
    ]
    found = score.scores([replace(each, citations=(), verdicts=()) for each in bare])
    assert found.metrics.keys() == {
        *("recall@1", "recall@5", "recall@10", "recall@100", "precision@5"),
        *("MRR@10", "nDCG@10", "MAP@100", "source_recall"),
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("They have 28 days. [1] It expires [2][13].", "They have 28 days. It expires."),
        ("The documents say: “28 days [of] leave” [2]", "28 days [of] leave"),
        ("The documents say: “two\nlines”", "two\nlines"),
        ("He said: “28 days”", "He said: “28 days”"),
        (" 28 [1]", "28"),
        ("[1]", ""),
    ],
)
def test_what_was_said_is_without_markers_and_quoting(
    case: MakeCase, row: MakeRow, answer: str, words: str
) -> None:
    assert score.said(row(case("a", ("x.txt", 1)), answer)) == words


def test_an_abstention_says_nothing(case: MakeCase, row: MakeRow) -> None:
    abstained = row(case("a"), "The documents do not answer this.")
    assert score.said(replace(abstained, abstained=True)) == ""
    assert score.correct(replace(abstained, abstained=True))
    assert not score.correct(abstained)


def test_right_is_what_holds_any_reference(case: MakeCase, row: MakeRow) -> None:
    asked = case("a", ("x.txt", 1), references=("28 days", "four weeks"))
    assert score.correct(row(asked, "Staff get Four  Weeks off."))
    assert not score.correct(row(asked, "Staff get 27 days."))
    assert not score.correct(row(asked, ""))


@pytest.mark.parametrize("name", ["exact_match", "F1", "accuracy"])
def test_an_answerable_case_without_a_reference_has_no_figure_of_its_answer(
    case: MakeCase, row: MakeRow, name: str
) -> None:
    asked = case("a", ("x.txt", 1), references=())
    assert score.PER_CASE[name].value(row(asked, "")) is None
    assert score.PER_CASE[name].value(row(asked, "28 days")) is None


def test_an_answer_that_nothing_is_known_of_is_in_no_figure_of_confidence(
    five: dict[str, Row], scored: Scores, case: MakeCase, row: MakeRow
) -> None:
    said, silent = (
        row(case(f"open{n}", ("leave.txt", 1), references=()), answer, confidence=0.99)
        for n, answer in enumerate(("28 days", ""))
    )
    found = score.scores([*five.values(), said, silent]).metrics
    for name in ("AURC", "coverage@80", "coverage@90", "ECE", "Brier", "confidence_AUROC"):
        assert (found[name].mean, found[name].n) == (
            pytest.approx(scored.metrics[name].mean),
            scored.metrics[name].n,
        ), name
    assert not score.can_be_scored(said)
    assert all(map(score.can_be_scored, five.values()))
    facts = case("facts", ("leave.txt", 1), references=(), nuggets=(("28 days",),))
    assert score.can_be_scored(row(facts, "28 days"))


def test_figures_of_the_set_say_how_many_cases_they_are_about(scored: Scores) -> None:
    assert {name: scored.metrics[name].n for name in score.OVERALL} == {
        "abstention_precision": 2,
        "abstention_F1": 5,
        **dict.fromkeys(("AURC", "coverage@80", "coverage@90"), 5),
        **dict.fromkeys(("ECE", "Brier", "confidence_AUROC"), 3),
        "perplexity": 2,
    }


def test_a_right_page_is_cited_or_not_or_nothing_is(five: dict[str, Row]) -> None:
    assert score.cites_right_page(five["one"]) is True
    wrong = replace(five["two"], citations=five["two"].citations[1:])
    assert score.cites_right_page(wrong) is False
    assert score.cites_right_page(five["given"]) is None


def test_where_any_page_will_do_documents_are_ranked(case: MakeCase, row: MakeRow) -> None:
    found = [("b.txt", 1), ("a.txt", 7), ("a.txt", 2), ("b.txt", 2), ("b.txt", 1)]
    asked = case("a", ("a.txt", None))
    ranked = [("b.txt", 1), ("a.txt", None), ("b.txt", 2)]
    assert score.ranking(row(asked, found=found)) == ranked
    cited = row(asked, "28 days", cited=[("a.txt", 7, True)])
    assert score.cites_right_page(cited) is True
    assert score.PER_CASE["page_precision"].value(cited) == 1


def test_no_sources_hold_no_page(case: MakeCase, row: MakeRow) -> None:
    assert score.PER_CASE["source_recall"].value(row(case("a", ("x.txt", 1)))) == 0


def test_a_case_that_failed_is_counted_and_in_no_mean(five: dict[str, Row], scored: Scores) -> None:
    lost = Row(replace(five["one"].case, id="lost", tags=("only",)), error="RuntimeError: no")
    together = score.scores([*five.values(), lost])
    assert together == replace(scored, cases=6, failed=1)


def test_nothing_but_failures_has_no_figures(five: dict[str, Row]) -> None:
    found = score.scores([Row(five["one"].case, error="RuntimeError: no")])
    assert (found.cases, found.failed, found.metrics, found.slices) == (1, 1, {}, {})
    assert score.scores([]).cases == 0


def test_some_figures_are_told_apart_by_tag(scored: Scores) -> None:
    found = scored.slices
    assert found.keys() == {"multi", "single"}
    assert found["multi"]["accuracy"].mean == 0  # two, given
    assert found["multi"]["accuracy"].n == 2
    assert found["single"]["accuracy"].mean == 0.5  # one, two
    assert found["single"]["source_recall"].mean == 0.75
    assert found["single"].keys() == set(score.SLICED)


def test_the_interval_is_over_documents_and_not_over_cases(case: MakeCase, row: MakeRow) -> None:
    """Two documents, all right and all wrong: their means are 0, a half or 1, however many
    cases each has."""
    made = [
        row(case(f"{document}{n}", (document, 1)), "28 days" if document == "a" else "9 days")
        for document in "ab"
        for n in range(20)
    ]
    found = score.scores(made).metrics["accuracy"]
    assert found == Estimate(0.5, 0.0, 1.0, 40)


def test_metrics_are_written_plainly_and_rounded(scored: Scores) -> None:
    text = score.to_json(scored)
    assert text.endswith("}\n")
    said = json.loads(text)
    assert (said["format"], said["cases"], said["failed"]) == (1, 5, 0)
    # leave.txt has 2/3 and 0, pump.txt 0. One round in four draws leave.txt twice and of it four
    # cases: all four are 2/3 in 1.6 % of all rounds, three or more in 7.8 %, with a mean of 1/2.
    by_hand = {"mean": 0.222222, "low": 0.0, "high": 0.5, "n": 3}
    assert said["metrics"]["F1_answerable"] == by_hand
    assert said["slices"]["single"]["accuracy"]["mean"] == 0.5
    assert list(said["metrics"]) == sorted(said["metrics"])


def test_tags_in_any_order_give_the_same_bytes(five: dict[str, Row]) -> None:
    tags = ["zeta", "alpha", "müller", "10", "9"]
    written = set()
    for seed in range(2):
        random.Random(seed).shuffle(tags)
        made = [replace(r, case=replace(r.case, tags=tuple(tags))) for r in five.values()]
        written.add(score.to_json(score.scores(made)))
    assert len(written) == 1


def test_another_process_writes_the_same_bytes(
    five: dict[str, Row], scored: Scores, tmp_path: Path
) -> None:
    """Sets of strings have another order in each process."""
    file = tmp_path / "rows.jsonl"
    rows.write(file, five.values())
    say = (
        "import sys; from pathlib import Path; from eval import rows, score;"
        "sys.stdout.write(score.to_json(score.scores(rows.read(Path(sys.argv[1])))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", say, str(file)],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.decode() == score.to_json(scored)


def test_another_seed_draws_other_intervals_and_the_same_figures(
    case: MakeCase, row: MakeRow
) -> None:
    made = [
        row(case(f"{n}", (f"{n % 7}.txt", 1)), "28 days" if n % 3 else "No.") for n in range(33)
    ]
    first, second = (score.scores(made, seed=seed).metrics["F1"] for seed in (0, 1))
    assert (first.mean, first.n) == (second.mean, second.n)
    assert first != second


def test_more_is_better_but_of_errors(five: dict[str, Row]) -> None:
    worse = {"false_abstention", "AURC", "ECE", "Brier", "perplexity"}
    every: Sequence[str] = [*score.PER_CASE, *score.OVERALL]
    assert {name for name in every if not score.higher_is_better(name)} == worse
    with pytest.raises(KeyError):
        score.higher_is_better("charm")


def test_timings_are_of_the_cases_that_reached_a_stage(five: dict[str, Row]) -> None:
    made = [
        five["one"],
        five["two"],
        replace(five["kept"], timings={"retrieve": 0.2, "total": 0.4}),
        Row(five["shy"].case, error="RuntimeError: no", timings={"total": 1.0}),
    ]
    found: dict[str, Any] = score.timings(made)
    assert found["stages"]["retrieve"] == {"p50": pytest.approx(0.2), "n": 3} | {
        "p95": pytest.approx(0.29)  # nine tenths of the way from 0.2 to 0.3
    }
    assert found["stages"]["generate"]["p50"] == pytest.approx(1.5)
    assert found["stages"]["total"]["n"] == 4
    assert found["tokens"] == 15
    assert found["tokens_per_second"] == pytest.approx(15 / 3)
    assert found["seconds"] == pytest.approx(1.2 + 2.4 + 0.4 + 1.0)


def test_without_an_answer_there_is_no_speed_of_writing(five: dict[str, Row]) -> None:
    found = score.timings([replace(five["kept"], timings={"retrieve": 0.2, "total": 0.4})])
    assert (found["tokens"], found["tokens_per_second"]) == (0, None)
    assert score.timings([]) == {"stages": {}, "tokens": 0, "tokens_per_second": None, "seconds": 0}
