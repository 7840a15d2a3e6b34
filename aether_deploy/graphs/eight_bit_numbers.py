"""Numbers of 8 bits: int8, and fp8 in E4M3.

Processors without VNNI multiply bytes in pairs and add each pair in 16 bits, with saturation (vpmaddubsw). So no two
neighbouring weights in int8 exceed 128 steps together: 255 * 128 still fits. Beyond that the result is silently wrong
there, by up to 7 levels of an 8-bit picture (benchmarks/README.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from aether_deploy.graphs.types import largest_finite

__all__ = ["Floats", "Narrow", "as_step", "largest_of", "narrowed", "steps_of"]

Floats = NDArray[np.float64]
Narrow = NDArray[Any]

# A pair of weights may have 128 steps together, one of which rounding can add.
_PAIR_STEPS = 127


def largest_of(kind: ir.DataType) -> float:
    """The largest value whose negative there is too: 127 for INT8, 448 for FLOAT8E4M3FN."""
    return float(np.iinfo(np.int8).max) if kind == ir.DataType.INT8 else largest_finite(kind)


def narrowed(values: Floats, kind: ir.DataType) -> Narrow:
    """Rounded to the nearest value of 8 bits; what exceeds the largest is clipped."""
    clipped = np.clip(values, -largest_of(kind), largest_of(kind))
    narrow: Narrow = (np.rint(clipped) if kind == ir.DataType.INT8 else clipped).astype(kind.numpy())
    return narrow


def steps_of(weight: Floats, kind: ir.DataType, stored: ir.DataType) -> NDArray[np.float32]:
    """(M,), by what each output's weights are divided: no weight beyond the largest, no pair of integers beyond 128.

    See `as_step` for the type in which they are stored.
    """
    size = np.abs(weight)
    largest = size.max(axis=0) / largest_of(kind)
    if kind == ir.DataType.INT8:
        pairs = size[: len(size) // 2 * 2].reshape(-1, 2, size.shape[1]).sum(axis=1)
        largest = np.maximum(largest, pairs.max(axis=0, initial=0.0) / _PAIR_STEPS)
    return as_step(largest, stored)


def as_step(least: Floats, stored: ir.DataType) -> NDArray[np.float32]:
    """The numbers as FLOAT, or the next larger ones of FLOAT16, so that rounding them later changes nothing."""
    if stored == ir.DataType.FLOAT:
        return np.maximum(least, np.finfo(np.float32).tiny).astype(np.float32)
    with np.errstate(over="ignore"):
        half = np.maximum(least, np.finfo(np.float16).smallest_subnormal).astype(np.float16)
        half = np.where(half < least, np.nextafter(half, np.float16(np.inf)), half)
    # What overflows is refused where it is rounded.
    steps: NDArray[np.float32] = np.where(np.isfinite(half), half, least).astype(np.float32)
    return steps
