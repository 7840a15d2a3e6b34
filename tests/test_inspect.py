"""`inspect` on what the pipeline reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aether_deploy.artifacts.inspection import inspect_file
from aether_deploy.proof.manifest import manifest_path
from tests.helpers.commands import Ran, error_line


def test_a_checkpoint(call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("inspect", checkpoint_file, "--json")
    assert ran.json["kind"] == "checkpoint"
    assert ran.json["network"]["depths"] == [1, 2]
    assert ran.json["network"]["sk_kernel"] == 3
    assert "unfused, D 12, depths 1-2, kernels 7x7 + 3x3" in call("inspect", checkpoint_file).out


def test_an_onnx_file_and_one_that_was_changed(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    assert call("export", checkpoint_file).code == 0
    path = tmp_path / "2x_Tiny_fp32_op20.onnx"
    found = call("inspect", path, "--json").json
    assert found["opset"] == 20
    assert found["inputs"] == {"input": "float (batch, 3, height, width)"}
    assert found["manifest"] == "sha256 matches"
    proved = path.read_bytes()
    path.write_bytes(proved + b"\x00\x00")
    ran = call("inspect", path)
    assert ran.code == 1
    assert "not the file that was proved" in error_line(ran)
    path.write_bytes(proved)
    beside = manifest_path(path)
    beside.write_text(beside.read_text().replace(found["sha256"], "0" * 64))
    assert inspect_file(path, trust=True)["manifest"] == "of another file: sha256 differs"


def test_no_onnx(tmp_path: Path, call: Callable[..., Ran]) -> None:
    assert call("inspect", tmp_path / "none.onnx").code == 1
    (tmp_path / "text.onnx").write_text("no protobuf at all, this")
    ran = call("inspect", tmp_path / "text.onnx")
    assert ran.code == 1
    assert "cannot be read as ONNX" in error_line(ran)
