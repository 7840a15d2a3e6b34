"""The parts of a video: encoded one by one, each named only when complete, and joined without re-encoding."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from aether_deploy.errors import ImageError
from aether_deploy.pictures.video_colour import Colour, from_rgb

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

    from aether_deploy.pictures.images import Picture

__all__ = ["Encoding", "Frame", "PartWriter", "finished_parts", "join"]

logger = logging.getLogger(__name__)

# Subtitle formats that each container takes unchanged.
_SUBTITLES = {".mkv": ("srt", "ass"), ".mp4": ("mov_text",), ".mov": ("mov_text",)}


@dataclass(frozen=True, slots=True)
class Frame:
    """An upright frame and its time stamp, in units of `Encoding.time_base`."""

    picture: Picture
    pts: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """The settings that every part is encoded with."""

    colour: Colour
    pixels: str
    codec: str
    options: dict[str, str]
    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None


class PartWriter:
    """Encodes frames into parts; a part gets its name when it is complete.

    Args:
        folder: where the parts go.
        encoding: of each part.
        length: frames in a part.
        number: of the first part to write, from 0; earlier ones exist already.

    Attributes:
        encoding: of each part.
        done: frames in the parts that exist at the start.
    """

    def __init__(self, folder: Path, encoding: Encoding, length: int, number: int) -> None:
        self._folder = folder
        self.encoding = encoding
        self.done = number * length
        self._length = length
        self._number = number
        self._count = 0
        self._container: Any = None
        self._stream: Any = None

    @property
    def kept(self) -> int:
        """Frames in the parts that are whole by now."""
        return self._number * self._length

    @property
    def _temporary(self) -> Path:
        return self._folder / f"{self._number:06}.tmp"

    def write(self, frame: Frame) -> None:
        """Appends a frame; closes the part after its last frame."""
        if self._container is None:
            self._open(frame.picture)
        encoded = from_rgb(frame.picture.pixels, self.encoding.pixels, self.encoding.colour)
        encoded.pts, encoded.time_base = frame.pts, self.encoding.time_base
        self._container.mux(self._stream.encode(encoded))
        self._count += 1
        if self._count == self._length:
            self.finish_part()

    def finish_part(self) -> None:
        """Closes the open part, if any, and gives it its name."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._temporary.replace(self._folder / f"{self._number:06}.nut")
        self._container = None
        self._number += 1
        self._count = 0

    def abandon(self) -> None:
        """Discards the open part, after an error."""
        if self._container is not None:
            self._container.close()
            self._container = None
            self._temporary.unlink(missing_ok=True)

    def _open(self, picture: Picture) -> None:
        encoding = self.encoding
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


def finished_parts(folder: Path) -> list[Path]:
    """The complete parts, in order; an unfinished one still has its temporary name."""
    return sorted(folder.glob("*.nut"))


def join(parts: list[Path], source: Path, target: Path, encoding: Encoding) -> Counter[str]:
    """Joins the parts with the sound, subtitles, chapters and title of the source into one file, in decoding order.

    Returns:
        how many streams of each type, `audio` or `subtitle`, were copied.
    Raises:
        ImageError: there are no parts.
    """
    if not parts:
        raise ImageError(f"{source}: no frame could be decoded; check the file")
    with av.open(source) as original, av.open(parts[0]) as first:
        options = {"fflags": "+bitexact"}
        with av.open(target, "w", container_options=options) as result:
            video = result.add_stream_from_template(first.streams.video[0])
            # On reading NUT back, these two are only guessed from the packets.
            video.codec_context.framerate, video.time_base = encoding.rate, encoding.time_base
            copies = _copies(original, result, target.suffix.lower())
            result.set_chapters(original.chapters())

            def of_video() -> Iterator[tuple[float, int, Packet[Any]]]:
                packets = (packet for part in parts for packet in _packets(part))
                for packet, dts in zip(packets, _decoding_times(parts), strict=True):
                    packet.dts, packet.stream = dts, video
                    yield _time(packet), 0, packet

            def of_source() -> Iterator[tuple[float, int, Packet[Any]]]:
                for packet in original.demux([original.streams[index] for index in copies]):
                    if packet.size:
                        index = packet.stream.index
                        packet.stream = copies[index]
                        yield _time(packet), 1 + index, packet

            streams = (of_video(), of_source()) if copies else (of_video(),)
            for _, _, packet in heapq.merge(*streams, key=lambda item: item[:2]):
                result.mux_one(packet)
            return Counter(stream.type for stream in copies.values())


def _copies(original: InputContainer, result: OutputContainer, suffix: str) -> dict[int, Any]:
    """Stream index in the source -> its stream in the result, with its language and title."""
    copies = {}
    for stream in (*original.streams.audio, *original.streams.subtitles):
        # FFmpeg has no decoder for some streams.
        kind = stream.codec_context.name if stream.codec_context else "unknown"
        if stream.type == "subtitle" and kind not in _SUBTITLES.get(suffix, ()):
            logger.warning("%s subtitles are not copied into %s; a result like the source may take them", kind, suffix)
            continue
        copies[stream.index] = result.add_stream_from_template(stream)
        copies[stream.index].metadata.update(_texts(stream.metadata, "language"))
    result.metadata.update(_texts(original.metadata))
    return copies


def _texts(metadata: dict[str, str], *more: str) -> dict[str, str]:
    """The metadata about the content; the rest describes the source file."""
    wanted = {"title", "artist", "comment", "copyright", "date", "description", *more}
    return {key: text for key, text in metadata.items() if key.lower() in wanted}


def _packets(part: Path) -> Iterator[Packet[Any]]:
    with av.open(part) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


def _decoding_times(parts: list[Path]) -> list[int]:
    """A decoding time for each packet, ascending and never after its presentation time; NUT lacks the first ones.

    They are the presentation times in ascending order, shifted by as many frames as the encoder reorders.
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
