"""Files against their manifests and against a list of hashes: one flipped byte is found, in any of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, tiny


@pytest.fixture
def folder(tmp_path: Path, call: Callable[..., Ran]) -> Path:
    """A fused checkpoint with its manifest, and the list of both."""
    given = save(tiny(), tmp_path / "2x_T.pth")
    out = tmp_path / "out"
    assert call("fuse", given, "-o", out / "f.safetensors").code == 0
    files = sorted(out.iterdir())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (tmp_path / "sums").write_text("".join(lines))
    return out


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_whole(folder: Path, call: Callable[..., Ran]) -> None:
    ran = call("verify", folder, "--json")
    assert ran.json == {
        "files": [{"file": "f.safetensors", "agrees_with": ["its manifest"], "wrong": ""}],
        "passed": True,
    }
    ran = call("verify", folder, "--against", folder.parent / "sums")
    assert ran.code == 0
    assert "f.safetensors: the list, its manifest" in ran.out
    assert "f.safetensors.json: the list" in ran.out
    assert call("verify", folder / "f.safetensors", "--against", folder.parent / "sums").code == 0


@pytest.mark.parametrize("name", ["f.safetensors", "f.safetensors.json"])
def test_a_flipped_byte(name: str, folder: Path, call: Callable[..., Ran]) -> None:
    flip(folder / name)
    ran = call("verify", folder, "--against", folder.parent / "sums")
    assert f"✗ {name}: sha256" in ran.out
    error_line(ran)


def test_a_forger_who_changes_both_is_found_by_the_list_alone(folder: Path, call: Callable[..., Ran]) -> None:
    model, manifest = folder / "f.safetensors", folder / "f.safetensors.json"
    flip(model)
    values = json.loads(manifest.read_text())
    values["artifact"]["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(values))
    assert call("verify", folder).code == 0
    assert "2 of 2 files" in error_line(call("verify", folder, "--against", folder.parent / "sums"))


def test_the_folders_own_list_is_used(folder: Path, call: Callable[..., Ran]) -> None:
    (folder.parent / "sums").rename(folder / "SHA256SUMS")
    assert "f.safetensors.json: the list" in call("verify", folder).out
    (folder / "f.safetensors.json").unlink()
    ran = call("verify", folder)
    assert "f.safetensors.json: cannot be read" in ran.out
    assert "1 of 2 files" in error_line(ran)


def test_without_a_manifest_or_a_list(folder: Path, call: Callable[..., Ran]) -> None:
    (folder / "f.safetensors.json").unlink()
    assert "no f.safetensors.json beside it" in call("verify", folder).out
    (folder / "f.safetensors").unlink()
    assert "no artifact in it" in error_line(call("verify", folder))
    assert "cannot be read" in call("verify", folder / "nothing.onnx").out


@pytest.mark.parametrize(
    "text", ["", "abc\n", f"{'0' * 64}  ../f.safetensors\n", f"{'0' * 64}  /etc/passwd\n", f"{'0' * 64}  a\n" * 2, None]
)
def test_no_list(text: str | None, folder: Path, call: Callable[..., Ran]) -> None:
    sums = folder.parent / "wrong"
    if text is not None:
        sums.write_text(text)
    assert "wrong" in error_line(call("verify", folder, "--against", sums))
