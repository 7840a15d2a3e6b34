"""One pass over a video before any frame goes through a network: how many frames it has, and whether it is whole.

FFmpeg decodes damaged files as players want it: it leaves out what it cannot read, and says nothing. What counts as
damage here is certain. A gap between time stamps is not: recordings of screens and variable frame rates have them too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.logging

from aether_deploy.errors import ImageError
from aether_deploy.pictures.deep_images import check_size
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.rational import AVRational

__all__ = ["Survey", "decoded", "fraction", "survey"]

logger = logging.getLogger(__name__)
# Decoders talk from threads of their own, past any capture; without a handler Python prints that on stderr.
logging.getLogger("libav").addHandler(logging.NullHandler())

# A file that ends before its declared end by more than both, and by more than its longest step, is cut: healthy ones
# of 20 kinds differ by a frame or two.
_CUT_SECONDS, _CUT_SHARE = Fraction(1, 5), Fraction(1, 50)
# Packets that gave no frame and say nothing: those at the start of a recording whose references were before it.
_FEW = 8
# Its packets hold hidden frames by design.
_HIDING = ("vp8",)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a video holds.

    Attributes:
        first: the first frame, which says more about the format than the container does.
        frames: that can be decoded.
        damaged: packets that were damaged, left out or could not be decoded, and places where the container was.
        missing: frames that the file declares and does not give, an estimate; 0 for a whole file.
        cut: (seconds, declared seconds) of a file that ends too early; None for others.
    """

    first: VideoFrame
    frames: int
    damaged: int
    missing: int
    cut: tuple[float, float] | None

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be lost."""
        return not self.damaged and self.cut is None

    def losses(self) -> str:
        """What was lost, for a message."""
        said = [f"{self.damaged} damaged packet{'s' if self.damaged > 1 else ''}"] if self.damaged else []
        if self.cut:
            said.append("it ends after {:.1f} of {:.1f} s".format(*self.cut))
        if self.missing:
            said.append(f"about {self.missing} of {self.frames + self.missing} frames are missing")
        return ", ".join(said)


def survey(source: Path, *, threads: bool = True) -> Survey:
    """Decodes a whole video.

    Args:
        source: anything that FFmpeg reads; its first video stream counts.
        threads: decode with all cores; without, a damaged file decodes to the same frames every time.
    Raises:
        ImageError: no video stream, no decoder for it, no frame, or frames of more than one size.
        av.FFmpegError: the file cannot be opened.
    """
    with _errors() as said, av.open(source) as container:
        if not container.streams.video:
            raise ImageError(f"{source}: no video stream in it; give a video or a picture")
        stream: Any = container.streams.video[0]
        if stream.codec_context is None:
            raise ImageError(f"{source}: there is no decoder for its video; convert it first")
        count = _Count(source, container)
        stream.thread_type = "AUTO" if threads else "NONE"
        on_opening = _of(container, said)
        try:
            for packet in _demuxed(container, count.lost):
                count.add_packet(packet)
                if packet is None or packet.stream is stream:
                    for frame in _frames(stream, packet, count.undecodable):
                        count.add_frame(frame)
                count.damaged += _of(container, said)
        finally:
            # Waits for the decoder's threads: one that logs needs Python's lock, which freeing the decoder holds.
            stream.codec_context.flush_buffers()
        return count.result(on_opening)


def decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """The frames of the first video stream in display order; what cannot be decoded is left out."""
    stream = container.streams.video[0]
    for packet in _demuxed(container, lambda: None, stream.index):
        yield from _frames(stream, packet, lambda: None)


def fraction(value: AVRational | Fraction) -> Fraction:
    """FFmpeg's rational number as Python's."""
    return Fraction(value.numerator, value.denominator)


class _Count:
    """Counts packets and frames, and compares them with what the file declares."""

    def __init__(self, source: Path, container: InputContainer) -> None:
        self.damaged = 0
        self._source = source
        self._stream = container.streams.video[0]
        self._declared = Fraction(container.duration or 0, av.time_base)
        self._first: VideoFrame | None = None
        self._frames = self._packets = 0
        self._began = self._interlaced = False
        self._end = self._shown = self._step = Fraction(0)

    def add_packet(self, packet: Packet[Any] | None) -> None:
        """One of any stream: each may be the longest."""
        if packet is None or not packet.size:
            return
        if packet.stream is self._stream:
            self._began = self._began or packet.is_keyframe
            self._packets += self._began and not packet.is_discard
            self.damaged += packet.is_corrupt
        if packet.pts is not None and packet.time_base:
            self._end = max(self._end, (packet.pts + (packet.duration or 0)) * fraction(packet.time_base))

    def lost(self) -> None:
        """Something could not be read."""
        self.damaged += 1

    def undecodable(self) -> None:
        """A packet could not be decoded; before the first key frame none can, as in a recording of a broadcast."""
        self.damaged += self._began

    def add_frame(self, frame: VideoFrame) -> None:
        """Raises ImageError for a frame of another size than the first, or of too many pixels."""
        if self._first is None:
            check_size(self._source, frame.width, frame.height)
        first = self._first = self._first or frame
        if (frame.width, frame.height) != (first.width, first.height):
            raise ImageError(
                f"{self._source}: frame {self._frames} is {frame.width}x{frame.height}, those before it are "
                f"{first.width}x{first.height}; cut the video there and upscale each piece"
            )
        self._frames += 1
        self.damaged += bool(frame.is_corrupt)
        self._interlaced = self._interlaced or bool(frame.interlaced_frame)
        if frame.pts is not None and frame.time_base:
            shown = frame.pts * fraction(frame.time_base)
            self._step, self._shown = max(self._step, shown - self._shown if self._frames > 1 else self._step), shown
        logger.info("checked %d frames", self._frames)

    def result(self, on_opening: int) -> Survey:
        """What was found, given the messages on opening, which count only if frames are missing too."""
        if self._first is None:
            raise ImageError(f"{self._source}: no frame could be decoded; check the file")
        rate = fraction(self._stream.average_rate or Fraction(0))
        missing = max(0, (self._stream.frames or round(self._declared * rate)) - self._frames)
        damaged = self.damaged + (on_opening if missing else 0)
        silent = self._packets - self._frames
        # The two fields of an interlaced frame may come in two packets.
        hiding = self._interlaced or self._stream.codec_context.name in _HIDING
        if not hiding and silent > max(_FEW, self._packets // 10):
            damaged = max(damaged, silent)
        early = self._declared - self._end
        cut = early > max(_CUT_SECONDS, _CUT_SHARE * self._declared, self._step) and self._end > 0
        return Survey(
            first=self._first,
            frames=self._frames,
            damaged=damaged,
            missing=missing if damaged or cut else 0,
            cut=(float(self._end), float(self._declared)) if cut else None,
        )


def _demuxed(container: InputContainer, lost: Callable[[], None], *streams: int) -> Iterator[Packet[Any] | None]:
    """Packets up to the end, or up to where the container cannot be read; then None, which empties the decoder."""
    try:
        yield from container.demux(*streams)
    except av.FFmpegError as error:
        logger.debug("the container ends early: %s", in_one_line(error))
        lost()
        yield None


def _frames(stream: Any, packet: Packet[Any] | None, lost: Callable[[], None]) -> Iterator[VideoFrame]:
    try:
        yield from stream.decode(packet)
    except av.EOFError:
        return
    except av.FFmpegError as error:
        logger.debug("a packet cannot be decoded: %s", in_one_line(error))
        lost()


def _of(container: InputContainer, said: list[Any]) -> int:
    """How many of the messages are the container's own; empties the list."""
    count: int = sum(name == container.format.name for _, name, _ in said)
    said.clear()
    return count


@contextlib.contextmanager
def _errors() -> Iterator[list[Any]]:
    """FFmpeg's error messages of this thread, (level, who, what): demuxers have no other way to say what they skip."""
    level, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Otherwise a message equal to the last one, of a file before this, is left out.
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)
