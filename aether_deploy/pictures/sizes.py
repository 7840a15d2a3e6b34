"""Pictures in another size or number of channels: resized, or mirrored and cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aether_deploy.arrays import Array, quantize

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

__all__ = ["bicubic", "centre", "fitted", "run_fitted", "with_channels"]


def bicubic(image: Array, width: int, height: int) -> Array:
    """Resizes (1, 3, H, W) in [0, 1] with an antialiased bicubic filter, in 8 bits as viewers do."""
    pixels = quantize(image[0], 8).transpose(1, 2, 0)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def centre(image: Array, height: int, width: int) -> Array:
    """The centre of (N, C, H, W), at most of this size, contiguous."""
    height, width = min(height, image.shape[2]), min(width, image.shape[3])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return np.ascontiguousarray(image[:, :, top : top + height, left : left + width])


def fitted(lr: Array, n: int, height: int, width: int) -> Array:
    """(1, C, H, W) -> (n, C, height, width): cropped, or mirrored as often as needed, and repeated n times."""
    rows, columns = max(0, height - lr.shape[2]), max(0, width - lr.shape[3])
    mirrored = np.pad(lr, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")
    return np.array(np.broadcast_to(mirrored[:, :, :height, :width], (n, lr.shape[1], height, width)))


def run_fitted(runner: Runner, lr: Array) -> Array:
    """`Runner.run` for any size: mirrored at the right and the bottom up to one that is taken, then cropped."""
    height, width = lr.shape[2:]
    size = (height, width) if runner.spec is None else runner.spec.sizes.fit(height, width)
    if size == (height, width):
        return runner.run(lr)
    mirrored = np.pad(lr, ((0, 0), (0, 0), (0, size[0] - height), (0, size[1] - width)), mode="symmetric")
    return runner.run(mirrored)[:, :, : height * runner.scale, : width * runner.scale]


def with_channels(image: Array, channels: int) -> Array:
    """(N, 3, H, W) -> (N, channels, H, W): their mean for one channel, else the colours, repeated in order."""
    if image.shape[1] == channels:
        return image
    if channels == 1:
        return np.ascontiguousarray(image.mean(axis=1, keepdims=True, dtype=np.float32))
    return np.ascontiguousarray(image[:, [channel % image.shape[1] for channel in range(channels)]])
