import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
import transformers

from rag_bot import decode
from rag_bot.decode import ahead, drawn, greedy
from rag_bot.kept import Kept

PROMPT = [11, 12, 13, 14, 15, 16, 17, 11, 12, 18]


class Counting:
    """A model that counts its passes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.fed: list[int] = []

    def __call__(self, *, input_ids: torch.Tensor, **how: Any) -> Any:
        self.fed.append(input_ids.shape[1])
        return self._model(input_ids=input_ids, **how)


class Parrot:
    """A model that says a text by heart, whatever else it is fed."""

    def __init__(self, says: Sequence[int], prompt: Sequence[int], words: int = 50) -> None:
        self._says, self._start, self._words = [*prompt, *says], len(prompt), words

    def __call__(
        self, *, input_ids: torch.Tensor, past_key_values: "Length", logits_to_keep: int
    ) -> Any:
        past_key_values.length += input_ids.shape[1]
        end = past_key_values.length
        logits = torch.zeros(1, logits_to_keep, self._words)
        for row, at in enumerate(range(end - logits_to_keep + 1, end + 1)):
            logits[0, row, self._says[at] if at < len(self._says) else 0] = 9.0
        return SimpleNamespace(logits=logits)


class Length:
    """A cache that holds nothing but its length."""

    def __init__(self) -> None:
        self.length = 0

    def get_seq_length(self) -> int:
        return self.length

    def crop(self, more: int) -> None:
        assert more < 0
        self.length += more


@pytest.fixture(scope="module")
def model(tiny_llm: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32).eval()


def written(model: Any, most: int = 30, lookup: bool = True, **how: Any) -> list[int]:
    kept = Kept(model)
    how = {"choose": greedy, "ends": [], **how}
    parts = decode.decode(
        kept.model, PROMPT, kept.empty(), most=most, front=kept.front, lookup=lookup, **how
    )
    return [token for some in parts for token in some]


def by_transformers(model: Any, most: int = 30) -> list[int]:
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=None,
        )
    return list(out[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("lookup", [True, False])
def test_the_words_are_those_of_the_librarys_own_loop(model: Any, lookup: bool) -> None:
    assert written(model, lookup=lookup) == by_transformers(model)


def test_what_the_prompt_says_is_written_in_fewer_passes() -> None:
    says = [12, 13, 14, 15, 16, 17, 30, 31]
    parrot = Counting(Parrot(says, PROMPT))
    cache = Length()
    parts = list(decode.decode(parrot, PROMPT, cache, greedy, most=20, ends=[31]))
    assert [token for some in parts for token in some] == says
    # The prompt; "12" and ten tokens after it; "30", which nothing follows.
    assert parrot.fed[0] == len(PROMPT)
    assert len(parrot.fed) == 3
    assert parts[1] == [13, 14, 15, 16, 17, 30]
    assert cache.length == len(PROMPT) + len(says) - 1


def test_it_ends_at_an_end_token_even_within_a_guess() -> None:
    says = [12, 13, 14, 15, 16]
    parts = decode.decode(Parrot(says, PROMPT), PROMPT, Length(), greedy, most=20, ends=[14])
    assert [token for some in parts for token in some] == [12, 13, 14]


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_never_more_tokens_than_asked_for(most: int) -> None:
    says = [12, 13, 14, 15, 16, 17, 11, 12]
    parts = decode.decode(Parrot(says, PROMPT), PROMPT, Length(), greedy, most=most, ends=[])
    assert [token for some in parts for token in some] == says[:most]


def test_the_longest_end_that_stood_before_and_its_first_place_count() -> None:
    assert ahead([1, 2, 3, 9, 2, 3, 7, 1, 2, 3]) == [9, 2, 3, 7, 1, 2, 3]
    assert ahead([5, 3, 8, 4, 3, 6, 3]) == [8, 4, 3, 6, 3]
    assert ahead([1, 2, 3]) == []
    assert ahead([1]) == []
    assert len(ahead([7, *range(100, 150), 7])) == 10


def test_a_guess_changes_no_odds_of_what_is_drawn() -> None:
    # The model says 12 or 13 after anything, 3 to 1; the prompt makes it guess 13 each time.
    def model(*, input_ids: torch.Tensor, past_key_values: Length, logits_to_keep: int) -> Any:
        past_key_values.length += input_ids.shape[1]
        logits = torch.full((1, logits_to_keep, 20), -math.inf)
        logits[:, :, 12], logits[:, :, 13] = math.log(3), 0.0
        return SimpleNamespace(logits=logits)

    prompt = [12, 13, 13, 13, 13, 13, 13, 13, 12]
    seen = Counter(
        token
        for seed in range(60)
        for some in decode.decode(model, prompt, Length(), drawn(1.0, seed), most=20, ends=[])
        for token in some
    )
    assert seen.total() == 1200
    # Three standard deviations of 1,200 draws are .0375.
    assert seen[12] / 1200 == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        peft.IA3Config(
            task_type="CAUSAL_LM",
            target_modules=["k_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            init_ia3_weights=False,
        ),
    ],
    ids=["soft prompt", "prefix", "IA3"],
)
def test_an_adapter_that_stays_beside_the_model_is_heard(tiny_llm: Path, config: Any) -> None:
    torch.manual_seed(1)
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32)
    plain = by_transformers(base)
    adapted = peft.get_peft_model(base, config).eval()
    for name, weights in adapted.named_parameters():
        if "prompt_encoder" in name or "ia3" in name:
            torch.nn.init.normal_(weights, std=3.0)
    said = written(adapted)
    assert said == by_transformers(adapted)
    assert said != plain
    ids = [*PROMPT, *said]
    kept = Kept(adapted)
    opening = kept.opening(ids, [*PROMPT, 1])
    assert kept.length(opening) == len(PROMPT)
