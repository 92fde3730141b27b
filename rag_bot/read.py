"""The reader: one pass of a small encoder over (question, passage) for the best candidates.

It says three things at once: how relevant the passage is, which of its words answer, and whether
it holds the answer at all. Ranking, prompt, quotes and abstention all draw on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rag_bot import adapters, loading, models
from rag_bot.config import Settings
from rag_bot.digest import sha256_of
from rag_bot.embed import precision, use_threads
from rag_bot.errors import ModelBroken, ModelMissing
from rag_bot.types import Reading, log_odds, probability

if TYPE_CHECKING:
    from torch import Tensor

    from rag_bot.encoder import Batch, Logits

SHIPPED = Path(__file__).parent / "data" / "reader"
"""The reader that comes with the project, trained by `finetune.reader`."""
WEIGHTS = "reader.safetensors"
CARD = "reader.json"
_BATCH = 4
"""Pairs at once. They are padded to the longest of them: ten candidates took 0.53 s in one batch of
16 and 0.35 s in batches of 4, of like length each."""
_LONGEST = 30
"""Word pieces of an answer."""


class Reader(Protocol):
    """What reads passages. `model_id` says which one it is, for the record."""

    @property
    def model_id(self) -> str: ...

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        """One reading for each (header, text), in their order."""
        ...


def load(settings: Settings) -> Reader | None:
    """The configured reader, or None if there is none. Raises ModelMissing or ModelBroken."""
    folder = located(settings)
    if folder is None:
        return None
    use_threads(settings.models.threads)
    reader = MiniReader(folder, settings)
    if not settings.models.reranker:
        return reader
    return Reranking(reader, Path(settings.models.reranker).expanduser())


def located(settings: Settings) -> Path | None:
    """The configured reader's folder, looked at but not loaded; None if there is none.

    Raises ModelMissing or ModelBroken.
    """
    if not settings.models.reader:
        return None
    match settings.models.reader:
        case "promoted":
            folder = adapters.reader(settings) or SHIPPED
        case "shipped":
            folder = SHIPPED
        case other:
            folder = Path(other).expanduser()
    models.locate(_card(folder)["base"], settings.models.dir)
    if not (folder / WEIGHTS).is_file():
        raise ModelMissing(f"no {WEIGHTS} in {folder}", "set models.reader to a reader's folder")
    models.check_safetensors(folder / WEIGHTS)
    return folder


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of two scores to the probability that the passage holds the answer.

    `sigmoid(bias + judge * logit + span * log-odds of the span)` (Platt, 1999), fitted on a
    development split by `finetune.reader`.
    """

    judge: float = 1.0
    span: float = 0.0
    bias: float = 0.0

    def __call__(self, judge: float, span: float) -> float:
        return probability(self.bias + self.judge * judge + self.span * span)


