"""What is said of files that no manifest vouches for, and what a link does not hide."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aether_deploy.proof.manifest import read_manifest
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import calm, save

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.artifacts.pipeline import export_model
    from aether_deploy.precisions.variant import variants

    folder = tmp_path_factory.mktemp("trust")
    checkpoint = save(calm(scale=2, embed_dim=4, depths=(1,), lk_kernel=3, sk_kernel=3), folder / "2x_T.pth")
    options = ExportOptions(variants=variants(static=(1, 3, 16, 24)))
    return export_model(checkpoint, options)[0].path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of the file and its manifest in a folder of the test's own."""
    for path in (exported, exported.with_name(f"{exported.name}.json")):
        shutil.copy(path, tmp_path)
    return tmp_path / exported.name


def tamper(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[-50] ^= 1
    model.write_bytes(data)


def test_a_link_in_another_folder_does_not_hide_the_manifest(model: Path, call: Callable[..., Ran]) -> None:
    elsewhere = model.parent / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "linked.onnx"
    link.symlink_to(model)
    assert json.loads(call("inspect", link, "--json").out)["manifest"] == "sha256 matches"
    tamper(model)
    assert "not the file that was proved" in error_line(call("inspect", link))
    assert "not the file that was proved" in error_line(call("parity", link, link))


def test_a_manifest_linked_beside_a_link_is_found_too(model: Path, call: Callable[..., Ran]) -> None:
    elsewhere = model.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "l.onnx").symlink_to(model)
    model.with_name(f"{model.name}.json").rename(elsewhere / "l.onnx.json")
    assert json.loads(call("inspect", elsewhere / "l.onnx", "--json").out)["manifest"] == "sha256 matches"


def test_what_runs_without_a_manifest_says_so_in_one_line(
    model: Path, call: Callable[..., Ran], caplog: pytest.LogCaptureFixture
) -> None:
    assert call("parity", model, model).code == 0
    assert not caplog.records or not [r for r in caplog.records if "manifest" in r.message]
    model.with_name(f"{model.name}.json").unlink()
    ran = call("parity", model, model)
    assert ran.code == 0
    assert [line for line in ran.err.splitlines() if "no manifest is beside it" in line]


def test_what_is_opened_in_spite_of_its_manifest_says_so(model: Path, call: Callable[..., Ran]) -> None:
    tamper(model)
    ran = call("parity", model, model, "--trust")
    assert "it is not the file that its manifest describes" in ran.err


def test_a_fixed_shape_comes_back_from_the_manifest(model: Path) -> None:
    manifest = read_manifest(model)
    assert manifest is not None
    assert manifest.variant.static == (1, 3, 16, 24)


def test_a_pipe_is_no_file(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """It has no end, so hashing it would not have one either."""
    os.mkfifo(tmp_path / "x.onnx")
    assert "no regular file" in error_line(call("inspect", tmp_path / "x.onnx"))


def test_a_manifest_is_never_read_half_written(model: Path) -> None:
    """Two processes write one manifest again and again, and each reading is whole."""
    code = (
        "import sys; from pathlib import Path; from aether_deploy.proof.manifest import read_manifest\n"
        "model = Path(sys.argv[1]); manifest = read_manifest(model)\n"
        "for _ in range(300): manifest.write(model)\n"
    )
    command = [sys.executable, "-c", code, str(model)]
    writers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    expected, read = read_manifest(model), 0
    while any(writer.poll() is None for writer in writers):
        assert read_manifest(model) == expected
        read += 1
    assert [writer.returncode for writer in writers] == [0, 0], [writer.communicate() for writer in writers]
    assert read > 100
    assert len(list(model.parent.iterdir())) == 2
