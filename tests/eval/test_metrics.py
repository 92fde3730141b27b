"""Each metric against a sum worked out by hand."""

from __future__ import annotations

import math

import pytest

from eval.metrics import ndcg, recall, reciprocal_rank

RANKING = ["a", "b", "c", "d", "e"]


def test_recall_is_the_share_of_relevant_ids_found() -> None:
    assert recall(RANKING, {"b", "x"}, 1) == 0
    assert recall(RANKING, {"b", "x"}, 2) == 0.5
    assert recall(RANKING, {"b", "e"}, 5) == 1


def test_reciprocal_rank_looks_no_further_than_k() -> None:
    assert reciprocal_rank(RANKING, {"c", "d"}, 10) == pytest.approx(1 / 3)
    assert reciprocal_rank(RANKING, {"c"}, 2) == 0


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    # hits at ranks 2 and 4; the best would be ranks 1 and 2
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(RANKING, {"b", "d"}, 10) == pytest.approx(gain / best)
    assert ndcg(RANKING, {"b", "d"}, 3) == pytest.approx((1 / math.log2(3)) / best)
    assert ndcg(RANKING, {"a"}, 10) == 1


def test_ndcg_at_k_can_be_perfect_with_more_relevant_ids_than_k() -> None:
    assert ndcg(["a", "b"], {"a", "b", "c"}, 2) == 1
