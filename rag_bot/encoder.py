"""The reader's network: MiniLM with three heads, one pass over (question, passage).

Devlin et al., "BERT", 2019 (span extraction and its null answer at [CLS]); Rajpurkar et al.,
"Know What You Don't Know", 2018 (answerability).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

MAX_PIECES = 384
"""Word pieces of a question and its passage together; a longer passage is cut at its end."""
_QUESTION_PIECES = 96
_SCALE = ".scale"


class Logits(NamedTuple):
    """What the heads say of a batch of pairs.

    `starts` and `ends`: `(pairs, pieces)`; piece 0 stands for "no answer here". `relevance` and
    `answerable`: `(pairs,)`.
    """

    starts: Tensor
    ends: Tensor
    relevance: Tensor
    answerable: Tensor


class Network(nn.Module):
    """An encoder with a span head on every piece and two judgements on [CLS]."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.span = nn.Linear(width, 2)
        self.judge = nn.Linear(width, 2)

    def forward(self, batch: Batch) -> Logits:
        """`batch` holds `(pairs, pieces)` tensors."""
        hidden = self.encoder(
            input_ids=batch.ids, attention_mask=batch.mask, token_type_ids=batch.types
        ).last_hidden_state
        starts, ends = self.span(hidden).float().unbind(-1)
        relevance, answerable = self.judge(hidden[:, 0]).float().unbind(-1)
        return Logits(starts, ends, relevance, answerable)


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights at half the size of float16: each row of a matrix as int8 with its own scale."""
    small: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim != 2:
            small[name] = value.to(torch.float16).contiguous()
            continue
        scale = value.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        small[name] = (value.float() / scale).round().to(torch.int8).contiguous()
        small[name + _SCALE] = scale.contiguous()
    return small


def unpacked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse, in float32; weights that were never packed are only widened."""
    return {
        name: value.float() * weights[name + _SCALE] if value.dtype == torch.int8 else value.float()
        for name, value in weights.items()
        if not name.endswith(_SCALE)
    }


class Batch(NamedTuple):
    """Pairs as word pieces: tensors of `(pairs, pieces)`.

    `inside` is true on the pieces of the passage's own text, where an answer may lie; `offsets`
    give those pieces' places in that text.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    inside: Tensor
    offsets: Sequence[Sequence[tuple[int, int]]]


class Pairs:
    """(question, header, text) to word pieces, the same for training and for reading."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._open, self._shut, self._pad = (
            int(self._tokenizer.token_to_id(token) or 0) for token in ("[CLS]", "[SEP]", "[PAD]")
        )

    def encode(self, pairs: Sequence[tuple[str, str, str]]) -> Batch:
        """A padded batch. The header (title, headings) is read but never part of an answer."""
        rows = self._rows(pairs)
        longest = max(len(row) for row, _, _ in rows)
        ids = torch.full((len(rows), longest), self._pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        types = torch.zeros((len(rows), longest), dtype=torch.long)
        inside = torch.zeros((len(rows), longest), dtype=torch.bool)
        offsets = []
        for n, (row, asked, places) in enumerate(rows):
            ids[n, : len(row)] = torch.tensor(row)
            mask[n, : len(row)] = 1
            types[n, asked : len(row)] = 1
            first = len(row) - 1 - len(places)
            inside[n, first : len(row) - 1] = True
            offsets.append([(0, 0)] * first + places)
        return Batch(ids, mask, types, inside, offsets)

    def _rows(
        self, pairs: Sequence[tuple[str, str, str]]
    ) -> list[tuple[list[int], int, list[tuple[int, int]]]]:
        flat = [part for pair in pairs for part in pair]
        encoded = self._tokenizer.encode_batch(flat, add_special_tokens=False)
        rows = []
        for n in range(0, len(encoded), 3):
            question, header, text = encoded[n : n + 3]
            head = [self._open, *question.ids[:_QUESTION_PIECES], self._shut]
            about = [*header.ids[:_QUESTION_PIECES]]
            room = MAX_PIECES - len(head) - len(about) - 1
            kept = text.ids[:room]
            rows.append(
                ([*head, *about, *kept, self._shut], len(head), list(text.offsets[: len(kept)]))
            )
        return rows
