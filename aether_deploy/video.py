"""A video through the network: every frame, its time stamps, its colours, and the sound as it was.

Frames are encoded in parts of `PART` frames, each a file of its own that appears whole. A run that was killed goes
on behind the last of them, and the result is the same file as without the interruption. At the end the parts and the
sound are joined without encoding them again.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from aether_deploy.batch_run import Pace
from aether_deploy.errors import ImageError
from aether_deploy.files import replacing
from aether_deploy.images import Picture
from aether_deploy.overlapped import Share, overlapped
from aether_deploy.video_colour import Colour, from_rgb, pixel_format, to_rgb

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.rational import AVRational

    from aether_deploy.upscaling import Upscaler

__all__ = ["OUTPUTS", "VIDEO_SUFFIXES", "VideoOptions", "VideoResult", "upscale_video"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".y4m"}
)
# Container -> its usual encoder.
OUTPUTS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx-vp9"}

_ENCODER_OPTIONS = {
    # x264's fastest code gives other bits for another alignment of its memory (1 of 4 runs measured): a run that
    # went on would not end with the same file.
    "libx264": {"x264-params": "cpu-independent=1"},
    # Else its default bit rate would limit the quality.
    "libvpx-vp9": {"b": "0"},
}

# Frames in a part: what a kill costs at most, against a key frame at the start of each.
PART = 120


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How the result is encoded.

    Attributes:
        codec: an encoder of FFmpeg; the usual one of the container by default.
        crf: its quality; lower is better and larger.
        part: frames in a part.
    """

    codec: str | None = None
    crf: int = 16
    part: int = PART


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was written.

    Attributes:
        frames: in the result, as many as in the source.
        resumed: of those, from a run before.
        audio: streams copied.
        width, height: of the result.
        share: of the time in which the network was busy.
    """

    frames: int
    resumed: int
    audio: int
    width: int
    height: int
    share: Share


@dataclass(frozen=True, slots=True)
class _Frame:
    picture: Picture
    pts: int


@dataclass(frozen=True, slots=True)
class _Format:
    """What every part is encoded with."""

    colour: Colour
    pixels: str
    codec: str
    options: dict[str, str]
    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None


def upscale_video(
    upscaler: Upscaler, source: Path, target: Path, options: VideoOptions | None = None, *, model: str = ""
) -> VideoResult:
    """Upscales every frame and copies the sound.

    Args:
        upscaler: the network.
        source: anything that FFmpeg reads; its first video stream.
        target: .mp4, .mkv, .mov or .webm.
        options: of the encoder.
        model: what identifies the network, its sha256 say: parts of another one are not taken up.
    Raises:
        ImageError: a file that cannot be read or written as video, or a result with another number of frames.
    """
    options = options or VideoOptions()
    if target.suffix.lower() not in OUTPUTS:
        raise ImageError(f"{target}: no container {target.suffix!r} for video; expected {', '.join(OUTPUTS)}")
    try:
        with av.open(source) as container:
            return _upscale(upscaler, container, source, target, options, model)
    except (av.FFmpegError, ValueError) as error:
        raise ImageError(
            f"{source} -> {target}: {error}; check the file, or choose .mkv, which holds nearly every codec"
        ) from error


def _upscale(
    upscaler: Upscaler, container: InputContainer, source: Path, target: Path, options: VideoOptions, model: str
) -> VideoResult:
    if not container.streams.video:
        raise ImageError(f"{source}: no video stream in it; give a video or a picture")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    encoding = _format(source, target, options, upscaler.scale)
    identity = {
        "source": [source.name, source.stat().st_size, source.stat().st_mtime_ns],
        "model": model,
        "scale": upscaler.scale,
        "encoding": str(encoding),
        "part": options.part,
    }
    folder = _parts_folder(target, identity)
    finished = len(_parts(folder))
    skipped = finished * options.part
    if finished:
        logger.warning("going on behind %d parts of %d frames from a run before", finished, options.part)
    pace = Pace(max(0, stream.frames - skipped) or None)
    writer = _PartWriter(folder, encoding, options.part, finished)

    def work(frame: _Frame) -> _Frame:
        return _Frame(upscaler(frame.picture), frame.pts)

    def sink(frame: _Frame) -> None:
        writer.write(frame)
        logger.info("%s", pace.step("frames"))

    try:
        share = overlapped(_decode(container, encoding, skipped), work, sink)
        writer.finish_part()
    finally:
        writer.abandon()
    with replacing(target) as temporary:
        audio = _join(_parts(folder), source, temporary, encoding)
        frames, width, height = _verify(temporary, target, source)
    shutil.rmtree(folder)
    return VideoResult(frames, frames - share.items, audio, width, height, share)


def _format(source: Path, target: Path, options: VideoOptions, scale: int) -> _Format:
    """Read off the first frame, which knows more than the container."""
    codec = options.codec or OUTPUTS[target.suffix.lower()]
    with av.open(source) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream), None)
        if frame is None or stream.time_base is None:
            raise ImageError(f"{source}: no frame could be decoded; check the file")
        if frame.interlaced_frame:
            logger.warning(
                "%s is interlaced; its lines are not separated first: deinterlace it for a good result", source
            )
        return _Format(
            colour=Colour.of(frame),
            pixels=pixel_format(frame, codec, scale),
            codec=codec,
            options={"crf": str(options.crf), **_ENCODER_OPTIONS.get(codec, {})},
            time_base=_fraction(stream.time_base),
            rate=_fraction(stream.average_rate or stream.guessed_rate or Fraction(25)),
            aspect=_fraction(stream.sample_aspect_ratio) if stream.sample_aspect_ratio else None,
        )


def _fraction(value: AVRational | Fraction) -> Fraction:
    return Fraction(value.numerator, value.denominator)


def _decode(container: InputContainer, encoding: _Format, skip: int) -> Iterator[_Frame]:
    """Upright frames in order of display; a missing time stamp is one frame after the last."""
    step = round(1 / (encoding.rate * encoding.time_base))
    last = -step
    for number, frame in enumerate(container.decode(video=0)):
        pts = frame.pts if frame.pts is not None and frame.pts > last else last + max(1, step)
        last = pts
        if number >= skip:
            pixels = np.rot90(to_rgb(frame, encoding.colour), frame.rotation // 90)
            yield _Frame(Picture(pixels), pts)


class _PartWriter:
    """Encodes frames into parts; a part gets its name when it is whole."""

    def __init__(self, folder: Path, encoding: _Format, length: int, number: int) -> None:
        self._folder = folder
        self._encoding = encoding
        self._length = length
        self._number = number
        self._count = 0
        self._container: Any = None
        self._stream: Any = None

    @property
    def _temporary(self) -> Path:
        return self._folder / f"{self._number:06}.tmp"

    def write(self, frame: _Frame) -> None:
        if self._container is None:
            self._open(frame.picture)
        encoded = from_rgb(frame.picture.pixels, self._encoding.pixels, self._encoding.colour)
        encoded.pts, encoded.time_base = frame.pts, self._encoding.time_base
        self._container.mux(self._stream.encode(encoded))
        self._count += 1
        if self._count == self._length:
            self.finish_part()

    def finish_part(self) -> None:
        """Ends the part that is open, if one is."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._temporary.replace(self._folder / f"{self._number:06}.nut")
        self._container = None
        self._number += 1
        self._count = 0

    def abandon(self) -> None:
        """After an error: what is open is no part."""
        if self._container is not None:
            self._container.close()
            self._container = None
            self._temporary.unlink(missing_ok=True)

    def _open(self, picture: Picture) -> None:
        encoding = self._encoding
        height, width, _ = picture.pixels.shape
        # NUT keeps any time base exactly; shifting negative decoding times would shift the frames too.
        options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
        self._container = av.open(self._temporary, "w", format="nut", container_options=options)
        self._stream = self._container.add_stream(encoding.codec, rate=encoding.rate, options=encoding.options)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, encoding.pixels
        context.time_base = encoding.time_base
        if encoding.aspect:
            context.sample_aspect_ratio = encoding.aspect
        encoding.colour.tag(context)


