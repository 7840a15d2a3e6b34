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

from aether_deploy.errors import ImageError
from aether_deploy.files import sha256_of
from aether_deploy.pictures.batch_run import plan_folder
from aether_deploy.pictures.folder_record import RECORD
from aether_deploy.pictures.images import Picture, read_picture, write_picture
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.files import temporary_of
from tests.helpers.networks import randomize, save, tiny

pytestmark = pytest.mark.slow

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
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _other(folder: Path) -> Path:
    """Another network than `checkpoint_file`, of the same architecture."""
    return save(randomize(tiny(), seed=1), folder / "2x_Other.pth")


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
    ran = call("upscale", checkpoint_file, folder, "-o", tmp_path / "out", "--json")
    assert ran.code == 1
    assert "3 of 9 pictures failed" in error_line(ran)
    assert (ran.json["exit_code"], len(ran.json["written"]), len(ran.json["failures"])) == (1, 6, 3)
    failed = [line for line in ran.err.splitlines() if line.startswith("failed")]
    assert len(failed) == 3
    assert "a0.png" in failed[0]
    assert len(_tree(tmp_path / "out")) == 6


def test_output_inside_the_input_is_no_input(folder: Path, checkpoint_file: Path, call: Callable[..., Ran]) -> None:
    for expected in ("wrote 6 pictures", "wrote 0 pictures"):
        ran = call("upscale", checkpoint_file, folder, "-o", folder / "out")
        assert ran.code == 0
        assert expected in ran.out


