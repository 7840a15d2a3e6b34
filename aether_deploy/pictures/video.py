"""Runs a video through the network: every frame, with its time stamp and colours kept and the sound unchanged.

Frames are encoded in parts of `PART` frames, each a file of its own that appears only when complete. A killed run
resumes after the last of them, and the result is the same file as without the interruption. At the end the parts and
the sound are joined without re-encoding.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from aether_deploy.errors import ImageError
from aether_deploy.files import replacing
from aether_deploy.pictures.batch_run import Pace, require_no_folder
from aether_deploy.pictures.images import Picture
from aether_deploy.pictures.overlapped import Share, overlapped
from aether_deploy.pictures.parts_folder import parts_folder
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.pictures.video_colour import Colour, pixel_format, to_rgb
from aether_deploy.pictures.video_parts import Encoding, Frame, PartWriter, finished_parts, join
from aether_deploy.pictures.video_survey import Survey, decoded, fraction, survey
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from av.container import InputContainer

    from aether_deploy.pictures.ray_pool import RayPool

__all__ = ["OUTPUTS", "VIDEO_SUFFIXES", "VideoOptions", "VideoResult", "upscale_video"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".y4m"}
)
# Container -> its usual encoder.
OUTPUTS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx-vp9"}

_ENCODER_OPTIONS = {
    # x264's fastest code gives different bits when its memory is aligned differently (1 of 4 runs measured): a
    # resumed run would not end with the same file.
    "libx264": {"x264-params": "cpu-independent=1"},
    # Otherwise its default bit rate limits the quality.
    "libvpx-vp9": {"b": "0"},
}

# Frames in a part: the most that a kill costs, at the price of a key frame at the start of each part.
PART = 120


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How the result is encoded.

    Attributes:
        codec: an encoder of FFmpeg; by default the container's usual one, see `OUTPUTS`.
        crf: its constant rate factor; lower is better and larger.
        keep_going: upscale what can be decoded of a damaged video, instead of refusing it.
        part: frames in a part.
    """

    codec: str | None = None
    crf: int = 16
    keep_going: bool = False
    part: int = PART


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was written.

    Attributes:
        frames: in the result, as many as can be decoded of the source.
        damaged: packets of the source that were damaged, and places where its container was; 0 for a whole video.
        missing: frames that the source declares and does not give, an estimate; 0 for a whole video.
        resumed: how many of the frames came from an earlier run.
        audio, subtitles: streams copied.
        width, height: of the result, in pixels.
        share: how much of the time the network was busy.
        seconds: that this run took.
        duration: of the film, in seconds.
    """

    frames: int
    damaged: int
    missing: int
    resumed: int
    audio: int
    subtitles: int
    width: int
    height: int
    share: Share
    seconds: float
    duration: float

    @property
    def fps(self) -> float:
        """Frames of this run in a second."""
        return (self.frames - self.resumed) / max(self.seconds, 1e-9)


def upscale_video(
    upscaler: Upscaler | RayPool, source: Path, target: Path, options: VideoOptions | None = None, *, model: str = ""
) -> VideoResult:
    """Upscales every frame; copies the sound, chapters, title, and the subtitles that the target's container takes.

    Args:
        upscaler: the network, or workers that have it.
        source: anything that FFmpeg reads; its first video stream.
        target: .mp4, .mkv, .mov or .webm.
        options: of the encoder; None for the defaults.
        model: the network's sha256: parts made by another network are not reused.
    Raises:
        ImageError: a file that cannot be read or written as video, a damaged one, one whose frames change their size,
            a result with a different number of frames, or another run that writes the same target.
    """
    options = options or VideoOptions()
    if target.suffix.lower() not in OUTPUTS:
        raise ImageError(f"{target}: no container {target.suffix!r} for video; expected {', '.join(OUTPUTS)}")
    require_no_folder(target)
    try:
        return _upscale(upscaler, _checked(source, options), source, target, options, model)
    except (av.FFmpegError, ValueError) as error:
        raise ImageError(
            f"{source} -> {target}: {in_one_line(error)}; check the file, or choose .mkv, which holds most codecs"
        ) from error


def _checked(source: Path, options: VideoOptions) -> Survey:
    """What the source holds; a damaged one is refused, or, if the options say so, what was lost is said."""
    found = survey(source)
    if found.whole:
        return found
    if not options.keep_going:
        raise ImageError(
            f"{source} is damaged ({found.losses()}); get a whole copy, "
            f"or give --keep-going to upscale the {found.frames} frames that can be decoded"
        )
    found = survey(source, threads=False)
    logger.warning("%s is damaged (%s); going on with %d frames", source, found.losses(), found.frames)
    return found


def _upscale(
    upscaler: Upscaler | RayPool, found: Survey, source: Path, target: Path, options: VideoOptions, model: str
) -> VideoResult:
    began = time.monotonic()
    encoding = _encoding(found, source, target, options, upscaler.scale)
    identity = {
        "source": [source.name, source.stat().st_size, source.stat().st_mtime_ns],
        **upscaler.identity(model),
        "encoding": str(encoding),
        "part": options.part,
    }
    with parts_folder(target, identity) as folder:
        finished = len(finished_parts(folder))
        if finished:
            logger.warning("resuming after %d parts of %d frames from an earlier run", finished, options.part)
        try:
            share = _write_parts(upscaler, found, PartWriter(folder, encoding, options.part, finished), source)
            with replacing(target) as temporary:
                copied = join(finished_parts(folder), source, temporary, encoding)
                width, height = _verify(temporary, target, source, found.frames)
        except (ImageError, ValueError, av.FFmpegError) as error:
            # FFmpeg refuses these settings, and would again; what may pass, such as a full disk, leaves the parts.
            if not isinstance(error, OSError):
                for part in finished_parts(folder):
                    part.unlink()
            raise
    return VideoResult(
        frames=found.frames,
        damaged=found.damaged,
        missing=found.missing,
        resumed=found.frames - share.items,
        audio=copied["audio"],
        subtitles=copied["subtitle"],
        width=width,
        height=height,
        share=share,
        seconds=time.monotonic() - began,
        duration=found.frames / float(encoding.rate),
    )


def _write_parts(upscaler: Upscaler | RayPool, found: Survey, writer: PartWriter, source: Path) -> Share:
    """Every frame that is not in a part yet."""
    pace = Pace(found.frames, writer.done)

    def sink(frame: Frame) -> None:
        writer.write(frame)
        logger.info("%s", pace.step("frames"))

    try:
        with av.open(source) as container:
            # Threads make of a damaged video now more frames, now fewer.
            container.streams.video[0].thread_type = "AUTO" if found.whole else "NONE"
            frames = _decode(container, writer.encoding, writer.done)
            if isinstance(upscaler, Upscaler):
                share = overlapped(frames, lambda frame: Frame(upscaler(frame.picture), frame.pts), sink)
            else:
                share = _on_workers(upscaler, frames, sink)
        writer.finish_part()
    except KeyboardInterrupt:
        raise pace.stopped(f" frames, of which {writer.kept} are kept") from None
    finally:
        writer.abandon()
    return share


def _on_workers(pool: RayPool, frames: Iterator[Frame], sink: Callable[[Frame], None]) -> Share:
    """Frames travel as pixels and come back in order; this process encodes them, so that the bytes are the same."""
    began, busy, count = time.monotonic(), 0.0, 0
    for done in pool.map("frame", ((None, (frame,)) for frame in frames), ordered=True):
        if done.error:
            raise ImageError(f"frame {count}: {done.error}")
        sink(done.result)
        busy, count = busy + done.seconds, count + 1
    return pool.share(began, busy, count)


def _encoding(found: Survey, source: Path, target: Path, options: VideoOptions, scale: int) -> Encoding:
    """Taken from the first decoded frame, which says more than the container does."""
    codec = options.codec or OUTPUTS[target.suffix.lower()]
    frame = found.first
    with av.open(source) as container:
        stream = container.streams.video[0]
        if stream.time_base is None:
            raise ImageError(f"{source}: its video has no time base; check the file")
        if frame.interlaced_frame:
            logger.warning(
                "%s is interlaced; its lines are not separated first: deinterlace it for a good result", source
            )
        return Encoding(
            colour=Colour.of(frame),
            pixels=pixel_format(frame, codec, scale),
            codec=codec,
            options={"crf": str(options.crf), **_ENCODER_OPTIONS.get(codec, {})},
            time_base=fraction(stream.time_base),
            rate=fraction(stream.average_rate or stream.guessed_rate or Fraction(25)),
            aspect=fraction(stream.sample_aspect_ratio) if stream.sample_aspect_ratio else None,
        )


def _decode(container: InputContainer, encoding: Encoding, skip: int) -> Iterator[Frame]:
    """Upright frames in display order; a missing time stamp is set one frame after the previous one."""
    step = round(1 / (encoding.rate * encoding.time_base))
    last = -step
    for number, frame in enumerate(decoded(container)):
        pts = frame.pts if frame.pts is not None and frame.pts > last else last + max(1, step)
        last = pts
        if number >= skip:
            pixels = np.rot90(to_rgb(frame, encoding.colour), frame.rotation // 90)
            yield Frame(Picture(pixels), pts)


def _verify(written: Path, target: Path, source: Path, expected: int) -> tuple[int, int]:
    """(width, height) of the file on disk, which must have as many frames as the source decodes to."""
    with av.open(written) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = sum(1 for _ in container.decode(stream))
        size = stream.width, stream.height
    if frames != expected:
        raise ImageError(f"{target}: {frames} frames, {source} has {expected}; not kept")
    return size
