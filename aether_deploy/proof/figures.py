"""The difference between two outputs, as figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aether_deploy.arrays import Array, psnr, quantize

__all__ = ["Figures", "figures_of"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The difference between two outputs.

    Attributes:
        max_abs, mean_abs: absolute error in output units (1.0 is white).
        psnr: in dB, peak 1.0; infinite if equal.
        max_level: largest difference in 8-bit levels after clamping to [0, 1] and rounding.
        levels_share: share of 8-bit values that differ, 0 to 1.
        nan, inf: numbers of NaN and infinite values in the candidate's output.
    """

    max_abs: float
    mean_abs: float
    psnr: float
    max_level: int
    levels_share: float
    nan: int
    inf: int


def figures_of(expected: Array, actual: Array) -> Figures:
    """The difference between two outputs of the same shape, both (N, C, H, W), about [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ValueError(f"shapes differ: {expected.shape} and {actual.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which no gate passes
        difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    levels = np.abs(quantize(actual).astype(np.int16) - quantize(expected))
    return Figures(
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        psnr=psnr(float(np.mean(difference**2))),
        max_level=int(levels.max()),
        levels_share=float(np.mean(levels > 0)),
        nan=int(np.isnan(actual).sum()),
        inf=int(np.isinf(actual).sum()),
    )
