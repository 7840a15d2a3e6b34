"""PSNR and SSIM of 8-bit RGB images against ground truth, computed here rather than taken from neosr.

neosr 1.0.0 prints `sum / n + 1`: an SSIM of 1.12 has been seen.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d

from aether_deploy import arrays
from aether_deploy.arrays import Pixels, mean_squared_error
from aether_deploy.errors import ImageError
from aether_deploy.pictures.images import list_images

__all__ = ["Pixels", "ground_truth", "psnr", "ssim"]

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def ground_truth(name: str, folder: Path, shape: tuple[int, ...]) -> Pixels:
    """The ground truth of an image, (H, W, 3) uint8, cropped at the bottom and right to the output's size, as in neosr.

    Args:
        name: the image's file name without suffix.
        folder: holds the ground truth.
        shape: of the output, (H, W, 3).
    Raises:
        ImageError: there is none of that name, or it is smaller than the output.
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
    """Peak signal-to-noise ratio in dB over all channels of (H, W, 3) uint8; infinite if equal. Borders are kept."""
    return arrays.psnr(mean_squared_error(truth, image), peak=255)


def ssim(truth: Pixels, image: Pixels) -> float:
    """Mean structural similarity over the RGB channels of (H, W, 3) uint8, at most 1; NaN below 11 pixels a side.

    Source: Wang et al., Image quality assessment, IEEE TIP 13(4), 2004, with its constants and its Gaussian window of
    11 pixels.
    """
    if min(truth.shape[:2]) < SSIM_WINDOW:
        return math.nan
    x, y = (torch.from_numpy(pixels.transpose(2, 0, 1)[:, None].astype(np.float64)) for pixels in (truth, image))
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    bell = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    bell = bell / bell.sum()
    window = (bell[:, None] * bell[None, :])[None, None]

    def mean(values: Tensor) -> Tensor:
        return conv2d(values, window)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean())
