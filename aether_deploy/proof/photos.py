"""The photos that parity is proved on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.samples import PHOTOS
from aether_deploy.text import printable

__all__ = ["parity_photos"]


# A parity check uses a crop of each photo, of at most this (height, width): a few thousand pixels show every weight
# real content, and the reference of a large network takes only seconds.
PARITY_CROP = (64, 96)


def parity_photos(folder: str | os.PathLike[str] | None = None) -> list[tuple[str, Array]]:
    """(name, centre crop) of each picture in a folder, by default the packaged photos.

    Returns:
        crops of (1, 3, H, W) float32 in [0, 1], at most `PARITY_CROP`.
    Raises:
        ImageError: see `list_images` and `read_picture`.
    """
    photos = []
    for path in list_images(PHOTOS if folder is None else Path(folder)):
        image = read_image(path)
        height, width = (min(have, most) for have, most in zip(image.shape[2:], PARITY_CROP, strict=True))
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        photos.append(
            (printable(path.stem), np.ascontiguousarray(image[:, :, top : top + height, left : left + width]))
        )
    return photos
