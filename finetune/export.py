"""An adapter merged into its model: a folder that vLLM and others serve as it is."""

from __future__ import annotations

from pathlib import Path

from rag_bot import adapters, loading, models
from rag_bot.config import Settings
from rag_bot.errors import ModelBroken, UsageError

_MERGED = "LORA"


def merge(settings: Settings, adapter: Path, out: Path) -> None:
    """Write the LLM with an adapter in its weights, as bf16 safetensors with its tokenizer.

    Raises UsageError for an `out` that exists or an adapter that is no LoRA, ModelBroken for one
    that does not fit the LLM.
    """
    import peft
    import torch
    import transformers

    if out.exists():
        raise UsageError(f"{out} exists", "give another --out")
    models.check_adapter(adapter)
    kind = peft.PeftConfig.from_pretrained(str(adapter)).peft_type
    if kind != _MERGED:
        raise UsageError(
            f"{adapter} is a {str(kind).rsplit('.', 1)[-1].lower()} adapter, which has no place in"
            " the weights",
            "only LoRA and QLoRA adapters can be merged",
        )
    base = models.locate(settings.models.llm, settings.models.dir)
    adapters.check_fits(adapter, base)
    transformers.utils.logging.disable_progress_bar()
    # Merged in float32: in bfloat16 a small change would be rounded away, sum by sum.
    with loading.LOCK:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    try:
        merged = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:  # whatever the library raises on an adapter that does not fit
        raise ModelBroken(
            f"{adapter} does not fit {base}: {models.brief(error)}", "set models.llm"
        ) from error
    new = out.with_name(out.name + ".new")
    merged.to(torch.bfloat16).save_pretrained(new, safe_serialization=True)
    transformers.AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(new)
    new.rename(out)
