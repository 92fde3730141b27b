"""The README does not mislead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rag_bot import config
from ui import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MEASURED = (ROOT / "MEASURED.md").read_text("utf-8")


def test_it_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", README, re.MULTILINE))
    settings = {s.key: s.value for s in config.load(environ={}).explain()}
    assert list(rows) == list(settings)
    for key, value in settings.items():
        if not key.endswith("dir"):
            assert rows[key] == (f"`{value}`" if value != "" else ""), key


BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
OURS = re.findall(r"^(?:rag-bot|ingest) .*", BLOCKS, re.MULTILINE)
MODULES = re.findall(r"python -m ((?:eval|finetune)\.\w+)([^`\n]*)", README + MEASURED)


@pytest.mark.parametrize("line", OURS)
def test_each_command_is_one(line: str) -> None:
    words = shlex.split(line, comments=True)
    arguments = words[1:] if words[0] == "rag-bot" else words
    assert cli.parse(arguments).run


def test_its_figures_are_those_that_were_measured() -> None:
    """The few that it shows stand in the tables that they were taken from."""
    rows = README.partition("## Measured")[2].partition("## Limits")[0].splitlines()[8:]
    figures = {each for row in rows for each in re.findall(r"[+−]?\.\d{3}|\d\.\d\d s|1\.000", row)}
    assert len(figures) > 15
    assert {each for each in figures if each not in MEASURED} == set()


def test_there_are_commands() -> None:
    assert len(OURS) > 30
    assert len(MODULES) >= 14


@pytest.mark.parametrize(("module", "rest"), MODULES)
def test_each_module_takes_the_options_that_are_shown(module: str, rest: str) -> None:
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
    assert 'if __name__ == "__main__":' in source
    assert all(f'"{option}"' in source for option in re.findall(r"--[\w-]+", rest))
