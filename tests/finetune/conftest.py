import shutil
from pathlib import Path

import pytest


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
