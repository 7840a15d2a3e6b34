"""Files and their manifests appear together, and what was killed leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aether_deploy.errors import AetherDeployError
from aether_deploy.files import publish, staging


def _stage(folder: Path, **files: str) -> None:
    with staging(folder) as staged:
        for name, text in files.items():
            (staged / name.replace("__", ".")).write_text(text)
        publish(staged, folder)


def test_both_are_there_and_the_staging_folder_is_gone(tmp_path: Path) -> None:
    _stage(tmp_path, a__onnx="file", a__onnx__json="manifest")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.onnx": "file",
        "a.onnx.json": "manifest",
    }


def test_at_no_moment_an_artifact_stands_beside_another_ones_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of a publication, seen from outside: the pair is the old one, the new one, or there is no file."""
    _stage(tmp_path, a__onnx="old", a__onnx__json="old")
    seen = []

    def look() -> None:
        file, manifest = tmp_path / "a.onnx", tmp_path / "a.onnx.json"
        seen.append((file.read_text() if file.exists() else None, manifest.read_text() if manifest.exists() else None))

    def watched(name: str) -> None:
        real = getattr(Path, name)

        def step(self: Path, *args: object, **kwargs: object) -> object:
            look()
            result = real(self, *args, **kwargs)
            look()
            return result

        monkeypatch.setattr(Path, name, step)

    with staging(tmp_path) as staged:
        (staged / "a.onnx").write_text("new")
        (staged / "a.onnx.json").write_text("new")
        with monkeypatch.context():
            watched("replace")
            watched("unlink")
            publish(staged, tmp_path)
        monkeypatch.undo()
    assert ("old", "old") in seen
    assert seen[-1] == ("new", "new")
    assert {pair for pair in seen if pair[0] is not None} == {("old", "old"), ("new", "new")}


def test_a_manifest_that_no_new_one_replaces_goes(tmp_path: Path) -> None:
    _stage(tmp_path, a__pth="old", a__pth__json="old")
    _stage(tmp_path, a__pth="new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(AetherDeployError, match=r"a\.onnx: cannot be replaced"):
        _stage(tmp_path, a__onnx="file")


def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from aether_deploy.files import staging\n"
        f"with staging(Path({str(tmp_path)!r})) as staged:\n"
        "    (staged / 'half').write_text('')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    (left,) = tmp_path.iterdir()
    living = tmp_path / f".staging-{os.getppid()}-x"
    living.mkdir()
    with staging(tmp_path):
        assert not left.exists()
        assert living.exists()
