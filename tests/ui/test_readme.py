"""The README does not mislead."""

from __future__ import annotations

import re
from pathlib import Path

from rag_bot import config
from ui import cli

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_it_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", README, re.MULTILINE))
    settings = {s.key: s.value for s in config.load(environ={}).explain()}
    assert list(rows) == list(settings)
    for key, value in settings.items():
        if not key.endswith("dir"):
            assert rows[key] == (f"`{value}`" if value != "" else ""), key


def test_it_names_only_commands_that_exist() -> None:
    parser = cli._parser()
    choices = next(a.choices for a in parser._actions if a.choices)
    named = set(re.findall(r"^rag-bot ((?:eval |finetune )?[\w-]+)", README, re.MULTILINE))
    assert named
    assert named <= set(choices)