def test_a_folder_with_the_name_of_a_result(
    folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    for _ in range(2):
        ran = call("upscale", checkpoint_file, folder, "-o", tmp_path / "out")
        assert ran.code == 1
        assert "1 of 6 pictures failed" in error_line(ran)
        (failed,) = (line for line in ran.err.splitlines() if line.startswith("failed"))
        assert "a.png: a folder has this name; move it away" in failed
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").mkdir()
    ran = call("upscale", checkpoint_file, folder / "a.png", "-o", tmp_path / "one", "--overwrite")
    assert ran.code == 1
    assert "a folder has this name" in error_line(ran)


def test_pictures_dated_in_the_future(
    folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    """By a camera whose clock was wrong: done once, and again only if edited."""
    future = time.time_ns() + 10**15
    for name in ("a.png", "b.jpg"):
        os.utime(folder / name, ns=(future, future))
    words = ("upscale", checkpoint_file, folder, "-o", tmp_path / "out", "--json")
    assert len(call(*words).json["written"]) == 6
    assert call(*words).json["written"] == []
    write_picture(folder / "a.png", Picture(np.zeros((20, 30, 3), np.uint8)))
    os.utime(folder / "b.jpg", ns=(future + 10**13, future + 10**13))
    assert [Path(path).name for path in call(*words).json["written"]] == ["a.png", "b.jpg"]
    assert call(*words).json["written"] == []


def test_refusals(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "b.jpg", folder / "a.jpg")
    with pytest.raises(ImageError, match="would both become"):
        plan_folder(folder, tmp_path / "out", ".png")
    with pytest.raises(ImageError, match="is the input itself"):
        plan_folder(folder, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no picture below it"):
        plan_folder(tmp_path / "empty", tmp_path / "out")


class TestRecord:
    """What made the results decides whether they are taken for done."""

    @pytest.fixture
    def done(self, folder: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> Path:
        """The output of a whole run."""
        ran = call("upscale", checkpoint_file, folder, "-o", tmp_path / "out")
        assert ran.code == 0, ran.err
        assert "note:" not in ran.err
        return tmp_path / "out"

    def test_another_model_or_overlap(
        self, folder: Path, done: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        before, other = _tree(done), _other(tmp_path)
        for words, seen in (
            ((other,), f"model {sha256_of(checkpoint_file)[:12]}, now {sha256_of(other)[:12]}"),
            ((checkpoint_file, "--overlap", "20"), "overlap auto, now 20"),
        ):
            ran = call("upscale", words[0], folder, "-o", done, *words[1:])
            assert ran.code == 1
            assert seen in error_line(ran)
            assert "give another --output, or --overwrite" in error_line(ran)
            assert _tree(done) == before
        ran = call("upscale", other, folder, "-o", done, "--overwrite")
        assert ran.code == 0, ran.err
        assert call("upscale", other, folder, "-o", tmp_path / "fresh").code == 0
        assert _tree(done) == _tree(tmp_path / "fresh") != before
        assert call("upscale", other, folder, "-o", done, "--json").json["written"] == []
        assert call("upscale", checkpoint_file, folder, "-o", done).code == 1

    def test_what_stands_there_without_a_record_is_kept(
        self, folder: Path, done: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        (done / RECORD).unlink()
        (done / "b.jpg").unlink()
        ours = done / "a.png"
        ours.write_bytes(b"somebody's own")
        ran = call("upscale", checkpoint_file, folder, "-o", done, "--json")
        assert [Path(path).name for path in ran.json["written"]] == ["b.jpg"]
        assert "note: 5 results were in" in ran.err
        os.utime(folder / "a.png")
        ran = call("upscale", checkpoint_file, folder, "-o", done, "--json")
        assert ran.json["written"] == []
        assert ours.read_bytes() == b"somebody's own"

    def test_no_record_is_made_where_nothing_is(
        self, folder: Path, done: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        (done / RECORD).unlink()
        assert call("upscale", checkpoint_file, folder, "-o", done).code == 0
        assert call("upscale", _other(tmp_path), folder, "-o", done).code == 0
        assert not (done / RECORD).exists()

    def test_a_picture_that_was_edited_since_is_done_again(
        self, folder: Path, done: Path, checkpoint_file: Path, call: Callable[..., Ran]
    ) -> None:
        before = (done / "sub" / "a.png").read_bytes()
        write_picture(folder / "sub" / "a.png", Picture(np.zeros((20, 30, 3), np.uint8)))
        ran = call("upscale", checkpoint_file, folder, "-o", done, "--json")
        assert ran.json["written"] == [str(done / "sub" / "a.png")]
        assert (done / "sub" / "a.png").read_bytes() != before

    @pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"made_by": {}, "created": 0, "overwrite": false}'])
    def test_a_damaged_record(
        self, damaged: str, folder: Path, done: Path, checkpoint_file: Path, call: Callable[..., Ran]
    ) -> None:
        (done / RECORD).write_text(damaged)
        ran = call("upscale", checkpoint_file, folder, "-o", done)
        assert ran.code == 1
        assert f"{RECORD}: no record of a run" in error_line(ran)
        assert call("upscale", checkpoint_file, folder, "-o", done, "--overwrite").code == 0

    def test_a_neosr_folder_is_the_checkpoint_that_was_taken(
        self, folder: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        """A training that went on is another model."""
        models = tmp_path / "experiment" / "models"
        models.mkdir(parents=True)
        save(tiny(), models / "net_g_1000.pth")
        words = ("upscale", tmp_path / "experiment", folder, "-o", tmp_path / "out")
        assert call(*words).code == 0
        save(randomize(tiny(), seed=1), models / "net_g_2000.pth")
        ran = call(*words)
        assert ran.code == 1
        assert "its results were made with model" in error_line(ran)


class TestKill:
    """A run that is killed goes on, and ends with the same files."""

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        """Enough to be killed in the middle."""
        (tmp_path / "in").mkdir()
        photo = read_picture(PHOTOS / "chelsea.png").pixels
        for index in range(10):
            write_picture(tmp_path / "in" / f"{index:02}.png", Picture(photo[index : index + 160, :200]))
        return tmp_path / "in"

    @staticmethod
    def _kill(written: Callable[[], int], *words: object) -> int:
        """Runs `upscale` in a process of its own until some pictures are written; gives its number."""
        command = [sys.executable, "-m", "aether_deploy.upscale", *map(str, words)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while written() < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return process.pid

    def test_and_then_the_same_files(
        self, many: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        out, whole = tmp_path / "out", tmp_path / "whole"
        assert call("upscale", checkpoint_file, many, "-o", whole).code == 0
        number = self._kill(lambda: len(list(out.glob("[0-9]*.png"))), checkpoint_file, many, "-o", out)
        # Another that was cut off while it wrote, under the number of a process that is gone.
        temporary_of(number, out / "23.png").write_bytes(b"half")
        there = {path.name for path in out.glob("[0-9]*.png")}
        assert 3 <= len(there) < 10
        for name in there:
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        ran = call("upscale", checkpoint_file, many, "-o", out, "--json")
        assert ran.code == 0
        assert len(ran.json["skipped"]) == len(there)
        assert _tree(out) == _tree(whole)

    @pytest.mark.long
    def test_overwriting_another_models_results(
        self, many: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        """The results that the killed run had not come to are another model's, and are not taken for done."""
        out, whole, other = tmp_path / "out", tmp_path / "whole", _other(tmp_path)
        assert call("upscale", checkpoint_file, many, "-o", out).code == 0
        assert call("upscale", other, many, "-o", whole).code == 0
        old = _tree(out)
        self._kill(
            lambda: sum((out / name).read_bytes() != data for name, data in old.items()),
            *(other, many, "-o", out, "--overwrite"),
        )
        kept = [name for name, data in old.items() if (out / name).read_bytes() == data]
        assert 0 < len(kept) < 10
        ran = call("upscale", checkpoint_file, many, "-o", out)
        assert "its results were made with model" in error_line(ran)
        ran = call("upscale", other, many, "-o", out, "--json")
        assert ran.code == 0, ran.err
        assert sorted(Path(path).name for path in ran.json["written"]) == kept
        assert _tree(out) == _tree(whole)
