"""Messages to text, through LangChain's chat-model interface.

A local transformers model or any OpenAI-compatible server: behind `Generator` they look the same.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from rag_bot import adapters, decode, loading, models
from rag_bot.config import Generation, Settings
from rag_bot.embed import precision, use_threads
from rag_bot.errors import EndpointFailed, ModelBroken
from rag_bot.kept import Kept
from rag_bot.types import Message

if TYPE_CHECKING:
    import torch


class Generator(Protocol):
    """What writes answers. `model_id` says which model it is, for the record."""

    @property
    def model_id(self) -> str: ...

    def count(self, text: str) -> int:
        """Tokens of a text, or a safe estimate."""
        ...

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Pieces of the answer as they come. Closing the iterator stops the model."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A generator that can say how likely an answer was."""

    def nll(self, messages: Sequence[Message], answer: str) -> float:
        """Mean negative log-likelihood of the answer's tokens, in nats."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A generator that can write several answers at once."""

    def complete(self, asked: Sequence[Sequence[Message]]) -> list[str]:
        """The whole answer to each prompt, in their order."""
        ...


def load(settings: Settings) -> Generator:
    """The configured generator. Raises ModelMissing, ModelBroken or EndpointFailed."""
    if settings.models.endpoint:
        return _endpoint(settings)
    folder = models.locate(settings.models.llm, settings.models.dir)
    use_threads(settings.models.threads)
    adapter = adapters.located(settings)
    if adapter:
        adapters.check_fits(adapter, folder)
    chat = LocalChatModel(
        folder, precision(settings.models.precision), settings.generation, adapter
    )
    added = f"+{adapter.name}:{adapters.fingerprint(adapter)}" if adapter else ""
    return _Local(chat, f"{models.identity(folder)}{added}", chat.count)


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a local model. Raises ModelBroken."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the library raises on a folder it can't read
        raise ModelBroken(f"the LLM in {folder} can't be loaded: {error}", models.PULL) from error


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """A prompt exactly as the model reads it, in training as in serving.

    A tokenizer without a chat template is a base model's: its prompt is plain text.
    """
    if not tokenizer.chat_template:
        return "\n\n".join([*(message.text for message in messages), "Answer:"])
    turns = [{"role": message.role, "content": message.text} for message in messages]
    prompt: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return prompt


class _Chat:
    """A Generator on any LangChain chat model."""

    def __init__(self, chat: BaseChatModel, model_id: str, count: Callable[[str], int]) -> None:
        self._chat = chat
        self.model_id = model_id
        self.count = count

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        for chunk in self._chat.stream([_to_langchain(message) for message in messages]):
            if isinstance(chunk.content, str) and chunk.content:
                yield chunk.content


class _Local(_Chat):
    """A model on this machine, whose probabilities can be looked at."""

    def __init__(self, chat: LocalChatModel, model_id: str, count: Callable[[str], int]) -> None:
        super().__init__(chat, model_id, count)
        self._local = chat

    def nll(self, messages: Sequence[Message], answer: str) -> float:
        return self._local.nll([_to_langchain(message) for message in messages], answer)

    def complete(self, asked: Sequence[Sequence[Message]]) -> list[str]:
        return self._local.complete([[_to_langchain(each) for each in turns] for turns in asked])


