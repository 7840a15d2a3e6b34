"""The pictures that 8-bit ranges are found on, and those on which the loss against ground truth is measured.

None of the former is among the latter, nor among the inputs of the parity check.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aether_deploy.arrays import Array, Shape
from aether_deploy.errors import ConfigError
from aether_deploy.files import sha256_of
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.pictures.sizes import bicubic, centre, fitted, with_channels
from aether_deploy.proof.photos import PARITY_CROP
from aether_deploy.samples import PHOTOS

__all__ = ["Calibration", "GroundTruth", "calibration_inputs", "ground_truths"]

# Of the packaged photos; the loss against ground truth is measured on the others.
_CALIBRATION = ("chelsea", "coffee")
# (height, width) of a calibration picture: as many pixels as a parity case has, in wide strips.
_STRIP = (64, 128)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A photo shrunk, and the photo: `lr` (N, C, H, W) and `hr` (N, C, scale*H, scale*W), float32 in [0, 1]."""

    name: str
    lr: Array
    hr: Array


@dataclass(frozen=True, slots=True)
class Calibration:
    """What ranges are found on: photos as they are, the same changed, and drawn; each (N, C, H, W) float32."""

    photos: list[Array]
    changed: list[Array]
    drawn: list[Array]

    @property
    def images(self) -> list[Array]:
        """All of them."""
        return [*self.photos, *self.changed, *self.drawn]


def calibration_inputs(
    folder: str | os.PathLike[str] | None = None, *, in_chans: int = 3, static: Shape | None = None
) -> Calibration:
    """Photos, the same in other colours and contrasts, noise, and patterns that the parity check does not have.

    Args:
        folder: of photos as the network will see them, low resolution; by default parts of two packaged photos, away
            from the crops that the parity check takes.
        in_chans: C.
        static: the only (N, C, H, W) that a graph takes.
    Raises:
        ImageError: see `list_images` and `read_image`.
    """
    photos = list(_photos(folder))

    def taken(images: Iterable[Array]) -> list[Array]:
        images = [with_channels(image, in_chans) for image in images]
        return [image if static is None else fitted(image, static[0], *static[2:]) for image in images]

    return Calibration(taken(photos), taken(other for photo in photos for other in _augmented(photo)), taken(_drawn()))


def ground_truths(
    images: str | os.PathLike[str] | None,
    calibration: str | os.PathLike[str] | None,
    *,
    scale: int,
    in_chans: int = 3,
    static: Shape | None = None,
) -> list[GroundTruth]:
    """The centre of each photo of the parity check that calibration never saw, and the same shrunk.

    Args:
        images: folder of photos; by default the packaged ones.
        calibration: folder of the photos that calibrate, see `calibration_inputs`.
        scale: of the network.
        in_chans, static: see `calibration_inputs`.
    Raises:
        ConfigError: a photo of one folder is in the other too.
        ImageError: see `list_images` and `read_image`.
    """
    judged = list_images(PHOTOS if images is None else Path(images))
    seen = [] if calibration is None else list_images(Path(calibration))
    hashes = {sha256_of(path): path for path in seen}
    found = []
    for path in judged:
        if (both := hashes.get(sha256_of(path))) is not None:
            raise ConfigError(f"{both} calibrates and {path} judges, and they are one photo; take it out of one folder")
        if calibration is not None or path.parent != PHOTOS or path.stem not in _CALIBRATION:
            found.append(_shrunk(path.stem, read_image(path), scale, in_chans, static))
    return found


def _shrunk(name: str, photo: Array, scale: int, in_chans: int, static: Shape | None) -> GroundTruth:
    n, (height, width) = (1, PARITY_CROP) if static is None else (static[0], static[2:])
    hr = centre(photo, height * scale, width * scale)
    if static is None:
        height, width = max(1, hr.shape[2] // scale), max(1, hr.shape[3] // scale)
    hr = fitted(hr, 1, height * scale, width * scale)
    pair = (with_channels(image, in_chans) for image in (bicubic(hr, width, height), hr))
    lr, hr = (np.repeat(image, n, axis=0) for image in pair)
    return GroundTruth(name, lr, hr)


def _photos(folder: str | os.PathLike[str] | None) -> Iterator[Array]:
    if folder is not None:
        for path in list_images(Path(folder)):
            yield centre(read_image(path), *_STRIP)
        return
    for path in list_images(PHOTOS):
        if path.stem in _CALIBRATION:
            photo = read_image(path)
            top = (photo.shape[2] - PARITY_CROP[0]) // 2
            for strip in (photo[:, :, :top], photo[:, :, top + PARITY_CROP[0] :]):
                yield centre(strip, *_STRIP)


def _augmented(photo: Array) -> Iterator[Array]:
    """A photo in other colours, inverted, and stretched beyond black and white, cut there and not."""
    yield np.ascontiguousarray(photo[:, [1, 2, 0]])
    yield 1 - photo
    wide = photo * np.float32(1.5) - np.float32(0.25)
    yield wide
    yield ((photo - np.float32(0.5)) * 4 + np.float32(0.5)).clip(0, 1)


def _drawn() -> Iterator[Array]:
    rng = np.random.default_rng(1)
    yield rng.random((1, 3, 48, 64), dtype=np.float32)
    # Black and white, and in colour: every small pattern is somewhere in it.
    for channels in (1, 3):
        dots = (rng.random((1, channels, 48, 64)) > 0.5).astype(np.float32)
        yield np.array(np.broadcast_to(dots, (1, 3, 48, 64)))
    c, y, x = np.indices((3, 24, 32))
    for pattern in (y % 2, (y + x + c) % 2, (x // 2 + y // 2) % 2, (x + y) % 3 == 0, y >= 12):
        yield np.asarray(pattern, np.float32)[None]
    for level in (0.25, 0.5, 0.75):
        yield np.full((1, 3, 8, 8), level, np.float32)
    # Where a kernel sees almost nothing but the padding.
    for height, width in ((1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (2, 3), (1, 9), (9, 1)):
        yield rng.random((1, 3, height, width), dtype=np.float32)
