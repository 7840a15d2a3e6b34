"""One call for whatever there is to upscale: a picture, a folder, a video, or pixels in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

import numpy as np
from PIL import Image

from aether_deploy.arrays import Pixels
from aether_deploy.errors import ImageError
from aether_deploy.files import require_free
from aether_deploy.pictures.batch_run import FolderResult, Job, plan_folder, upscale_folder, upscale_picture
from aether_deploy.pictures.images import SUFFIXES, Picture
from aether_deploy.pictures.upscaling import Upscaler

if TYPE_CHECKING:
    from aether_deploy.pictures.ray_pool import RayPool
    from aether_deploy.pictures.video import VideoResult
    from aether_deploy.runners.protocol import Runner

__all__ = ["How", "Upscaled", "require_many", "upscale", "upscale_path"]


@dataclass(frozen=True, slots=True)
class Upscaled:
    """The outcome of upscaling a file or folder.

    Attributes:
        output: the file or folder that was written.
        size: (width, height) of a picture or video, in output pixels; None for a folder.
        folder: what was written, skipped and failed; None unless it is a folder.
        video: its frames and streams; None unless it is a video.
    """

    output: Path
    size: tuple[int, int] | None = None
    folder: FolderResult | None = None
    video: VideoResult | None = None


class How(TypedDict, total=False):
    """The options of `upscale`.

    Attributes:
        tile: the largest side of a tile, in input pixels; chosen from the available memory by default.
        overlap: `auto`, `exact`, or input pixels; see `Upscaler`.
        batch: tiles in one run; 1 by default.
        overwrite: replace existing results.
        keep_going: upscale what can be decoded of a damaged video, instead of refusing it.
    """

    tile: int | None
    overlap: str | int
    batch: int
    overwrite: bool
    keep_going: bool


@overload
def upscale(model: Runner, source: Image.Image, **how: Unpack[How]) -> Image.Image: ...
@overload
def upscale(model: Runner, source: Pixels, **how: Unpack[How]) -> Pixels: ...
@overload
def upscale(
    model: Runner, source: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, **how: Unpack[How]
) -> Upscaled: ...
def upscale(
    model: Runner,
    source: Image.Image | Pixels | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    **how: Unpack[How],
) -> Image.Image | Pixels | Upscaled:
    """Upscales a picture, a folder of pictures, a video, a PIL image or an array, of any size.

    Args:
        model: from `open_runner`, of 3 channels.
        source: a path; a PIL image of mode L, LA, RGB or RGBA; or (H, W) or (H, W, C) uint8 or uint16, where C is 1
            (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        output: for a path, the file or folder to write, its format by its suffix; by default beside the source, with
            the scale in its name.
        how: see `How`.
    Returns:
        for a path, what was written; else the same kind as given, `scale` times as large, clamped and rounded.
    Raises:
        ImageError: a picture or video that cannot be read or written.
        OutOfMemoryError: not even the smallest tile fits.
        RunnerError: the network does not have 3 channels.
    """
    upscaler = Upscaler(model, tile=how.get("tile"), overlap=how.get("overlap", "auto"), batch=how.get("batch", 1))
    if isinstance(source, Image.Image):
        if source.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ImageError(f"a PIL image of mode {source.mode}; expected L, LA, RGB or RGBA: convert it first")
        return Image.fromarray(_pixels(upscaler, np.asarray(source)))
    if isinstance(source, np.ndarray):
        return _pixels(upscaler, source)
    target = None if output is None else Path(output)
    return upscale_path(
        upscaler,
        Path(source),
        target,
        overwrite=how.get("overwrite", False),
        keep_going=how.get("keep_going", False),
    )


def _pixels(upscaler: Upscaler, pixels: Pixels) -> Pixels:
    """(H, W) or (H, W, C) -> the same, `scale` times as large."""
    shaped = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels.dtype not in (np.uint8, np.uint16) or shaped.ndim != 3 or not 1 <= shaped.shape[2] <= 4:
        raise ImageError(
            f"an array of shape {pixels.shape} and {pixels.dtype}; expected (H, W) or (H, W, 1 to 4) of uint8 or uint16"
        )
    result = upscaler(Picture(shaped)).pixels
    return result if pixels.ndim == 3 else result[:, :, 0]


def upscale_path(
    upscaler: Upscaler | RayPool,
    source: Path,
    output: Path | None = None,
    *,
    model: str = "",
    suffix: str | None = None,
    codec: str | None = None,
    crf: int = 16,
    overwrite: bool = False,
    keep_going: bool = False,
) -> Upscaled:
    """Upscales a picture, a folder of pictures, or a video.

    Args:
        upscaler: the network, or workers that have it, for a folder or a video.
        source: to read.
        output: to write; by default beside the source, with the scale in its name.
        model: the network's sha256: a folder or video that another network began is not resumed.
        suffix: of a folder's results, such as `.png`; by default each picture keeps its own.
        codec, crf: of a video, see `VideoOptions`.
        overwrite: replace existing results.
        keep_going: of a damaged video, see `VideoOptions`.
    Raises:
        AetherDeployError: the target exists already, or is the source.
        ImageError, OutOfMemoryError: see `upscale`.
    """
    scale = upscaler.scale
    if source.is_dir():
        target = output or source.with_name(f"{source.resolve().name}_{scale}x")
        found = upscale_folder(upscaler, plan_folder(source, target, suffix), target, model=model, overwrite=overwrite)
        return Upscaled(target, folder=found)
    if _is_video(source):
        from aether_deploy.pictures.video import OUTPUTS, VideoOptions, upscale_video

        kept = source.suffix.lower() if source.suffix.lower() in OUTPUTS else ".mkv"
        target = output or source.with_name(f"{source.stem}_{scale}x{kept}")
        require_free(target, [source], overwrite=overwrite)
        result = upscale_video(upscaler, source, target, VideoOptions(codec, crf, keep_going), model=model)
        return Upscaled(target, (result.width, result.height), video=result)
    if not isinstance(upscaler, Upscaler):
        raise ImageError(_for_many(source))
    target = output or source.with_name(f"{source.stem}_{scale}x.png")
    target = target / f"{source.stem}.png" if target.is_dir() else target
    require_free(target, [source], overwrite=overwrite)
    height, width, _ = upscale_picture(upscaler, Job(source, target)).pixels.shape
    return Upscaled(target, (width, height))


def require_many(source: Path) -> None:
    """Raises ImageError for a picture, which one worker does alone."""
    if source.is_file() and not _is_video(source):
        raise ImageError(_for_many(source))


def _for_many(source: Path) -> str:
    return f"{source}: several workers are for a folder or a video; leave --on, --workers and --devices out"


def _is_video(source: Path) -> bool:
    if source.suffix.lower() in SUFFIXES or not source.is_file():
        return False
    from aether_deploy.pictures.video import VIDEO_SUFFIXES

    return source.suffix.lower() in VIDEO_SUFFIXES
