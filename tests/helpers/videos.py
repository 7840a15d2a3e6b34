"""Tiny videos of every container and codec that FFmpeg writes here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from aether_deploy.arrays import Pixels
from aether_deploy.pictures.images import read_picture
from aether_deploy.samples import PHOTOS

__all__ = ["HEALTHY", "encode"]

# (suffix, encoder, options). Those with B-frames and hidden reference frames among them.
HEALTHY: tuple[tuple[str, str, dict[str, str]], ...] = (
    *((suffix, "libx264", {}) for suffix in (".mp4", ".mkv", ".mov", ".ts", ".m2ts", ".avi", ".flv", ".m4v")),
    (".mkv", "libx264", {"bf": "5", "b-pyramid": "normal"}),
    (".mkv", "libx264", {"x264-params": "open-gop=1:keyint=6:bframes=3:log-level=none"}),
    (".mkv", "libx264", {"x264-params": "interlaced=1:log-level=none"}),
    (".mkv", "libx264", {"slices": "3"}),
    *((suffix, "libx265", {"x265-params": "log-level=none"}) for suffix in (".mp4", ".mkv", ".ts")),
    *((suffix, "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}) for suffix in (".webm", ".mkv", ".mp4")),
    (".webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    *((suffix, "mpeg4", {"bf": "2"}) for suffix in (".avi", ".mp4", ".mkv")),
    *((suffix, "mpeg2video", {"bf": "2"}) for suffix in (".mpg", ".ts", ".mkv")),
    (".mpeg", "mpeg1video", {}),
    (".wmv", "wmv2", {}),
    (".flv", "flv1", {}),
    (".avi", "mjpeg", {}),
    (".avi", "rawvideo", {}),
    (".mkv", "ffv1", {}),
    (".y4m", "wrapped_avframe", {}),
)


def encode(
    path: Path,
    encoder: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    frames: int = 10,
    size: tuple[int, int] = (24, 32),
    stamps: list[int] | None = None,
) -> Path:
    """A pan over a photo at 25 frames a second; `stamps` are in frames."""
    photo: Pixels = read_picture(PHOTOS / "coffee.png").pixels
    height, width = size
    rate = Fraction(25)
    with av.open(path, "w", format="yuv4mpegpipe" if path.suffix == ".y4m" else None) as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=options or {})
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for index in range(frames):
            top = index % 100
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(photo[top : top + height, 2 * top : 2 * top + width]), format="rgb24"
            )
            frame.pts, frame.time_base = stamps[index] if stamps else index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
