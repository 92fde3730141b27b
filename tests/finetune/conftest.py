import random
import shutil
from pathlib import Path

import pytest

from finetune.examples import QAExample, QASource
from rag_bot.prompt import NO_ANSWER


@pytest.fixture(scope="session")
def tiny(embedder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of two small layers, untrained, with the real tokenizer."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(embedder_folder / "tokenizer.json", folder)
    return folder


COLOURS = ("red", "green", "blue", "black", "white")
THINGS = ("car", "house", "tree", "door", "ship", "hat", "boat", "roof")


@pytest.fixture(scope="session")
def coloured() -> list[QAExample]:
    """Eighty questions about the colours of things, two sources each, one in five unanswerable."""
    chance = random.Random(0)
    found = []
    for n in range(80):
        thing, other = chance.sample(THINGS, 2)
        colour, wrong = chance.sample(COLOURS, 2)
        texts = [f"The {thing} is {colour}.", f"The {other} is {wrong}."]
        asked = thing
        answer = f"{colour} [1]"
        if n % 5 == 4:
            asked = next(each for each in THINGS if each not in (thing, other))
            answer = NO_ANSWER
        found.append(
            QAExample(
                id=f"e{n}",
                document_id=f"d{n % 20}.txt",
                question=f"What colour is the {asked}?",
                answer=answer,
                sources=tuple(QASource(f"d{n % 20}.txt", 1, text) for text in texts),
                answerable=answer != NO_ANSWER,
                split="validation" if n % 20 < 3 else "train",
                kind="toy",
                rejected=f"{wrong} [2]",
                origins=((f"/docs/d{n % 20}.txt", "ab"),),
            )
        )
    return found
