from collections.abc import Callable
from dataclasses import replace

import pytest

from rag_bot.abstain import REASONS, answerable, evidence, trust
from rag_bot.types import Reading, Source

Make = Callable[..., Source]


def test_evidence_worked_by_hand(source: Make) -> None:
    """Two of three words (pump, pressure, valve) are in the best source: (0.6 + 2/3) / 2."""
    sources = [source(1, "The pump."), source(2, "The pump and its pressure.")]
    assert evidence("Pump pressure valve?", sources, 0.6) == pytest.approx((0.6 + 2 / 3) / 2)


def test_a_heading_counts_as_the_sources_words(source: Make) -> None:
    assert evidence("refund", [source(1, "14 days.", heading="Refunds")], 0.0) == 0.5


def test_words_spread_over_sources_do_not_add_up(source: Make) -> None:
    assert evidence("pump lease", [source(1, "pump"), source(2, "lease")], 0.0) == 0.25


def test_a_cosine_below_zero_counts_as_none(source: Make) -> None:
    assert evidence("pump", [source(1, "pump")], -0.4) == 0.5


def test_a_question_of_stop_words_has_only_its_cosine(source: Make) -> None:
    assert evidence("What is this about?", [source(1, "pump")], 0.5) == 0.25


def test_no_sources_are_no_evidence() -> None:
    assert evidence("pump", [], 0.0) == 0.0


def test_every_reason_has_words() -> None:
    assert set(REASONS) == {
        "empty_question", "empty_collection", "empty_scope", "no_evidence", "model", "unsupported",
    }  # fmt: skip
    assert all(text.endswith(".") for text in REASONS.values())


def test_what_counts_is_the_probability_of_the_source_that_would_be_quoted(source: Make) -> None:
    """0.60 x 0.9 is more than 0.65 x 0.9^2."""
    read = [
        replace(source(n, "x"), reading=Reading(0.0, p, 0, 1, 0.0))
        for n, p in enumerate((0.6, 0.65), start=1)
    ]
    assert answerable(read) == 0.6
    assert answerable(read[1:]) == 0.65
    assert answerable([source(1, "x")]) is None


def test_trust_worked_by_hand() -> None:
    """At even odds e^-1.84 to 1, at 3 to 1 (0.75) 3^1.74 times as much."""
    assert trust(0.5) == pytest.approx(0.1370, abs=1e-3)
    assert trust(0.75) == pytest.approx(0.5178, abs=1e-3)
    assert 0 <= trust(0.0) < trust(0.1) < trust(0.9) < trust(1.0) <= 1
