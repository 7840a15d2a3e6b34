"""A video's parts belong to one run and to one target."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from aether_deploy.errors import AetherDeployError, ImageError
from aether_deploy.pictures.parts_folder import parts_folder
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.pictures.video import upscale_video
from tests.helpers.commands import Ran, error_line
from tests.helpers.runners import Identity
from tests.helpers.videos import encode

ROOT = Path(__file__).parents[1]
HASH = "0123456789ab"


@pytest.mark.slow
def test_another_target_that_the_name_matches_as_a_pattern(
    checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    others = [f".ab.mkv.{HASH}.parts", ".a[bc].mkv.notes.parts", f".a[bc].mkv.x.mkv.{HASH}.parts"]
    for name in others:
        (tmp_path / name).mkdir()
    own = tmp_path / f".a[bc].mkv.{HASH}.parts"
    own.mkdir()
    ran = call("upscale", checkpoint_file, encode(tmp_path / "v.mkv"), "-o", tmp_path / "a[bc].mkv")
    assert ran.code == 0, ran.err
    assert all((tmp_path / name).is_dir() for name in others)
    assert not own.exists()


@pytest.mark.slow
@pytest.mark.parametrize("crf", [16, 20])
def test_two_runs_into_one_video(
    crf: int, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second, with the same settings or others, ends with one line; the first is none the worse."""
    source, target = encode(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    seen: list[Ran] = []

    class Meets(Upscaler):
        def __call__(self, picture: Any) -> Any:
            if not seen:
                monkeypatch.undo()
                seen.append(call("upscale", checkpoint_file, source, "-o", target, "--crf", crf))
            return super().__call__(picture)

    monkeypatch.setattr("aether_deploy.pictures.upscaling.Upscaler", Meets)
    ran = call("upscale", checkpoint_file, source, "-o", target)
    assert (ran.code, seen[0].code) == (0, 1), ran.err
    assert f"another run is writing {target}; wait" in error_line(seen[0])
    assert list(tmp_path.glob(".out*")) == []


def test_two_processes(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    code = (
        "import sys; from pathlib import Path\n"
        "from aether_deploy.pictures.parts_folder import parts_folder\n"
        "with parts_folder(Path(sys.argv[1]), {}) as folder:\n"
        "    (folder / 'a.nut').touch(); print('held', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        for identity in ({}, {"another": 1}):
            with pytest.raises(ImageError, match="another run is writing"), parts_folder(target, identity):
                raise AssertionError
        other.kill()
    # The killed run's own settings find what it finished; others delete it.
    with parts_folder(target, {}) as folder:
        assert (folder / "a.nut").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_other_settings_goes(tmp_path: Path) -> None:
    for identity in ({"a": 1}, {"a": 2}):
        with pytest.raises(RuntimeError), parts_folder(tmp_path / "out.mkv", identity) as folder:
            (folder / "0.nut").touch()
            raise RuntimeError
        assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.slow
def test_a_folder_with_the_name_of_the_video(tmp_path: Path, checkpoint_file: Path, call: Callable[..., Ran]) -> None:
    (tmp_path / "out.mkv").mkdir()
    source = encode(tmp_path / "in.mkv", frames=2)
    ran = call("upscale", checkpoint_file, source, "-o", tmp_path / "out.mkv", "--overwrite")
    assert ran.code == 1
    assert "a folder has this name" in error_line(ran)
    with pytest.raises(ImageError, match="a folder has this name"):
        upscale_video(Upscaler(Identity()), source, tmp_path / "out.mkv")


@pytest.mark.parametrize(("number", "kept"), [(errno.ENOSPC, True), (errno.EINVAL, False)])
def test_parts_are_kept_for_an_error_that_may_pass(
    number: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = encode(tmp_path / "in.mkv", frames=2)

    def fails(*_: object) -> None:
        av.error.err_check(-number)

    monkeypatch.setattr("aether_deploy.pictures.video.join", fails)
    with pytest.raises(AetherDeployError):
        upscale_video(Upscaler(Identity()), source, tmp_path / "out.mkv")
    assert (len(list(tmp_path.glob(".out.mkv.*.parts/*.nut"))), (tmp_path / "out.mkv").exists()) == (kept, False)
