"""The arrays that go through the pipeline, and the few operations on them that all of it shares.

Images are NCHW, RGB, float32 in [0, 1] (a float64 reference stays float64); pixels are (H, W, C) as a file holds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Pixels", "Shape", "finite", "mean_squared_error", "psnr", "quantize"]

# Floating-point values, (N, C, H, W) unless stated otherwise.
Array = NDArray[np.floating[Any]]

# uint8 or uint16, (H, W, C).
Pixels = NDArray[np.unsignedinteger[Any]]

# (N, C, H, W).
Shape = tuple[int, int, int, int]


def quantize(values: Array, bits: int = 8) -> Pixels:
    """Values in [0, 1], of any shape -> 8 or 16 bits, clamped and rounded; NaN becomes 0, as in written pictures."""
    kind = np.uint8 if bits == 8 else np.uint16
    within = np.nan_to_num(np.clip(values, 0, 1), nan=0.0)
    levels: Pixels = np.rint(within * within.dtype.type(2**bits - 1)).astype(kind)
    return levels


def mean_squared_error(expected: Array | Pixels, actual: Array | Pixels) -> float:
    """The mean squared error over all values, computed in float64; the shapes are the same."""
    return float(np.mean((actual.astype(np.float64) - expected.astype(np.float64)) ** 2))


def psnr(mse: float, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio, dB, for a mean squared error; infinity for 0, -infinity for infinity, NaN for NaN."""
    if math.isnan(mse) or math.isinf(mse):
        return -mse
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def finite(value: Any) -> Any:
    """The value for JSON, which has neither NaN nor Infinity: they become None, also inside mappings and sequences."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
