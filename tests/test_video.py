"""Videos: every frame and its time stamp, the sound bit for bit, the colours, and a kill in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from aether_deploy.arrays import Pixels
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.errors import ImageError
from aether_deploy.pictures.images import read_picture
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.pictures.video import VideoOptions, upscale_video
from aether_deploy.pictures.video_colour import Colour, from_rgb, to_rgb
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.runners import Identity
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NTSC = Fraction(24000, 1001)


def make_video(
    path: Path,
    *,
    frames: int = 9,
    size: tuple[int, int] = (24, 32),
    pixels: str = "yuv420p",
    stamps: list[int] | None = None,
    sounds: int = 1,
    rotation: int = 0,
    colour: Colour | None = None,
) -> Path:
    """A pan over a photo, with tones."""
    photo = read_picture(PHOTOS / "coffee.png").pixels
    height, width = size
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=NTSC, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.codec_context.time_base = 1 / NTSC
        if colour is not None:
            colour.tag(stream.codec_context)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = [container.add_stream("aac", rate=44100, layout="stereo") for _ in range(sounds)]
        for index in range(frames):
            part = np.ascontiguousarray(photo[index : index + height, 2 * index : 2 * index + width])
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
            frame.pts = stamps[index] if stamps else index
            frame.time_base = 1 / NTSC
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, tone in enumerate(audio):
            wave = np.sin(np.arange(16 * 1024) * (0.05 + 0.02 * number)).astype(np.float32)
            for block in range(16):
                samples = np.stack([wave[block * 1024 : (block + 1) * 1024]] * 2)
                sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
                sound.sample_rate, sound.pts, sound.time_base = 44100, block * 1024, Fraction(1, 44100)
                container.mux(tone.encode(sound))
            container.mux(tone.encode(None))
    return path


def with_subtitles(source: Path, target: Path) -> Path:
    """The same with two lines of subtitles, a chapter, and words about them."""
    (text := source.with_suffix(".srt")).write_text(
        "1\n00:00:00,000 --> 00:00:00,100\nHello\n\n2\n00:00:00,100 --> 00:00:00,300\nWorld\n"
    )
    with av.open(source) as original, av.open(text) as lines, av.open(target, "w") as result:
        (said,) = lines.streams.subtitles
        copies = {stream.index: result.add_stream_from_template(stream) for stream in original.streams}
        matroska = target.suffix == ".mkv"
        spoken: Any = result.add_stream_from_template(said) if matroska else result.add_mux_stream("mov_text")
        spoken.metadata["language"] = "ger"
        result.metadata["title"] = "A film"
        chapter = {"id": 1, "start": 0, "end": 300, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        result.set_chapters([chapter])  # type: ignore[list-item]
        for packet in original.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                result.mux_one(packet)
        for line in lines.demux(said):
            if line.size:
                content = bytes(line) if matroska else line.size.to_bytes(2, "big") + bytes(line)
                packet = av.Packet(content)
                packet.pts = packet.dts = line.pts
                packet.duration, packet.time_base, packet.stream = line.duration, line.time_base, spoken
                result.mux_one(packet)
    return target


def lines_of(path: Path) -> list[tuple[bytes, float, float]]:
    """(content, when, for how long) of each subtitle."""
    with av.open(path) as container:
        packets = container.demux(list(container.streams.subtitles)) if container.streams.subtitles else iter(())
        return [
            (bytes(p), float((p.pts or 0) * p.time_base), float((p.duration or 0) * p.time_base))
            for p in packets
            if p.size
        ]


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def sounds_of(path: Path) -> dict[int, bytes]:
    packets: dict[int, bytes] = {}
    with av.open(path) as container:
        for packet in container.demux(list(container.streams.audio)):
            packets[packet.stream_index] = packets.get(packet.stream_index, b"") + bytes(packet)
    return packets


@pytest.fixture
def upscaler(checkpoint_file: Path) -> Upscaler:
    """A tiny network."""
    return Upscaler(open_runner(checkpoint_file))


class TestFrames:
    """None lost, none doubled, each when it was."""

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
    @pytest.mark.parametrize("frames", [1, 8, 9])
    def test_count_times_and_sound(self, upscaler: Upscaler, suffix: str, frames: int, tmp_path: Path) -> None:
        source = make_video(tmp_path / f"in{suffix}", frames=frames, sounds=2)
        target = tmp_path / f"out{suffix}"
        result = upscale_video(upscaler, source, target, VideoOptions(part=4))
        before, after = frames_of(source), frames_of(target)
        assert result.frames == len(after) == len(before) == frames
        assert [frame.time for frame in after] == [frame.time for frame in before]
        assert (after[0].width, after[0].height) == (64, 48)
        assert list(sounds_of(target).values()) == list(sounds_of(source).values())
        assert result.audio == 2
        with av.open(target) as container:
            # Matroska rounds a duration to nanoseconds.
            assert float(container.streams.video[0].average_rate) == pytest.approx(float(NTSC), abs=0.01)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []

    def test_a_variable_rate_is_kept(self, upscaler: Upscaler, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mkv", stamps=[0, 1, 2, 5, 6, 14, 15, 17, 30], sounds=0)
        upscale_video(upscaler, source, tmp_path / "out.mkv", VideoOptions(part=4))
        assert [f.time for f in frames_of(tmp_path / "out.mkv")] == [f.time for f in frames_of(source)]

    def test_frames_are_those_of_the_network(self, upscaler: Upscaler, tmp_path: Path) -> None:
        """In their order: each is nearest to its own source, not to its neighbour's."""
        from aether_deploy.pictures.images import Picture

        source = make_video(tmp_path / "in.mp4", pixels="yuv444p", sounds=0)
        upscale_video(upscaler, source, tmp_path / "out.mp4", VideoOptions(crf=1, part=4))
        before, after = frames_of(source), frames_of(tmp_path / "out.mp4")
        expected = [upscaler(Picture(to_rgb(frame, Colour.of(frame)))).pixels.astype(float) for frame in before]
        for index, frame in enumerate(after):
            seen = to_rgb(frame, Colour.of(frame))
            errors = [np.abs(seen - other).mean() for other in expected]
            assert int(np.argmin(errors)) == index
            assert errors[index] < 2

    @pytest.mark.parametrize("rotation", [90, 180, -90])
    def test_upright(self, rotation: int, tmp_path: Path) -> None:
        nearest = Upscaler(Identity())
        straight = make_video(tmp_path / "straight.mp4", frames=1, sounds=0)
        turned = make_video(tmp_path / "turned.mp4", frames=1, sounds=0, rotation=rotation)
        (frame,) = frames_of(turned)
        assert frame.rotation % 360 == rotation % 360
        seen = {}
        for path in (straight, turned):
            upscale_video(nearest, path, path.with_suffix(".mkv"), VideoOptions(crf=1))
            (result,) = frames_of(path.with_suffix(".mkv"))
            assert result.rotation == 0
            seen[path.stem] = to_rgb(result, Colour.of(result)).astype(float)
        assert np.abs(np.rot90(seen["turned"], -rotation // 90) - seen["straight"]).mean() < 4


class TestCopied:
    """What the source has beside pictures and sound."""

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_subtitles_chapters_and_title(self, upscaler: Upscaler, suffix: str, tmp_path: Path) -> None:
        source = with_subtitles(make_video(tmp_path / f"plain{suffix}"), tmp_path / f"in{suffix}")
        target = tmp_path / f"out{suffix}"
        result = upscale_video(upscaler, source, target, VideoOptions(part=4))
        assert (result.audio, result.subtitles) == (1, 1)
        assert lines_of(target) == lines_of(source)
        assert [b"Hello" in lines_of(target)[0][0], len(lines_of(target))] == [True, 2]
        assert sounds_of(target).popitem()[1] == sounds_of(source).popitem()[1]
        assert [f.time for f in frames_of(target)] == [f.time for f in frames_of(source)]
        with av.open(target) as container:
            assert container.metadata["title"] == "A film"
            assert container.streams.subtitles[0].metadata["language"] == "ger"
            (chapter,) = container.chapters()
            assert chapter["metadata"]["title"] == "One"
            assert float(chapter["end"] * chapter["time_base"]) == pytest.approx(0.3)
        again = target.with_stem("again")
        upscale_video(upscaler, source, again, VideoOptions(part=4))
        assert again.read_bytes() == target.read_bytes()

    def test_a_container_that_does_not_take_them(
        self, upscaler: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = with_subtitles(make_video(tmp_path / "plain.mkv"), tmp_path / "in.mkv")
        result = upscale_video(upscaler, source, tmp_path / "out.mp4")
        assert (result.audio, result.subtitles) == (1, 0)
        assert "srt subtitles are not copied into .mp4" in caplog.text
        assert lines_of(tmp_path / "out.mp4") == []


@pytest.mark.parametrize("suffix", first_of([".mp4", ".mkv"]))
def test_progress_says_the_rate_and_the_time_left(
    suffix: str, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / f"in{suffix}", frames=40, size=(96, 120), sounds=0)
    words = ("upscale", checkpoint_file, source, "--overwrite")
    monkeypatch.setenv("FORCE_COLOR", "1")
    ran = call(*words)
    assert ran.code == 0, ran.err
    # Drawn ten times a second, so some frames are not seen; the network needs about a second for all.
    shown = re.findall(r"upscale: (\d+)/40 frames, \d+\.\d\d/s, ETA \d+:\d\d", ran.err)
    assert len(set(shown)) >= 2
    assert shown == sorted(shown, key=int)


class TestColour:
    """The matrix and the range that the source says, and the usual where it says nothing."""

    @pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le"])
    def test_there_and_back(self, matrix: int, full: bool, name: str) -> None:
        deep = name.endswith("10le")
        rgb = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        pixels: Pixels = rgb.astype(np.uint16) * np.uint16(257) if deep else rgb
        colour = Colour(matrix, full, 2, 2)
        frame = from_rgb(pixels, name, colour)
        error = np.abs(to_rgb(frame, colour).astype(float) - pixels) / (257 if deep else 1)
        # swscale's own: 1.1 of a level at most with 10 bits, 2 with 8.
        assert error.max() <= (1.5 if deep else 3)

    def test_black_and_white_in_both_ranges(self) -> None:
        ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8).repeat(2, axis=0).repeat(8, axis=1)
        for full, expected in ((False, [16, 235]), (True, [0, 255])):
            luma = from_rgb(ends, "yuv444p", Colour(1, full, 2, 2)).to_ndarray()[0, 0]
            assert [int(luma[0]), int(luma[-1])] == expected

    @pytest.mark.parametrize(("matrix", "luma"), [(1, 63), (6, 82), (9, 74)])
    def test_red_by_each_matrix(self, matrix: int, luma: int) -> None:
        """16 + 219 * Kr, with Kr 0.2126, 0.299 and 0.2627 (ITU-R BT.709, 601, 2020)."""
        red = np.zeros((4, 4, 3), np.uint8)
        red[..., 0] = 255
        assert int(from_rgb(red, "yuv444p", Colour(matrix, False, 2, 2)).to_ndarray()[0, 0, 0]) in (luma - 1, luma)

    @pytest.mark.parametrize("colour", [Colour(1, False, 1, 1), Colour(5, True, 5, 6), Colour(9, False, 9, 14)])
    def test_tags_and_colours_survive(self, upscaler: Upscaler, colour: Colour, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mp4", frames=2, colour=colour, sounds=0)
        upscale_video(upscaler, source, tmp_path / "out.mp4")
        frame = frames_of(tmp_path / "out.mp4")[0]
        assert Colour.of(frame) == colour
        assert frame.color_range == (ColorRange.JPEG if colour.full else ColorRange.MPEG)

    @pytest.mark.parametrize(("height", "expected"), [(360, 6), (720, 1)])
    def test_what_says_nothing_is_read_as_players_do(self, height: int, expected: int) -> None:
        frame = av.VideoFrame(64, height, "yuv420p")
        assert Colour.of(frame) == Colour(expected, False, int(frame.color_primaries), int(frame.color_trc))
        assert int(Colorspace.ITU709) == 1

    def test_ten_bits_stay(self, upscaler: Upscaler, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mp4", frames=2, pixels="yuv420p10le", sounds=0)
        upscale_video(upscaler, source, tmp_path / "out.mp4")
        assert frames_of(tmp_path / "out.mp4")[0].format.name == "yuv420p10le"


class TestErrors:
    """One line, and no file."""

    def test_no_video(self, upscaler: Upscaler, tmp_path: Path) -> None:
        (tmp_path / "in.mp4").write_text("no video")
        with pytest.raises(ImageError, match=r"in\.mp4"):
            upscale_video(upscaler, tmp_path / "in.mp4", tmp_path / "out.mp4")
        with pytest.raises(ImageError, match=r"no container '\.gif'"):
            upscale_video(upscaler, tmp_path / "in.mp4", tmp_path / "out.gif")

    def test_an_unknown_encoder(self, upscaler: Upscaler, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mp4", frames=2)
        with pytest.raises(ImageError, match="nothing"):
            upscale_video(upscaler, source, tmp_path / "out.mp4", VideoOptions(codec="nothing"))
        assert not (tmp_path / "out.mp4").exists()

    def test_overwrite(self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        source = make_video(tmp_path / "in.mp4", frames=2)
        ran = call("upscale", checkpoint_file, source, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["output"] == str(tmp_path / "in_2x.mp4")
        assert ran.json["frames"] == 2
        again = call("upscale", checkpoint_file, source)
        assert again.code == 1
        assert "add --overwrite" in error_line(again)


class TestResume:
    """A run that stops goes on, and ends with the same file."""

    def test_after_an_error_in_the_middle(self, upscaler: Upscaler, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mp4", frames=11)
        options = VideoOptions(part=4)
        upscale_video(upscaler, source, tmp_path / "whole.mp4", options, model="m")

        class Stops(Upscaler):
            seen = 0

            def __call__(self, picture: Any) -> Any:
                self.seen += 1
                if self.seen == 7:
                    raise RuntimeError("stopped")
                return super().__call__(picture)

        with pytest.raises(RuntimeError, match="stopped"):
            upscale_video(Stops(upscaler.runner), source, tmp_path / "out.mp4", options, model="m")
        assert not (tmp_path / "out.mp4").exists()
        result = upscale_video(upscaler, source, tmp_path / "out.mp4", options, model="m")
        assert (result.frames, result.resumed) == (11, 4)
        assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()

    @pytest.mark.parametrize(("model", "overlap"), [("two", "auto"), ("one", 20)])
    def test_parts_of_another_network_or_overlap_are_not_taken(
        self, model: str, overlap: str | int, upscaler: Upscaler, tmp_path: Path
    ) -> None:
        source = make_video(tmp_path / "in.mp4", frames=3, sounds=0)
        options = VideoOptions(part=2)

        class Stops(Upscaler):
            seen = 0

            def __call__(self, picture: Any) -> Any:
                self.seen += 1
                if self.seen == 3:
                    while not list(tmp_path.glob(".out.mp4.*.parts/*.nut")):  # another thread writes it
                        time.sleep(0.01)
                    raise RuntimeError("stopped")
                return super().__call__(picture)

        with pytest.raises(RuntimeError):
            upscale_video(Stops(upscaler.runner), source, tmp_path / "out.mp4", options, model="one")
        (parts,) = tmp_path.glob(".out.mp4.*.parts")
        (parts / "000000.nut").write_bytes(b"of another network")
        another = Upscaler(upscaler.runner, overlap=overlap)
        assert upscale_video(another, source, tmp_path / "out.mp4", options, model=model).resumed == 0
        assert list(tmp_path.glob(".out.mp4.*")) == []

    @pytest.mark.long  # `test_crashes` kills a video in `make test`, too
    def test_a_kill_in_the_middle(self, checkpoint_file: Path, tmp_path: Path) -> None:
        source = make_video(tmp_path / "in.mkv", frames=24, size=(96, 120))
        code = (
            "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
            "from aether_deploy.artifacts.opening import open_runner\n"
            "from aether_deploy.pictures.upscaling import Upscaler\n"
            "from aether_deploy.pictures.video import *\n"
            "print(upscale_video(Upscaler(open_runner(Path(sys.argv[1]))), Path(sys.argv[2]), Path(sys.argv[3]),\n"
            "                    VideoOptions(part=4)).resumed)\n"
        )

        def words(target: Path) -> list[str]:
            return [sys.executable, "-c", code, str(checkpoint_file), str(source), str(target)]

        subprocess.run(words(tmp_path / "whole.mkv"), cwd=ROOT, check=True, capture_output=True)
        target = tmp_path / "out.mkv"
        process = subprocess.Popen(words(target), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob(".out.mkv.*.parts/*.nut"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not target.exists()
        ran = subprocess.run(words(target), cwd=ROOT, check=True, capture_output=True, text=True)
        assert int(ran.stdout) >= 8
        assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
        assert list(tmp_path.glob(".out.mkv*")) == []
