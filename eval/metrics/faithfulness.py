"""Faithfulness: `supported claims / claims` of an answer.

Min et al., "FActScore", EMNLP 2023; Es et al., "RAGAS: Automated Evaluation of Retrieval Augmented
Generation", EACL 2024. Who says what is supported is a verifier, whose own errors go in.
"""

from __future__ import annotations

from collections.abc import Sequence


def faithfulness(supported: Sequence[bool]) -> float | None:
    """One entry for each claim. None for an answer that claims nothing."""
    return sum(supported) / len(supported) if supported else None
