"""Ten thousand pictures and frames: memory stays flat, and no thread is left."""

from __future__ import annotations

import gc
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from aether_deploy.artifacts.opening import open_runner
from aether_deploy.pictures.batch_run import plan_folder, upscale_folder
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.pictures.video import upscale_video
from tests.helpers.networks import save, tiny

pytestmark = pytest.mark.long

COUNT = 10_000
EARLY = 1_000
# Between the two, what a run may gain: names of results, 100 bytes each, and what the allocators keep for themselves.
GAIN = 8 << 20


class Watched(Upscaler):
    """A tiny network that notes the memory of the process, in bytes, at each call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(open_runner(save(tiny(), folder / "2x_Tiny.pth")))
        self.memory: list[int] = []

    def __call__(self, picture: Any) -> Any:
        if len(self.memory) in (EARLY, COUNT - 1):
            gc.collect()
        self.memory.append(psutil.Process().memory_info().rss)
        return super().__call__(picture)

    def gain(self) -> int:
        """Bytes between call `EARLY` and the last."""
        assert len(self.memory) == COUNT
        return self.memory[-1] - self.memory[EARLY]


def test_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    suffixes = (".png", ".jpg", ".tif", ".bmp", ".webp")
    for suffix in suffixes:
        Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(tmp_path / f"x{suffix}")
    for index in range(COUNT):
        suffix = suffixes[index % len(suffixes)]
        (tmp_path / "in" / f"{index:05}{suffix}").hardlink_to(tmp_path / f"x{suffix}")
    threads = threading.active_count()
    upscaler = Watched(tmp_path)
    result = upscale_folder(upscaler, plan_folder(tmp_path / "in", tmp_path / "out"), tmp_path / "out")
    assert (len(result.written), result.failures) == (COUNT, [])
    assert upscaler.gain() < GAIN
    assert threading.active_count() == threads


def test_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(tmp_path / "in.mkv", "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.roll(pixels, index, axis=0), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    threads = threading.active_count()
    upscaler = Watched(tmp_path)
    result = upscale_video(upscaler, tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert (result.frames, result.damaged) == (COUNT, 0)
    assert upscaler.gain() < GAIN
    assert threading.active_count() == threads
