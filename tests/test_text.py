"""What a stranger's names and keys do to the terminal: nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aether_deploy.text import printable
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, tiny
from tests.helpers.strangers import require_answer
from tests.helpers.variations import first_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nerror: forged", "a\\nerror: forged"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\udcff.png", "\\udcff.png"),
        ("a\u202eb\u2028", "a\\u202eb\\u2028"),
        ("Ünïcode 日本 [bold]", "Ünïcode 日本 [bold]"),
        ("x" * 30, "xxxxxxxxxx... (30 characters)"),
    ],
)
def test_shown_as_it_is_or_escaped(text: str, shown: str) -> None:
    assert printable(text, longest=10 if text.startswith("xxx") else None) == shown


@pytest.mark.parametrize("key", ["a\nerror: forged", "\x1b[2J", "k" * 100_000, "[/red]"])
def test_a_key_of_a_checkpoint(key: str, tmp_path: Path, call: Callable[..., Ran]) -> None:
    torch.save({key: torch.zeros(1)}, tmp_path / "net.pth")
    line = error_line(require_answer(lambda: call("inspect", tmp_path / "net.pth"), tmp_path))
    assert len(line) < 3000


NAMES = ["a\nerror: b\x1b[2J", "Ünïcode 日本", "q[", "a b'\"c"]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", first_of(NAMES))
def test_every_command_takes_any_name(name: str, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Folder and file; the results are proved, and nothing of the name reaches the terminal unescaped."""
    folder = tmp_path / f"{name}]"
    folder.mkdir()
    checkpoint = save(tiny(), tmp_path / "net.pth").rename(folder / f"2x_{name}.pth")
    words: tuple[object, ...]
    for words in (
        ("inspect", checkpoint),
        ("fuse", checkpoint),
        ("export", checkpoint),
        ("parity", checkpoint, folder / f"2x_{name}_fp32_op20.onnx"),
        ("report", folder / f"2x_{name}_fp32_op20.onnx", checkpoint),
        ("inspect", folder / f"2x_{name}_fp32_op20.onnx"),
    ):
        assert require_answer(lambda words=words: call(*words), tmp_path).code == 0  # type: ignore[misc]


def test_a_name_that_is_no_utf8(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """PyTorch takes it; ONNX and ONNX Runtime do not, so that another name is asked for before anything is made."""
    checkpoint = save(tiny(), tmp_path / "net.pth").rename(tmp_path / "2x_a\udcff.pth")
    assert require_answer(lambda: call("fuse", checkpoint), tmp_path).code == 0
    line = error_line(require_answer(lambda: call("export", checkpoint, "-o", tmp_path), tmp_path))
    assert "2x_a" not in line and "--name" in line
    assert require_answer(lambda: call("export", checkpoint, "-o", tmp_path, "--name", "b"), tmp_path).code == 0
    assert require_answer(lambda: call("inspect", tmp_path / "2x_b_fp32_op20.onnx"), tmp_path).code == 0
