"""What training makes smaller: the loss of right answers, or of preferring them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from finetune.tokens import Encoded


def answer_logps(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
    """Log-probabilities of each answer's tokens after its prompt, one vector a row.

    Rows are padded on the right and no mask is given: a causal model does not look there, and a
    mask makes attention slow on a CPU. Logits are computed from the first answer on; a vocabulary
    is far larger than what they are computed from.
    """
    device = next(model.parameters()).device
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    kept = longest - min(len(prompt) for prompt, _ in rows) + 1
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for n, (prompt, answer) in enumerate(rows):
        ids[n, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
    logits = model(input_ids=ids.to(device), logits_to_keep=kept).logits
    first = longest - kept  # the position that the first logits stand at
    found = []
    for n, (prompt, answer) in enumerate(rows):
        begin = len(prompt) - 1 - first
        said = torch.tensor(answer, device=device)
        here = logits[n, begin : begin + len(answer)].float()
        found.append(functional.log_softmax(here, dim=-1).gather(1, said[:, None])[:, 0])
    return found


def supervised(model: Any, batch: Sequence[Encoded]) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens, in nats; prompts are not learned."""
    logps = answer_logps(model, [(each.prompt, each.answer) for each in batch])
    return -torch.cat(logps).mean()


def preferences(
    model: Any, batch: Sequence[Encoded], reference: Sequence[tuple[float, float]], beta: float
) -> Tensor:
    """DPO: `-log σ(β((log π(y⁺) - log π₀(y⁺)) - (log π(y⁻) - log π₀(y⁻))))`, the batch's mean.

    `reference` are the log-probabilities of both answers under the model that training began
    with. Rafailov et al., "Direct preference optimization", 2023, equation 7.
    """
    chosen, rejected = _both(model, batch)
    before = torch.tensor(reference, device=chosen.device)
    margin = (chosen - before[:, 0]) - (rejected - before[:, 1])
    return -functional.logsigmoid(beta * margin).mean()


def reference(model: Any, batch: Sequence[Encoded]) -> list[tuple[float, float]]:
    """The log-probability of each pair's better and worse answer."""
    with torch.inference_mode():
        chosen, rejected = _both(model, batch)
    return list(zip(chosen.tolist(), rejected.tolist(), strict=True))


def _both(model: Any, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    rows = [(each.prompt, each.answer) for each in batch]
    rows += [(each.prompt, each.rejected) for each in batch]
    sums = torch.stack([logps.sum() for logps in answer_logps(model, rows)])
    return sums[: len(batch)], sums[len(batch) :]
