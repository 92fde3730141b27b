"""Faithfulness and citations, by hand."""

from __future__ import annotations

from eval.metrics.citations import (
    citation_precision,
    citation_recall,
    page_precision,
    page_recall,
    resolved,
    verbatim,
)
from eval.metrics.faithfulness import faithfulness


def test_faithfulness_is_the_share_of_supported_claims() -> None:
    assert faithfulness([True, True, False, True]) == 3 / 4
    assert faithfulness([]) is None


def test_a_claim_is_cited_if_one_citation_supports_it() -> None:
    assert citation_recall([2, 0, 1]) == 2 / 3
    assert citation_recall([]) is None


def test_every_citation_must_support_its_claim() -> None:
    assert citation_precision([True, False, False, False]) == 1 / 4
    assert citation_precision([]) is None


def test_pages_are_compared_as_sets() -> None:
    cited = [("a.pdf", 1), ("a.pdf", 1), ("a.pdf", 2), ("b.pdf", 7)]
    relevant = [("a.pdf", 2), ("b.pdf", 8)]
    assert page_precision(cited, relevant) == 1 / 3
    assert page_recall(cited, relevant) == 1 / 2
    assert page_precision([], relevant) is None
    assert page_recall([], relevant) == 0
    assert page_precision(cited, []) == 0
    assert page_recall(cited, []) is None


def test_any_page_of_a_document_will_do_where_none_is_named() -> None:
    assert page_precision([("a.pdf", 1), ("a.pdf", 9), ("b.pdf", 1)], [("a.pdf", None)]) == 2 / 3
    assert page_recall([("a.pdf", 9)], [("a.pdf", None), ("b.pdf", None)]) == 1 / 2


def test_markers_resolve_to_what_was_shown() -> None:
    assert resolved([1, 2, 2, 9], {1, 2, 3}) == 3 / 4
    assert resolved([], {1}) is None


def test_quotes_are_verbatim_or_not() -> None:
    assert verbatim([True, False]) == 1 / 2
    assert verbatim([]) is None
