import math
from statistics import fmean

import pytest

from eval import general
from rag_bot.config import Settings
from rag_bot.errors import UsageError


@pytest.mark.parametrize("length", [2, 700, 1024, 1025, 1536, 1600, 5000])
def test_each_token_but_the_first_is_scored_once(length: int) -> None:
    scored = [
        token for part, count in general.windows(length) for token in range(part.stop)[-count:]
    ]
    assert scored == list(range(1, length))
    assert all(part.stop - part.start <= 1024 for part, _ in general.windows(length))
    assert all(part.stop - part.start - count >= 511 for part, count in general.windows(length)[1:])


def test_perplexity_and_times_of_two_models_side_by_side(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(general, "_ANSWERS", 1)
    monkeypatch.setattr(general, "_PIECES", 8)
    chats = general.chats(settings)
    text = "The capital of France is Paris, and the capital of Italy is Rome."
    ids = chats[0]._tokenizer(text)["input_ids"]
    alone, adapted = general.costs(chats, ids, text)
    expected = math.exp(fmean(chats[0].nlls(ids, len(ids) - 1)))
    assert alone.perplexity == pytest.approx(expected)
    assert alone.perplexity != adapted.perplexity
    for cost in (alone, adapted):
        assert 1 < cost.perplexity < 30
        assert cost.reading > 0
        assert cost.writing > 0


def test_without_an_adapter_there_is_nothing_to_compare(settings: Settings) -> None:
    bare = settings.models.model_copy(update={"adapter": ""})
    with pytest.raises(UsageError, match="no adapter"):
        general.chats(settings.model_copy(update={"models": bare}))
