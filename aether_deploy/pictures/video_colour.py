"""Video frames <-> RGB, with the matrix and range that the video declares.

A file that declares nothing is read as players do: BT.709 from 720 lines up, BT.601 below, limited range. The result
always declares its own, since upscaling may have taken it past 720 lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av import Codec, VideoFrame
from av.video.reformatter import ColorRange, Interpolation

from aether_deploy.arrays import Pixels

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


__all__ = ["Colour", "from_rgb", "pixel_format", "to_rgb"]

# ITU-T H.273 matrix coefficients -> swscale's numbers; it has a single one for BT.601.
_SWSCALE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_BT709, _BT601, _UNSPECIFIED, _RGB = 1, 6, 2, 0
_HD_LINES = 720

# Without these, swscale takes the nearest chroma sample and rounds down: errors of up to 3 levels and a colour shift.
_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True, slots=True)
class Colour:
    """How a video's samples are to be read, in the code points of ITU-T H.273.

    Attributes:
        matrix: 1 is BT.709, 5 and 6 are BT.601, 9 is BT.2020.
        full: whether 8-bit luma spans 0 to 255 instead of 16 to 235.
        primaries, transfer: carried over; 2 is unspecified.
    """

    matrix: int
    full: bool
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame) -> Colour:
        """What the frame declares, and the usual values where it declares nothing."""
        matrix = int(frame.colorspace)
        rgb = frame.format.is_rgb
        if rgb or matrix not in _SWSCALE:
            matrix = _BT709 if rgb or frame.height >= _HD_LINES else _BT601
        full = not rgb and (frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj"))
        return cls(matrix, full, int(frame.color_primaries), int(frame.color_trc))

    def tag(self, context: VideoCodecContext) -> None:
        """Sets these values on an encoder."""
        context.colorspace = self.matrix
        context.color_range = ColorRange.JPEG if self.full else ColorRange.MPEG
        context.color_primaries = self.primaries
        context.color_trc = self.transfer


def to_rgb(frame: VideoFrame, colour: Colour) -> Pixels:
    """(H, W, 3) uint8, or uint16 if the frame has more than 8 bits a component."""
    deep = any(component.bits > 8 for component in frame.format.components)
    rgb = frame.format.is_rgb
    converted = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=None if rgb else _SWSCALE[colour.matrix],
        src_color_range=ColorRange.JPEG if rgb or colour.full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
    )
    return np.asarray(converted.to_ndarray(), np.uint16 if deep else np.uint8)


def from_rgb(pixels: Pixels, name: str, colour: Colour) -> VideoFrame:
    """(H, W, 3) uint8 or uint16 -> a frame in the pixel format `name`."""
    source = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source).reformat(
        format=name,
        dst_colorspace=_SWSCALE[colour.matrix],
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG if colour.full else ColorRange.MPEG,
        interpolation=_EXACT,
    )


def pixel_format(frame: VideoFrame, codec: str, scale: int) -> str:
    """The encoder's pixel format nearest the source: its chroma and depth if the encoder offers them, else less."""
    offered = [item.name for item in Codec(codec, "w").video_formats or ()]
    deep = any(component.bits > 8 for component in frame.format.components)
    chroma = next((kind for kind in ("444", "422") if kind in frame.format.name), "420")
    if frame.format.is_rgb:
        chroma = "444"
    # Half-size chroma needs even sides.
    if (frame.width * scale) % 2 or (frame.height * scale) % 2:
        chroma = "444"
    wanted = [f"yuv{chroma}p{'10le' if deep else ''}", f"yuv{chroma}p", "yuv444p", "yuv420p"]
    return next((name for name in wanted if name in offered), "yuv420p")