def _parts_folder(target: Path, identity: dict[str, Any]) -> Path:
    """Where the parts of just this run lie: a hash of all that they depend on is in its name."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    folder = target.with_name(f".{target.name}.{digest}.parts")
    try:
        for stale in target.parent.glob(f".{target.name}.*.parts"):
            if stale != folder:
                shutil.rmtree(stale)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{target}: cannot be written ({error.strerror}); choose another --output") from error
    for unfinished in folder.glob("*.tmp"):
        unfinished.unlink()
    return folder


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nut"))


def _join(parts: list[Path], source: Path, target: Path, encoding: _Format) -> int:
    """Video of the parts and sound of the source into one file, in order of decoding; gives the audio streams."""
    if not parts:
        raise ImageError(f"{source}: no frame could be decoded; check the file")
    with av.open(source) as original, av.open(parts[0]) as first:
        options = {"fflags": "+bitexact"}
        with av.open(target, "w", container_options=options) as result:
            video = result.add_stream_from_template(first.streams.video[0])
            # NUT tells neither: a reader guesses them from the packets.
            video.codec_context.framerate, video.time_base = encoding.rate, encoding.time_base
            sounds = {stream.index: result.add_stream_from_template(stream) for stream in original.streams.audio}

            def of_video() -> Iterator[tuple[float, int, Packet[Any]]]:
                packets = (packet for part in parts for packet in _packets(part))
                for packet, dts in zip(packets, _decoding_times(parts), strict=True):
                    packet.dts, packet.stream = dts, video
                    yield _time(packet), 0, packet

            def of_audio() -> Iterator[tuple[float, int, Packet[Any]]]:
                for packet in original.demux(list(original.streams.audio)):
                    if packet.size:
                        index = packet.stream.index
                        packet.stream = sounds[index]
                        yield _time(packet), 1 + index, packet

            streams = (of_video(), of_audio()) if sounds else (of_video(),)
            for _, _, packet in heapq.merge(*streams, key=lambda item: item[:2]):
                result.mux_one(packet)
            return len(sounds)


def _packets(part: Path) -> Iterator[Packet[Any]]:
    with av.open(part) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


def _decoding_times(parts: list[Path]) -> list[int]:
    """One for each packet, rising and never above its presentation time: those of NUT leave out the first ones.

    They are the presentation times in order, moved back by as many frames as the encoder reorders.
    """
    shown = [packet.pts or 0 for part in parts for packet in _packets(part)]
    ordered = sorted(shown)
    step = max(1, ordered[1] - ordered[0]) if len(ordered) > 1 else 1
    delay = 0
    for index, pts in enumerate(shown):
        while index - delay >= 0 and ordered[index - delay] > pts:
            delay += 1
    before = [ordered[0] - step * back for back in range(delay, 0, -1)]
    return (before + ordered)[: len(shown)]


def _time(packet: Packet[Any]) -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return float((stamp or 0) * (packet.time_base or 0))


def _verify(written: Path, target: Path, source: Path) -> tuple[int, int, int]:
    """(frames, width, height) of the file on disk; as many frames as the source decodes to."""
    counts = []
    for path in (source, written):
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            counts.append(sum(1 for _ in container.decode(stream)))
            size = stream.width, stream.height
    if counts[0] != counts[1]:
        raise ImageError(f"{target}: {counts[1]} frames, {source} has {counts[0]}; not kept")
    return counts[1], *size
