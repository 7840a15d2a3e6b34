"""Files and their manifests appear together, and what was killed leaves nothing."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aether_deploy.errors import AetherDeployError
from aether_deploy.files import is_temporary, lock_folder, publish, replacing, scratch, staging


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


def test_a_folder_in_the_way_is_one_line_and_nothing_changes(tmp_path: Path) -> None:
    _stage(tmp_path, b__onnx="old", b__onnx__json="old")
    (tmp_path / "c.onnx.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AetherDeployError, match=r"c\.onnx\.json: cannot be written, a folder has that name"):
        _stage(tmp_path, b__onnx="new", b__onnx__json="new", c__onnx="new")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "b.onnx").read_text() == "old"


@pytest.mark.parametrize("make", ["staging", "replacing"])
def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(tmp_path: Path, make: str) -> None:
    target = {"staging": tmp_path, "replacing": tmp_path / "a.json"}[make]
    code = (
        f"import os, signal; from pathlib import Path; from aether_deploy.files import {make}\n"
        f"with {make}(Path({str(target)!r})):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run_python(code)
    (left,) = tmp_path.iterdir()
    assert is_temporary(left)
    machine, pid, token = re.findall(r"[0-9a-f]+", left.name.removeprefix(".staging-").removeprefix(".a."))[:3]
    living = left.with_name(left.name.replace(f"-{pid}-", f"-{os.getppid()}-"))
    elsewhere = left.with_name(left.name.replace(machine, "0" * 6))
    stranger = left.with_name(left.name.replace(token, token[1:]))
    reused = left.with_name(left.name.replace(f"-{pid}-", f"-{os.getpid()}-"))
    for path in (living, elsewhere, stranger, reused):
        path.touch()
    os.utime(reused, (0, 0))
    with staging(tmp_path):
        assert not left.exists()
        assert not reused.exists()  # older than the process that has its number now
        assert living.exists() and elsewhere.exists() and stranger.exists()


def test_a_temporary_folder_of_a_killed_process_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = "import os; from aether_deploy.files import scratch\nwith scratch('engine'):\n    os.kill(os.getpid(), 9)"
    run_python(code)
    assert len(list(tmp_path.iterdir())) == 1
    with scratch("neosr") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aether_deploy.files import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            lock_folder(tmp_path, wait=False)
        other.kill()
        other.wait()
    descriptor = lock_folder(tmp_path, wait=False)
    assert descriptor is not None
    os.close(descriptor)


@pytest.mark.parametrize("write", [replacing, lambda path: staging(path.parent)])
def test_a_full_disk_is_one_line(write: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(AetherDeployError, match="cannot be written"), write(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.bin"):
        (tmp_path / "missing").read_bytes()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
