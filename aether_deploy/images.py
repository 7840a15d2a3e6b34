"""Pictures as the networks see them: float32 NCHW, RGB, in [0, 1]."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aether_deploy.errors import ImageError

__all__ = ["PHOTOS", "bicubic", "list_images", "parity_photos", "read_image", "write_image"]

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]

# Crops of scikit-image's photos; see samples/README.md for their authors and licences.
PHOTOS = Path(__file__).resolve().parent / "samples" / "photos"

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})

# A photo takes part in a parity check as a crop of at most this size: every weight sees real content
# from a few thousand pixels on, and the reference of a large network stays a matter of seconds.
PARITY_CROP = (64, 96)


def list_images(folder: Path) -> list[Path]:
    """The pictures of a folder, by name.

    Raises:
        ImageError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no folder; give one that holds pictures")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ImageError(f"{folder}: no picture in it; expected {', '.join(sorted(SUFFIXES))}")
    return found


def read_image(path: Path) -> Array:
    """A picture as (1, 3, H, W) float32 in [0, 1].

    Raises:
        ImageError: not there, or not a picture.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as a picture ({error}); check the file") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None] / np.float32(255))


def write_image(path: Path, image: Array) -> None:
    """Writes (1, 3, H, W) in [0, 1] as 8 bits a channel, clamped and rounded; the suffix says the format."""
    pixels = np.rint(np.clip(image[0], 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(path)


def bicubic(image: Array, width: int, height: int) -> Array:
    """Resizes (1, 3, H, W) with an antialiased bicubic filter, in 8 bits as a viewer does."""
    pixels = np.rint(np.clip(image[0], 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def parity_photos(folder: Path | None = None) -> list[tuple[str, Array]]:
    """(name, crop) of each picture in a folder, the packaged photos by default."""
    photos = []
    for path in list_images(folder or PHOTOS):
        image = read_image(path)
        height, width = (min(have, most) for have, most in zip(image.shape[2:], PARITY_CROP, strict=True))
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        photos.append((path.stem, np.ascontiguousarray(image[:, :, top : top + height, left : left + width])))
    return photos
