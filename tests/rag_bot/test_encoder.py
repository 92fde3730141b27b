from pathlib import Path

import pytest
import torch

from rag_bot.encoder import MAX_PIECES, Pairs, packed, unpacked


@pytest.fixture(scope="module")
def pairs(embedder_folder: Path) -> Pairs:
    return Pairs(embedder_folder / "tokenizer.json")


def test_a_pair_is_question_header_and_text(pairs: Pairs, embedder_folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedder_folder / "tokenizer.json"))
    batch = pairs.encode([("How long?", "Refunds", "14 days only.")])
    assert [tokenizer.id_to_token(i) for i in batch.ids[0]] == [
        *("[CLS]", "how", "long", "?", "[SEP]"),
        *("ref", "##unds", "14", "days", "only", ".", "[SEP]"),
    ]
    assert batch.types[0].tolist() == [0] * 5 + [1] * 7
    assert batch.inside[0].tolist() == [False] * 7 + [True] * 4 + [False]


def test_offsets_are_of_the_text_alone(pairs: Pairs) -> None:
    text = "14 days — naïve, 退款."
    batch = pairs.encode([("How long?", "A header of some words", text)])
    words = [
        text[slice(*batch.offsets[0][n])]
        for n, inside in enumerate(batch.inside[0].tolist())
        if inside
    ]
    assert words == ["14", "days", "—", "naive".replace("i", "ï"), ",", "退", "款", "."]


def test_shorter_pairs_are_padded_and_not_attended_to(pairs: Pairs) -> None:
    batch = pairs.encode([("a?", "", "b"), ("a?", "", "b c d e")])
    assert batch.mask.sum(1).tolist() == [6, 9]
    assert not batch.inside[0, 5:].any()


def test_a_long_text_is_cut_and_a_long_question_too(pairs: Pairs) -> None:
    batch = pairs.encode([("why " * 500, "title " * 500, "word " * 900)])
    assert batch.ids.shape == (1, MAX_PIECES)
    assert batch.inside.sum() > 100
    last = max(n for n, inside in enumerate(batch.inside[0].tolist()) if inside)
    assert batch.offsets[0][last][1] <= 5 * 900


def test_nothing_to_read_is_nothing_inside(pairs: Pairs) -> None:
    batch = pairs.encode([("", "", "")])
    assert not batch.inside.any()


def test_packed_weights_are_small_and_close() -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(40, 30) * 5, "b": torch.randn(7), "zero": torch.zeros(3, 3)}
    small = packed(weights)
    assert small["a"].dtype == torch.int8
    again = unpacked(small)
    assert set(again) == set(weights)
    steps = weights["a"].abs().amax(dim=1, keepdim=True) / 127
    assert ((again["a"] - weights["a"]).abs() <= steps / 2 + 1e-6).all()
    assert torch.equal(again["zero"], weights["zero"])
    assert torch.allclose(again["b"], weights["b"], atol=1e-3)


def test_what_was_never_packed_is_only_widened() -> None:
    half = {"a": torch.ones(2, 2, dtype=torch.float16)}
    assert unpacked(half)["a"].dtype == torch.float32
