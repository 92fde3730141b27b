import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from rag_bot import models
from rag_bot.config import load
from rag_bot.embed import Embedder, precision
from rag_bot.errors import ModelBroken, ModelMissing


def test_vectors_have_unit_length(embedder: Embedder) -> None:
    vectors = embedder.encode(["The pump is on.", "Holiday rules.", "x"])
    assert vectors.shape == (3, embedder.dimension) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)


def test_meaning_is_nearer_than_other_meaning(embedder: Embedder) -> None:
    question, near, far = embedder.encode(
        ["How long is my vacation?", "Employees get 28 days of leave.", "The pump needs oil."]
    )
    assert question @ near > question @ far + 0.2


def test_the_order_of_texts_is_kept_across_batches(embedder: Embedder) -> None:
    texts = [f"Topic {n} " + "word " * (n % 7) for n in range(40)]
    together = embedder.encode(texts)
    alone = np.vstack([embedder.encode([texts[n]]) for n in (0, 17, 39)])
    cosines = (together[[0, 17, 39]] * alone).sum(axis=1)
    assert (cosines > 0.995).all()


def test_no_texts_make_no_vectors(embedder: Embedder) -> None:
    assert len(embedder.encode([])) == 0


def test_llamaindex_sees_the_same_vectors(embedder: Embedder) -> None:
    expected = embedder.encode(["The pump is on."])[0]
    for vector in (
        embedder.get_text_embedding("The pump is on."),
        embedder.get_query_embedding("The pump is on."),
        embedder.get_text_embedding_batch(["The pump is on."])[0],
        asyncio.run(embedder.aget_query_embedding("The pump is on.")),
    ):
        np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_precision_is_as_said() -> None:
    assert precision("float32") is torch.float32
    assert precision("bfloat16") is torch.bfloat16


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32), ({}, torch.float32)],
)
def test_auto_takes_bfloat16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert precision("auto") is expected


def test_a_missing_embedder_is_named(tmp_path: Path) -> None:
    settings = load(flags={"models.dir": tmp_path}, environ={}).settings
    with pytest.raises(ModelMissing, match="all-minilm-l6-v2"):
        Embedder.from_settings(settings)


def test_a_folder_that_is_no_embedder_is_broken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-kind"}')
    with pytest.raises(ModelBroken, match="can't be loaded") as caught:
        Embedder(tmp_path, torch.float32)
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy == models.PULL
