"""PSNR and SSIM of 8-bit RGB images against ground truth, computed here and not taken from neosr.

neosr 1.0.0 prints `sum / n + 1`: an SSIM of 1.12 was seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aether_deploy.errors import ImageError
from aether_deploy.images import list_images

__all__ = ["ground_truth", "psnr", "ssim"]

Pixels = NDArray[np.uint8]


def ground_truth(name: str, folder: Path, shape: tuple[int, ...]) -> Pixels:
    """The ground truth of an image, (H, W, 3), cut at the bottom and right to LQ times scale as neosr does.

    Args:
        name: the image's file name without suffix.
        folder: of the ground truth.
        shape: of the output, (H, W, 3).
    Raises:
        ImageError: none of that name, or one that is smaller than the output.
    """
    path = next((path for path in list_images(folder) if path.stem == name), None)
    if path is None:
        raise ImageError(f"{folder}: no ground truth for {name}; expected the same file names as the images")
    with Image.open(path) as image:
        truth: Pixels = np.asarray(image.convert("RGB"))
    if truth.shape[0] < shape[0] or truth.shape[1] < shape[1]:
        have, want = (f"{size[1]}x{size[0]}" for size in (truth.shape, shape))
        raise ImageError(f"{path}: {have}, smaller than the output, {want}; is it of another scale?")
    return truth[: shape[0], : shape[1]]


def psnr(truth: Pixels, image: Pixels) -> float:
    """Peak signal-to-noise ratio over all channels, dB; infinite if both are equal. No border is cut."""
    return float("inf") if np.array_equal(truth, image) else float(peak_signal_noise_ratio(truth, image))


def ssim(truth: Pixels, image: Pixels) -> float:
    """Mean structural similarity over the RGB channels, window 7; NaN below 7 pixels a side."""
    if min(truth.shape[:2]) < 7:
        return float("nan")
    return float(structural_similarity(truth, image, channel_axis=2))
