"""Answers from your own documents, each claim with a page and a quote.

Importing this package turns off hub access and telemetry for the whole process: the libraries
below us read these variables when *they* are imported, so it can't wait any longer.
"""

import logging
import os

__version__ = "0.1.0"

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.update(OFFLINE)

# On a processor with bf16 it warns at every start that it has not downloaded a kernel.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
