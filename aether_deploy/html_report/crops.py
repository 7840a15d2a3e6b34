"""Pictures of a comparison: a photo in each form, cut where it has the most detail, and a map of the differences."""

from __future__ import annotations

import base64
import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from aether_deploy.arrays import Array, finite, quantize
from aether_deploy.pictures.sizes import bicubic
from aether_deploy.proof.cases import Case
from aether_deploy.proof.figures import Figures, figures_of

__all__ = ["Photo", "data_uri", "detail", "heat_uri", "photo_of", "scale_uri"]

# The largest part shown, (height, width): a page of 55 rem, and a few of them are some megabytes.
SHOWN = (640, 896)
# Colours of the map, dark to bright, evenly spaced to the eye (Matplotlib's inferno at 0.15, 0.4, 0.65, 0.9, 1.0).
_STEPS = np.array([(46, 10, 90), (147, 38, 103), (226, 89, 51), (250, 193, 39), (252, 255, 164)], np.float32)
# How bright the photo is behind the map.
_BEHIND = 0.45


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo in each form; arrays are (3, H, W) float32 of the same part, unclamped.

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
        """(H, W) largest absolute difference of a pixel's colours, in output units; NaN where either is NaN."""
        other = self.bicubic if self.expected is None else self.expected
        difference: Array = np.abs(self.actual - other).max(axis=0)
        return difference

    def as_dict(self) -> dict[str, Any]:
        """A dict of the figures for JSON; None where one is not finite."""
        figures: dict[str, Any] = finite(dataclasses.asdict(self.figures))
        return {"case": self.case, "against": "bicubic" if self.expected is None else "the reference", **figures}


def photo_of(case: Case, expected: Array | None, actual: Array) -> Photo:
    """The first picture of a case's outputs, or its part of at most `SHOWN` with the most detail.

    Args:
        case: of 3 channels.
        expected, actual: (N, 3, H, W), the same shape.
    """
    height, width = actual.shape[2:]
    plain = bicubic(case.lr[:1], width, height)
    baseline = np.broadcast_to(plain, actual.shape) if expected is None else expected
    rows, columns = _most_detail(plain[0])

    def crop(image: Array) -> Array:
        return np.asarray(image[0, :, rows, columns], np.float32)

    reference = None if expected is None else crop(expected)
    return Photo(str(case), crop(plain), reference, crop(actual), figures_of(baseline, actual))


def detail(image: Array) -> Array:
    """(C, H, W) -> (H, W), how much each pixel differs from its neighbours below and to the right."""
    grey: Array = image.mean(axis=0)
    found: Array = np.zeros_like(grey)
    found[:-1] += np.abs(np.diff(grey, axis=0))
    found[:, :-1] += np.abs(np.diff(grey, axis=1))
    return found


def _most_detail(image: Array) -> tuple[slice, slice]:
    """Rows and columns of the part of at most `SHOWN` with the most detail; the topmost and leftmost of equal ones."""
    height, width = (min(have, most) for have, most in zip(image.shape[1:], SHOWN, strict=True))
    sums = np.pad(detail(image), ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def data_uri(image: Array, *, lossless: bool = True) -> str:
    """(3, H, W) in [0, 1] -> WebP as a data: URI, to embed in the page."""
    return _uri(quantize(image, 8).transpose(1, 2, 0), lossless=lossless)


def heat_uri(photo: Photo, full: float) -> str:
    """The data: URI of the differences as colours over the photo in grey.

    Args:
        photo: to show.
        full: the difference that has the brightest colour, in output units; larger ones, and what is no number, have it
            too.
    """
    share = np.nan_to_num(photo.difference / np.float32(full), nan=1.0, posinf=1.0).clip(0, 1)
    grey = np.nan_to_num(photo.bicubic).mean(axis=0).clip(0, 1) * 255 * _BEHIND
    colours = _colours(share)
    # Nothing where nothing differs, all colour from a quarter of the scale on.
    weight = np.minimum(share * 4, 1)[:, :, None]
    shown = grey[:, :, None] * (1 - weight) + colours * weight
    return _uri(shown.round().astype(np.uint8), lossless=True)


def scale_uri() -> str:
    """The data: URI of the map's colours from left to right."""
    return _uri(_colours(np.linspace(0, 1, 256, dtype=np.float32)[None]).round().astype(np.uint8), lossless=True)


def _colours(share: Array) -> Array:
    """(H, W) from 0 to 1 -> (H, W, 3) from 0 to 255."""
    at = np.linspace(0, 1, len(_STEPS))
    return np.stack([np.interp(share, at, _STEPS[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _uri(pixels: np.ndarray[Any, np.dtype[np.uint8]], *, lossless: bool) -> str:
    buffer = io.BytesIO()
    # Without loss, quality is effort: 25 gives the bytes of 90 within a hundredth, in about half the time.
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=lossless, quality=25 if lossless else 90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