class MiniReader:
    """The embedder's own base with three heads (`rag_bot.encoder`)."""

    @loading.alone
    def __init__(self, folder: Path, settings: Settings) -> None:
        import torch
        import transformers
        from safetensors.torch import load_file

        from rag_bot.encoder import Network, Pairs, unpacked

        card = _card(folder)
        base = models.locate(card["base"], settings.models.dir)
        weights = folder / WEIGHTS
        transformers.utils.logging.disable_progress_bar()
        # It would warn that the embedder's pooler, which the reader has no use for, was left out.
        transformers.utils.logging.set_verbosity_error()
        self.model_id = f"{folder.name}:{sha256_of(weights)[:16]}"
        self.calibration = Calibration(**card["calibration"])
        self._pairs = Pairs(base / "tokenizer.json")
        try:
            bert = transformers.AutoModel.from_pretrained(
                base, local_files_only=True, use_safetensors=True, add_pooling_layer=False
            )
            self._network = Network(bert, bert.config.hidden_size)
            left = self._network.load_state_dict(unpacked(load_file(weights)), strict=False)
        except Exception as error:  # whatever the libraries raise on files they can't read
            raise ModelBroken(
                f"the reader in {folder} can't be loaded: {error}", "check models.reader"
            ) from error
        wanted = [n for n in left.missing_keys if not n.startswith("encoder.embeddings.")]
        if wanted or left.unexpected_keys:
            raise ModelBroken(
                f"{weights} is not a reader on {base.name}", "train it again, or set models.reader"
            )
        # The sequence is short: bfloat16 pays only where the processor multiplies it.
        self._network.to(precision(settings.models.precision)).eval()
        self._torch = torch
        self._memory: tuple[str, dict[tuple[str, str], Reading]] = ("", {})

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        """One reading for each (header, text), in their order.

        Those of the last question are remembered: an answer and the ranking beside it, deeper
        than what was shown, ask for the same.
        """
        last, before = self._memory
        known = dict(before) if last == question else {}
        fresh = [each for each in dict.fromkeys(passages) if each not in known]
        known |= zip(fresh, self.read_pairs([(question, *each) for each in fresh]), strict=True)
        self._memory = question, known
        return [known[each] for each in passages]

    def read_pairs(self, pairs: Sequence[tuple[str, str, str]]) -> list[Reading]:
        """One reading for each (question, header, text), in their order."""
        pairs = [(_marked(question), header, text) for question, header, text in pairs]
        order = sorted(range(len(pairs)), key=lambda n: sum(map(len, pairs[n])))
        found: dict[int, Reading] = {}
        with self._torch.inference_mode():
            for first in range(0, len(order), _BATCH):
                rows = order[first : first + _BATCH]
                batch = self._pairs.encode([pairs[n] for n in rows])
                logits = self._network(batch)
                for n, reading in zip(rows, self._readings(batch, logits), strict=True):
                    found[n] = reading
        return [found[n] for n in range(len(pairs))]

    def _readings(self, batch: Batch, logits: Logits) -> list[Reading]:
        starts, ends, scores = best_spans(batch, logits)
        found = []
        for row, (start, end, score) in enumerate(
            zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True)
        ):
            offsets = batch.offsets[row]
            answerable = self.calibration(float(logits.answerable[row]), score)
            inside = 0 < start < len(offsets)
            found.append(
                Reading(
                    # That a passage answers ranks it better than the head that learned whether
                    # it is about the question: nDCG@10 of .772 against .770 on held-out documents,
                    # .840 against .827 on HotpotQA, each at the weight that is best for it.
                    relevance=log_odds(answerable),
                    answerable=answerable,
                    start=offsets[start][0] if inside else 0,
                    end=offsets[end][1] if inside else 0,
                    span=score,
                )
            )
        return found


class Reranking:
    """A reader whose relevance is another model's: any cross-encoder with one output."""

    @loading.alone
    def __init__(self, reader: Reader, folder: Path) -> None:
        from sentence_transformers import CrossEncoder

        if not (folder / "config.json").is_file():
            raise ModelMissing(f"no model in {folder}", "check models.reranker")
        models.verify(folder)
        try:
            self._model = CrossEncoder(
                str(folder),
                device="cpu",
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # whatever the libraries raise on a folder they can't read
            raise ModelBroken(
                f"the reranker in {folder} can't be loaded: {error}", "check models.reranker"
            ) from error
        if self._model.num_labels != 1:
            raise ModelBroken(
                f"the reranker in {folder} has {self._model.num_labels} outputs, not one",
                "set models.reranker to a model that scores relevance",
            )
        self._reader = reader
        self.model_id = f"{reader.model_id}+{models.identity(folder)}"

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        """The reader's readings with the cross-encoder's raw scores as relevance."""
        import torch

        if not passages:
            return []
        pairs = [(question, f"{header}\n{text}" if header else text) for header, text in passages]
        scores = self._model.predict(
            pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        readings = self._reader.read(question, passages)
        return [
            replace(reading, relevance=float(score))
            for reading, score in zip(readings, scores, strict=True)
        ]


def best_spans(batch: Batch, logits: Logits) -> tuple[Tensor, Tensor, Tensor]:
    """First and last piece of each pair's best span, and its log-odds against "no answer".

    The span maximises `start + end` over pieces of the passage's text, at most `_LONGEST` apart.
    """
    import torch

    shut = -1e4
    starts = logits.starts.masked_fill(~batch.inside, shut)
    ends = logits.ends.masked_fill(~batch.inside, shut)
    length = starts.shape[1]
    allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(_LONGEST - 1)
    joint = (starts[:, :, None] + ends[:, None, :]).masked_fill(~allowed, 2 * shut)
    best = joint.flatten(1).max(dim=1)
    null = logits.starts[:, 0] + logits.ends[:, 0]
    return best.indices // length, best.indices % length, best.values - null


def _marked(question: str) -> str:
    """A question typed in haste with its mark: those that the reader learned from have one."""
    return f"{question}?" if question[-1:].isalnum() and "?" not in question else question


def keep_calibration(known: Path, new: Path) -> None:
    """Give a reader the calibration of the one that it was trained from."""
    card = json.loads((new / CARD).read_text("utf-8"))
    card["calibration"] = _card(known)["calibration"]
    (new / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def _card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        return {"base": str(card["base"]), "calibration": dict(card["calibration"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelBroken(
            f"{folder / CARD} can't be read: {error}", "set models.reader to a reader's folder"
        ) from None
