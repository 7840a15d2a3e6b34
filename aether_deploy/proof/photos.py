"""The photos that parity is proved on."""

from __future__ import annotations

import os
from pathlib import Path

from aether_deploy.arrays import Array
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.pictures.sizes import centre
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
    paths = list_images(PHOTOS if folder is None else Path(folder))
    return [(printable(path.stem), centre(read_image(path), *PARITY_CROP)) for path in paths]
