"""README's commands are real, and so is every file in export_configs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from aether_deploy.cli.app import main
from tests.helpers.commands import Ran
from tests.helpers.networks import SAMPLE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "export_configs").glob("*.toml"))

_LINE = re.compile(r"^(?:python -m aether_deploy\.(\w+)|aether-deploy ([\w-]+))(.*)$", re.MULTILINE)


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """(command, arguments) of each line of ours in the text's code blocks; comments and continuations undone."""
    blocks = "\n".join(re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    found = _LINE.findall(blocks)
    return [(module or script, shlex.split(rest, comments=True)) for module, script, rest in found]


def test_the_readme_shows_commands() -> None:
    assert len(_commands(README)) >= 5


@pytest.mark.parametrize(("name", "words"), _commands(README), ids=str)
def test_every_command_of_the_readme_parses(name: str, words: list[str]) -> None:
    """Names, options and values as the command itself reads them; what they do is run in the other tests."""
    context = click.Context(main)
    command = main.get_command(context, name.replace("_", "-"))
    assert command is not None, name
    with command.make_context(name, words, parent=context, resilient_parsing=False):
        pass


def test_relative_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if "tensorrt" in path.stem else [])
        for path in CONFIGS
        if path.name.startswith("export_")
    ],
)
def test_every_export_config_plans(tmp_path: Path, call: Callable[..., Ran], config: Path) -> None:
    ran = call("export", SAMPLE, "--config", config, "-o", tmp_path, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["planned"]


def test_no_config_is_of_a_kind_that_nothing_tests() -> None:
    """`export_*` here, `recipe_*` in test_recipes; `train_*` and `test_*` are loaded by neosr itself in its tests."""
    assert {path.name.partition("_")[0] for path in CONFIGS} <= {"export", "recipe", "train", "test"}
