"""A folder: its tree, what is skipped, what is bad, and a kill in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aether_deploy.batch_run import plan_folder
from aether_deploy.errors import ImageError
from aether_deploy.files import is_temporary, replacing
from aether_deploy.images import PHOTOS, Picture, read_picture, write_picture
from tests.conftest import Ran, error_line

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures in a tree, and what is none of our business."""
    root = tmp_path / "in"
    photo = read_picture(PHOTOS / "coffee.png").pixels
    for index, name in enumerate(("a.png", "b.jpg", "sub/a.png", "sub/deep/c.webp", "sub/d.tif", "e.bmp")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(root / name, Picture(photo[index : index + 20, :30]))
    (root / "notes.txt").write_text("none")
    shutil.copy(root / "a.png", root / ".hidden.png")
    return root


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_tree_is_kept(folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("upscale", checkpoint_file, folder, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert sorted(_tree(tmp_path / "out")) == ["a.png", "b.jpg", "e.bmp", "sub/a.png", "sub/d.tif", "sub/deep/c.webp"]
    assert read_picture(tmp_path / "out" / "sub" / "d.tif").pixels.shape == (40, 60, 3)
    assert 0 < ran.json["network_busy"] <= 1


def test_beside_the_folder_and_in_one_format(folder: Path, checkpoint_file: Path, call: Callable[..., Ran]) -> None:
    (folder / "e.bmp").unlink()
    ran = call("upscale", checkpoint_file, folder, "--format", "png")
    assert ran.code == 0, ran.err
    names = ["a.png", "b.png", "sub/a.png", "sub/d.png", "sub/deep/c.png"]
    assert sorted(_tree(folder.with_name("in_2x"))) == names


def test_what_is_done_is_skipped(folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    out = tmp_path / "out"
    assert call("upscale", checkpoint_file, folder, "-o", out).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    (out / "sub" / "a.png").unlink()
    ran = call("upscale", checkpoint_file, folder, "-o", out, "--json")
    assert [Path(path).name for path in ran.json["written"]] == ["a.png"]
    assert len(ran.json["skipped"]) == 5
    kept = {path: stamp for path, stamp in before.items() if path != out / "sub" / "a.png"}
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    ran = call("upscale", checkpoint_file, folder, "-o", out, "--overwrite", "--json")
    assert len(ran.json["written"]) == 6


def test_a_bad_file_stops_nothing(
    folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    (folder / "a0.png").write_bytes((folder / "a.png").read_bytes()[:100])
    (folder / "sub" / "clear.jpg").write_text("no picture")
    write_picture(folder / "z.png", Picture(np.zeros((4, 4, 4), np.uint8)))
    (folder / "z.png").rename(folder / "z.bmp")  # transparency, which its format cannot hold
    ran = call("upscale", checkpoint_file, folder, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "3 of 9 pictures failed" in error_line(ran)
    failed = [line for line in ran.err.splitlines() if line.startswith("failed")]
    assert len(failed) == 3
    assert "a0.png" in failed[0]
    assert len(_tree(tmp_path / "out")) == 6


def test_output_inside_the_input_is_no_input(folder: Path, checkpoint_file: Path, call: Callable[..., Ran]) -> None:
    for expected in ("wrote 6 pictures", "wrote 0 pictures"):
        ran = call("upscale", checkpoint_file, folder, "-o", folder / "out")
        assert ran.code == 0
        assert expected in ran.out


def test_refusals(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "b.jpg", folder / "a.jpg")
    with pytest.raises(ImageError, match="would both become"):
        plan_folder(folder, tmp_path / "out", ".png")
    with pytest.raises(ImageError, match="is the input itself"):
        plan_folder(folder, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no picture below it"):
        plan_folder(tmp_path / "empty", tmp_path / "out")


def test_a_kill_and_then_the_same_files(checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    folder, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    folder.mkdir()
    photo = read_picture(PHOTOS / "chelsea.png").pixels
    for index in range(24):
        write_picture(folder / f"{index:02}.png", Picture(photo[index : index + 160, :200]))
    assert call("upscale", checkpoint_file, folder, "-o", whole).code == 0
    words = [sys.executable, "-m", "aether_deploy.upscale", str(checkpoint_file), str(folder), "-o", str(out)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("[0-9]*.png"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Another that was cut off while it wrote, under the number of a process that is gone.
    (out / f".23.{process.pid}.png").write_bytes(b"half")
    there = {path.name for path in out.glob("[0-9]*.png")}
    assert 3 <= len(there) < 24
    for name in there:
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    ran = call("upscale", checkpoint_file, folder, "-o", out, "--json")
    assert ran.code == 0
    assert len(ran.json["skipped"]) == len(there)
    assert _tree(out) == _tree(whole)


def test_leftovers_of_the_living_are_kept(tmp_path: Path) -> None:
    mine = tmp_path / f".x.{os.getppid()}.png"
    mine.touch()
    other = tmp_path / ".y.999999999.png"
    other.touch()
    with replacing(tmp_path / "x.png") as temporary:
        assert is_temporary(temporary)
        temporary.write_bytes(b"whole")
    assert mine.exists()
    assert other.exists()
    assert not is_temporary(tmp_path / "x.png")
