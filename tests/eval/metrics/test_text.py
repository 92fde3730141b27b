"""ROUGE-L, BLEU and perplexity, by hand."""

from __future__ import annotations

import math

import pytest

from eval.metrics.bleu import bleu
from eval.metrics.perplexity import perplexity
from eval.metrics.rouge import rouge_l


def test_rouge_l_follows_the_longest_common_subsequence() -> None:
    # LCS "police … gunman now", three of four words on both sides; then any single word
    assert rouge_l("police kill gunman now", ["police killed gunman now"]) == 3 / 4
    assert rouge_l("gunman kill police", ["police kill gunman"]) == pytest.approx(1 / 3)
    # LCS "b d": precision 2/4, recall 2/3
    assert rouge_l("x b c d", ["b e d"]) == pytest.approx(2 * (1 / 2 * 2 / 3) / (1 / 2 + 2 / 3))


def test_rouge_l_takes_the_best_reference() -> None:
    assert rouge_l("The rain.", ["snow", "rain"]) == 1
    assert rouge_l("", ["rain"]) == 0
    assert rouge_l("", ["the"]) == 0
    assert rouge_l("rain", []) is None


def test_bleu_multiplies_precisions_and_brevity() -> None:
    # n-grams shared: 5 of 6, 4 of 5, 3 of 4, 2 of 3; no shorter than the reference
    expected = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** (1 / 4)
    assert bleu("one two three four five nine", ["one two three four five six"]) == pytest.approx(
        expected
    )
    # every n-gram shared, 5 tokens for 6
    assert bleu("one two three four five", ["one two three four five six"]) == pytest.approx(
        math.exp(1 - 6 / 5)
    )


def test_bleu_reads_all_references_together() -> None:
    # "one two" is in the first, "three" in the second: 3 of 3 words, 1 of 2 pairs, and 1/2 of 1
    # for the smoothed triple; words of four there are none
    expected = (3 / 3 * 1 / 2 * 1 / 2) ** (1 / 3)
    assert bleu("one two three", ["one two six", "nine six three"]) == pytest.approx(expected)
    assert bleu("one two three four", ["x", "one two three four"]) == 1
    assert bleu("", ["one"]) == 0
    assert bleu("one", []) is None


def test_perplexity_is_what_the_model_chooses_among() -> None:
    assert perplexity([math.log(10)]) == pytest.approx(10)
    assert perplexity([math.log(2), math.log(8)]) == pytest.approx(4)  # the geometric mean
    assert perplexity([0.0]) == 1
    assert perplexity([]) is None
