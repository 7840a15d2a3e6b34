"""The commands and code of README and docs/ are real, and so is every file in export_configs/."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from PIL import Image

from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.cli.app import COMMANDS as ALL
from aether_deploy.cli.app import main
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran
from tests.helpers.networks import SAMPLE

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "export_configs").glob("*.toml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")

_LINE = re.compile(r"^(?:python -m aether_deploy\.(\w+)|aether-deploy ([\w-]+))(.*)$", re.MULTILINE)
# A block that no test may run says why.
_NOT_RUN = re.compile(r"<!-- not run here: .+ -->\n```sh\n.*?```", re.DOTALL)
# Words of this project's own, which a person who comes from neosr does not know.
_OURS = re.compile(r"\b(islands?|drawn|the tail|gates?|staging|spec)\b", re.IGNORECASE)


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """(command, arguments) of each line of ours in the text's code blocks; comments and continuations undone."""
    blocks = "\n".join(re.findall(r"```(?:sh|bash|console)\n(.*?)```", _NOT_RUN.sub("", text), re.DOTALL))
    found = _LINE.findall(blocks.replace("\\\n", " "))
    return [(module or script, shlex.split(rest, comments=True)) for module, script, rest in found]


COMMANDS = [
    pytest.param(name, words, id=f"{page.stem}: {name} {' '.join(words)}")
    for page in PAGES
    for name, words in _commands(page.read_text(encoding="utf-8"))
]


def test_the_pages_show_commands() -> None:
    assert len(_commands(README)) >= 5
    assert len(COMMANDS) >= 20
    assert sum(len(_NOT_RUN.findall(page.read_text(encoding="utf-8"))) for page in PAGES) <= 3


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_every_command_parses(name: str, words: list[str]) -> None:
    """Names, options and values as the command itself reads them; what they do is run in the other tests."""
    context = click.Context(main)
    command = main.get_command(context, name.replace("_", "-"))
    assert command is not None, name
    with command.make_context(name, words, parent=context, resilient_parsing=False):
        pass


def test_the_readme_is_short_and_plain() -> None:
    lines = README.splitlines()
    assert len(lines) < 200
    assert [line for line in lines if len(line) > 120] == []
    assert _OURS.findall(README) == []
    assert all(f"`{name}`" in README for name in ALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_found_from_the_readme() -> None:
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", README)}
    assert [page.name for page in PAGES[1:] if page.resolve() not in linked] == []


def test_every_message_of_the_troubleshooting_page_is_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "aether_deploy").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 12
    # What the code fills in: a reason of the system's, a limit, a precision.
    filled = {"(No such file or directory)": "(", "2.0e-05": "{", "fp16": "{"}
    for message in messages:
        start = message
        for value, part in filled.items():
            start = start.replace(value, part).split("{")[0]
        assert start.strip() in code, message


@pytest.mark.parametrize("page", ["README.md", "docs/readers.md"])
def test_the_python_of_the_pages_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLE, "net_g_latest.pth")
    with Image.open(PHOTOS / "chelsea.png") as photo:
        photo.crop((120, 80, 240, 160)).save("in.png")
    if "2x_Name_fp32" in code:
        export_model("net_g_latest.pth")[0].path.rename("2x_Name_fp32_op20.onnx")
    subprocess.run([sys.executable, "-c", code], check=True)
    with Image.open("in.png") as small, Image.open("out.png") as large:
        assert large.size == (2 * small.width, 2 * small.height)


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
