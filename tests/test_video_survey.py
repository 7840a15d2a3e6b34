"""Whole videos of every kind are taken as they are; damaged ones are refused before the network runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aether_deploy.errors import ImageError
from aether_deploy.pictures.upscale_any import upscale
from aether_deploy.pictures.video_survey import survey
from tests.helpers.commands import Ran, error_line
from tests.helpers.runners import Identity
from tests.helpers.videos import HEALTHY, encode

pytestmark = pytest.mark.slow


class TestHealthy:
    """False alarms would be worse than a miss."""

    @pytest.mark.parametrize("threads", [True, False])
    @pytest.mark.parametrize("frames", [4, 40])
    @pytest.mark.parametrize(("suffix", "encoder", "options"), HEALTHY)
    def test_containers_and_codecs(
        self, suffix: str, encoder: str, options: dict[str, str], frames: int, threads: bool, tmp_path: Path
    ) -> None:
        found = survey(encode(tmp_path / f"x{suffix}", encoder, options, frames=frames), threads=threads)
        assert (found.frames, found.damaged, found.missing, found.cut) == (frames, 0, 0, None)

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".flv", ".webm"])
    @pytest.mark.parametrize(
        "stamps",
        [
            [0, 1, 2, 5, 6, 14, 15, 17, 30, 60],
            [0, 1, 2, 3, 4, 500, 501, 502, 503, 504],
            list(range(1000, 1010)),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 300],
        ],
    )
    def test_variable_rates_pauses_and_late_starts(self, suffix: str, stamps: list[int], tmp_path: Path) -> None:
        encoder = "libvpx-vp9" if suffix == ".webm" else "libx264"
        found = survey(encode(tmp_path / f"x{suffix}", encoder, stamps=stamps))
        assert (found.frames, found.whole) == (10, True), found

    @pytest.mark.parametrize("encoder", ["libx264", "libx265", "mpeg2video"])
    def test_a_recording_that_begins_in_the_middle(self, encoder: str, tmp_path: Path) -> None:
        """As every recording of a broadcast does: what comes before its first key frame cannot be decoded."""
        options = {
            "g": "10",
            "bf": "2",
            **({"x265-params": "log-level=none:keyint=10"} if encoder == "libx265" else {}),
        }
        content = encode(tmp_path / "x.ts", encoder, options, frames=60).read_bytes()
        for packet in range(12, 40, 7):
            (tmp_path / "x.ts").write_bytes(content[packet * 188 :])
            found = survey(tmp_path / "x.ts")
            assert found.whole, (packet, found)
            assert found.frames < 60

    def test_raw_streams_without_time_stamps(self, tmp_path: Path) -> None:
        assert survey(encode(tmp_path / "x.h264", frames=20)).whole


def _hole(path: Path, length: int) -> Path:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(content)
    return path


class TestDamaged:
    """One line before the network runs, or, if asked for, what is left and a note."""

    @pytest.fixture
    def torn(self, tmp_path: Path) -> Path:
        """60 frames with 3,000 random bytes in the middle."""
        return _hole(encode(tmp_path / "in.mkv", options={"crf": "4", "g": "10"}, frames=60), 3000)

    def test_a_hole(self, torn: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        before = sorted(tmp_path.iterdir())
        ran = call("upscale", checkpoint_file, torn, "-o", tmp_path / "out.mkv")
        assert ran.code == 1
        line = error_line(ran)
        for text in ("in.mkv is damaged", "damaged packet", "of 60 frames are missing", "--keep-going"):
            assert text in line
        assert sorted(tmp_path.iterdir()) == before

    def test_going_on(self, torn: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        ran = call("upscale", checkpoint_file, torn, "-o", tmp_path / "out.mkv", "--keep-going", "--json")
        assert ran.code == 0, ran.err
        assert "note:" in ran.err
        assert "going on with" in ran.err
        assert ran.json["damaged"] > 0
        assert 0 < ran.json["missing"] == 60 - ran.json["frames"] < 60
        assert survey(tmp_path / "out.mkv").frames == ran.json["frames"]

    @pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".avi"])
    def test_cut_to_half(self, suffix: str, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        encoder = {".webm": "libvpx-vp9", ".avi": "mjpeg"}.get(suffix, "libx264")
        options = {"b": "0", "crf": "4"} if suffix == ".webm" else {"crf": "4"} if encoder == "libx264" else {}
        source = encode(tmp_path / f"in{suffix}", encoder, options, frames=20)
        source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        ran = call("upscale", checkpoint_file, source, "-o", tmp_path / "out.mkv")
        assert ran.code == 1
        assert "is damaged" in error_line(ran)
        assert "frames are missing" in error_line(ran)
        assert not (tmp_path / "out.mkv").exists()

    def test_the_same_damage_twice_in_one_process(self, torn: Path) -> None:
        assert survey(torn, threads=False).damaged == survey(torn, threads=False).damaged > 0

    def test_from_python(self, torn: Path, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is damaged"):
            upscale(Identity(), torn, tmp_path / "out.mkv")
        done = upscale(Identity(), torn, tmp_path / "out.mkv", keep_going=True)
        assert done.video is not None
        assert done.video.damaged > 0

    @pytest.mark.parametrize("going_on", [True, False])
    def test_a_change_of_size(
        self, going_on: bool, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        parts = [encode(tmp_path / f"{h}.ts", frames=8, size=(h, 32)).read_bytes() for h in (24, 48)]
        (tmp_path / "in.ts").write_bytes(b"".join(parts))
        words = ["--keep-going"] if going_on else []
        ran = call("upscale", checkpoint_file, tmp_path / "in.ts", "-o", tmp_path / "out.mkv", *words)
        assert ran.code == 1
        assert "frame 8 is 32x48, those before it are 32x24" in error_line(ran)
        assert not (tmp_path / "out.mkv").exists()
