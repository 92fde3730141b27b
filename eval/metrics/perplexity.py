"""Perplexity: `exp(mean negative log-likelihood)`, in nats per token.

How surprised the model is by the right answers: 1 is not at all, 10 as if it had to choose among
ten words each time. Jelinek et al., "Perplexity – a measure of the difficulty of speech recognition
tasks", JASA 62, 1977.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def perplexity(nlls: Sequence[float]) -> float | None:
    """Of one mean per answer: each answer weighs the same, long or short. None without any."""
    return math.exp(math.fsum(nlls) / len(nlls)) if nlls else None