class LocalChatModel(BaseChatModel):
    """A transformers causal model on this machine: streaming, and stoppable."""

    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()
    _how: Generation = PrivateAttr()
    _turn: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _kept: Kept = PrivateAttr()
    _ends: list[int] = PrivateAttr()

    @loading.alone
    def __init__(
        self, folder: Path, dtype: torch.dtype, how: Generation, adapter: Path | None = None
    ) -> None:
        import transformers

        super().__init__()
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = tokenizer(folder)
        try:
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # whatever the library raises on a folder it can't read
            raise ModelBroken(
                f"the LLM in {folder} can't be loaded: {error}", models.PULL
            ) from error
        if adapter:
            self._model = _with_adapter(self._model, adapter)
        self._model.eval()
        self._kept = Kept(self._model)
        self._how = how
        ends = self._model.generation_config.eos_token_id
        self._ends = ends if isinstance(ends, list) else [ends]

    @property
    def _llm_type(self) -> str:
        return "rag-bot-local"

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ids(text))

    def render(self, messages: Sequence[BaseMessage]) -> str:
        """The prompt exactly as the model reads it."""
        return render(self._tokenizer, [Message(_ROLES[m.type], m.text) for m in messages])

    def nll(self, messages: Sequence[BaseMessage], answer: str) -> float:
        """Mean negative log-likelihood of an answer's tokens after a prompt, in nats."""
        given, said = self._ids(self.render(messages)), self._ids(answer)
        return fmean(self.nlls(given + said, len(said)))

    def nlls(self, ids: Sequence[int], scored: int) -> list[float]:
        """Negative log-likelihood of each of the last `scored` tokens, in nats."""
        import torch

        with self._turn, torch.inference_mode():
            tokens = torch.tensor([ids])
            before = self._kept.last(ids[:-scored]) or self._kept.empty()
            logits = self._kept.model(
                input_ids=tokens[:, self._kept.length(before) :],
                past_key_values=before,
                logits_to_keep=scored + 1,
            ).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.float(), tokens[0, -scored:], reduction="none"
            )
            return [float(loss) for loss in losses]

    def complete(self, asked: Sequence[Sequence[BaseMessage]]) -> list[str]:
        """The whole answer to each prompt, written side by side.

        Decoding waits for the weights to come from memory, once for all rows. The likeliest words
        are taken, whatever the temperature; sums in another order may turn a tie.
        """
        import torch

        prompts = [self.render(messages) for messages in asked]
        encoded = self._tokenizer(
            prompts,
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        with self._turn, torch.inference_mode():
            written = self._model.generate(
                **encoded, max_new_tokens=self._how.max_tokens, do_sample=False
            )
        new = written[:, encoded["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # One answer at a time: two at once on the same cores would each take over twice as long.
        with self._turn:
            # Where this prompt parts from one that asks nothing, the instructions end.
            nothing = [*messages[:-1], HumanMessage("")]
            for text in self._decode(self.render(messages), self.render(nothing)):
                yield ChatGenerationChunk(message=AIMessageChunk(content=text))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "".join(chunk.text for chunk in self._stream(messages))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _decode(self, prompt: str, nothing: str) -> Iterator[str]:
        how, kept = self._how, self._kept
        ids = self._ids(prompt)
        cache = kept.opening(ids, self._ids(nothing))
        choose = decode.drawn(how.temperature, how.seed) if how.temperature else decode.greedy
        tokens: list[int] = []
        told = 0
        for some in decode.decode(
            kept.model,
            ids,
            cache,
            choose,
            most=how.max_tokens,
            ends=self._ends,
            front=kept.front,
            lookup=kept.plain,
        ):
            tokens += some
            text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
            # Part of a character is no text yet.
            if not text.endswith("\ufffd"):
                yield text[told:]
                told = len(text)
        kept.keep(ids, cache)


_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "ai": "assistant",
}


def _to_langchain(message: Message) -> BaseMessage:
    match message.role:
        case "system":
            return SystemMessage(message.text)
        case "user":
            return HumanMessage(message.text)
        case "assistant":
            return AIMessage(message.text)


def _with_adapter(model: Any, folder: Path) -> Any:
    import peft

    models.check_adapter(folder)
    try:
        kind = peft.PeftConfig.from_pretrained(str(folder)).peft_type
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that it will drop: not for whoever asks a question.
            warnings.simplefilter("ignore", FutureWarning)
            if kind != peft.PeftType.LORA:
                return peft.PeftModel.from_pretrained(model, str(folder), local_files_only=True)
            # Beside the weights, a LoRA costs two more products for each of a layer's. It is added
            # in float32, so that a small change is not rounded away before it counts.
            dtype = model.dtype
            whole = peft.PeftModel.from_pretrained(
                model.float(), str(folder), local_files_only=True
            )
            return whole.merge_and_unload().to(dtype)
    except Exception as error:  # whatever the library raises on an adapter that does not fit
        raise ModelBroken(
            f"the adapter in {folder} does not fit the LLM: {models.brief(error)}",
            "check models.adapter",
        ) from error


def _endpoint(settings: Settings) -> Generator:
    import openai
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    chat = ChatOpenAI(
        model=settings.models.llm,
        base_url=settings.models.endpoint,
        api_key=SecretStr(settings.models.endpoint_key or "none"),
        temperature=settings.generation.temperature,
        # Not every server knows of seeds, and without drawing there is no need of one.
        seed=settings.generation.seed if settings.generation.temperature else None,
        max_completion_tokens=settings.generation.max_tokens,
        timeout=120,
        max_retries=1,
    )

    class Endpoint(_Chat):
        def stream(self, messages: Sequence[Message]) -> Iterator[str]:
            try:
                yield from super().stream(messages)
            # On a page, or JSON without choices, the parsers of a stream raise all kinds of things.
            except (openai.OpenAIError, ValueError, TypeError, KeyError, IndexError) as error:
                raise EndpointFailed(
                    f"{settings.models.endpoint} failed: {error}",
                    "check models.endpoint, models.endpoint_key and models.llm",
                ) from error

    # Three characters a token is on the safe side for European languages.
    return Endpoint(chat, f"{settings.models.llm}@{settings.models.endpoint}", _estimate)


def _estimate(text: str) -> int:
    return len(text) // 3 + 1
