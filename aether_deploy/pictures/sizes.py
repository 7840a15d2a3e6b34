"""A picture in another size: resized, or mirrored and cropped."""

from __future__ import annotations

import numpy as np
from PIL import Image

from aether_deploy.arrays import Array
from aether_deploy.pictures.images import quantize

__all__ = ["bicubic", "fitted"]


def bicubic(image: Array, width: int, height: int) -> Array:
    """Resizes (1, 3, H, W) with an antialiased bicubic filter, in 8 bits as a viewer does."""
    pixels = quantize(image[0], 8).transpose(1, 2, 0)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def fitted(lr: Array, n: int, height: int, width: int) -> Array:
    """(1, C, H, W) -> (n, C, height, width): cropped, mirrored as often as it takes, repeated."""
    rows, columns = max(0, height - lr.shape[2]), max(0, width - lr.shape[3])
    mirrored = np.pad(lr, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")
    return np.ascontiguousarray(np.broadcast_to(mirrored[:, :, :height, :width], (n, lr.shape[1], height, width)))
