"""Pictures of a comparison: the crop with the largest difference, in each form, and the amplified difference."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from aether_deploy.arrays import Array, finite, quantize
from aether_deploy.pictures.sizes import bicubic
from aether_deploy.proof.cases import Case
from aether_deploy.proof.figures import Figures, figures_of

__all__ = ["Photo", "amplification", "data_uri", "difference_uri", "photo_of"]

# The largest crop shown, (height, width): a whole parity photo at x4, four of which are about 1 MB of lossless WebP.
SHOWN = (256, 384)
# The largest amplification: float32 values near 1 have no steps finer than 1/this.
_MOST = 10_000_000


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo in each form; arrays are (3, H, W) float32 crops of the same place, unclamped.

    Attributes:
        case: name and shape of the input.
        bicubic: the input resized without a network.
        expected: the reference's output; None without a reference.
        actual: the model's output.
        figures: of the whole outputs: `actual` against `expected`, or against `bicubic` without a reference.
    """

    case: str
    bicubic: Array
    expected: Array | None
    actual: Array
    figures: Figures

    @property
    def difference(self) -> Array:
        """(3, H, W) absolute difference; NaN where either is NaN."""
        difference: Array = np.abs(self.actual - (self.bicubic if self.expected is None else self.expected))
        return difference

    def as_dict(self) -> dict[str, Any]:
        """A dict of the figures for JSON; None where one is not finite."""
        figures: dict[str, Any] = finite(dataclasses.asdict(self.figures))
        return {"case": self.case, "against": "bicubic" if self.expected is None else "the reference", **figures}


def photo_of(case: Case, expected: Array | None, actual: Array) -> Photo:
    """Crops the first picture of a case's outputs around their largest difference.

    Args:
        case: of 3 channels.
        expected, actual: (N, 3, H, W), the same shape.
    """
    height, width = actual.shape[2:]
    plain = bicubic(case.lr[:1], width, height)
    baseline = np.broadcast_to(plain, actual.shape) if expected is None else expected
    rows, columns = _around_the_worst(np.abs(actual[0] - baseline[0]))

    def crop(image: Array) -> Array:
        return np.asarray(image[0, :, rows, columns], np.float32)

    reference = None if expected is None else crop(expected)
    return Photo(str(case), crop(plain), reference, crop(actual), figures_of(baseline, actual))


def amplification(photos: Sequence[Photo]) -> int:
    """The factor for all differences: the largest of 1, 2, 5, 10, 20 ... that takes none of them beyond white."""
    largest = max((float(np.nan_to_num(photo.difference).max()) for photo in photos), default=1.0)
    factor = 1
    for step in (m * 10**e for e in range(8) for m in (1, 2, 5)):
        if step * largest <= 1 and step <= _MOST:
            factor = step
    return factor


def data_uri(image: Array) -> str:
    """(3, H, W) in [0, 1] -> a lossless WebP as a data: URI, to embed in the page."""
    buffer = io.BytesIO()
    Image.fromarray(quantize(image, 8).transpose(1, 2, 0)).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def difference_uri(photo: Photo, factor: int) -> str:
    """The data: URI of the difference times a factor, on black; values that are not finite are white."""
    return data_uri(np.nan_to_num(photo.difference * np.float32(factor), nan=1.0, posinf=1.0))


def _around_the_worst(difference: Array) -> tuple[slice, slice]:
    """Rows and columns of a crop of at most `SHOWN`, with the largest difference as near its middle as possible."""
    peak = np.nan_to_num(difference, nan=np.inf).max(axis=0)
    places = np.unravel_index(int(peak.argmax()), peak.shape)
    found = []
    for place, size, most in zip(places, peak.shape, SHOWN, strict=True):
        start = max(0, min(int(place) - most // 2, size - most))
        found.append(slice(start, min(size, start + most)))
    return found[0], found[1]
