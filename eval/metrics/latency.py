"""How long it takes: the median, and what 95 in 100 stay under.

Between two measurements the percentile is interpolated linearly: type 7 of Hyndman & Fan,
"Sample Quantiles in Statistical Packages", The American Statistician 50(4), 1996.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Latency(NamedTuple):
    """Percentiles in the unit of what was measured, of n measurements."""

    p50: float
    p95: float
    n: int


def latency(durations: Sequence[float]) -> Latency | None:
    """None without measurements."""
    if not durations:
        return None
    p50, p95 = np.quantile(durations, (0.5, 0.95))
    return Latency(float(p50), float(p95), len(durations))
