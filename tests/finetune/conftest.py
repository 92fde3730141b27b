import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval import bench
from eval.bench import Engines
from finetune.examples import QAExample, QASource
from rag_bot.answer import Pipeline
from rag_bot.embed import Embedder
from rag_bot.prompt import NO_ANSWER
from rag_bot.read import MiniReader

FORMS = (
    "\nForm FM-{0} is kept for {0} years. Form FN-{0} costs EUR {0}."
    " The box BX-{0} holds {0} forms.\n"
)
PAGES = {
    "lease.md": "# Lease\n\nThe lease begins on 1 April 2026. The rent is EUR 2,400 a month. It is"
    " paid to Dunmore Estates on the first working day.\n\nThe tenant pays for:\n\n- heating oil\n"
    "- window cleaning\n- the fire alarm\n",
    "travel.md": "# Travel\n\nA hotel may cost EUR 120 a night. Receipts are handed in within 14"
    " days. Flights are booked by Mara Lind in the office.\n",
    "tools.md": "# Tools\n\nThe drill press runs at 2800 rpm. Safety glasses are worn in the"
    " workshop. The saw was bought in March 2024 from Osgood Brothers.\n",
    "holidays.md": "# Holidays\n\nEverybody has 30 days of holiday a year. Five days may be carried"
    " over until 31 March. Requests go to Ines Falk.\n",
    "cars.md": "# Cars\n\nThe van takes 75 litres of diesel. Its inspection is due in June 2027."
    " The key hangs in room 12.\n",
}

PAGES = {name: text + FORMS.format(20 + n) for n, (name, text) in enumerate(PAGES.items())}


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


@pytest.fixture(scope="session")
def pipeline(
    tmp_path_factory: pytest.TempPathFactory,
    embedder: Embedder,
    reader: MiniReader,
    scripted: Any,
) -> Iterator[Pipeline]:
    from rag_bot import config

    folder = tmp_path_factory.mktemp("compose")
    docs = folder / "docs"
    docs.mkdir()
    for name, text in PAGES.items():
        (docs / name).write_text(text, "utf-8")
    settings = config.load(flags={"data_dir": folder / "data"}, environ={}).settings
    loaded = Engines(lambda: embedder, lambda: scripted(), lambda: reader)
    with bench.over([docs], settings, loaded, bench.quiet, folder / "index") as made:
        yield made
