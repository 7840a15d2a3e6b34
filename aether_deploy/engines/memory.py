"""Estimates, before a build, how much GPU memory the activations of a shape need.

The figures are fitted to builds with TensorRT-RTX 1.7.1 whose workspace was bisected without a GPU: a build fails if
its workspace is smaller than the largest shape needs (benchmarks/engine_memory.py).
"""

from __future__ import annotations

from aether_deploy.arrays import Shape
from aether_deploy.network.family import NetworkSpec
from aether_deploy.precisions.table import PRECISIONS

__all__ = ["GIB", "activation_bytes", "describe_bytes"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# Bytes per value of the last convolution, which is computed in fp32 in every precision.
_FP32 = 4
# Bytes per input pixel for the image at both ends and for rounding up to blocks of memory.
_ENDS = 260
# Tensors of D channels that are alive during the FFN's two branches (measured: 2.1 to 4.2), and during the tail
# (2 to 4). Turing's kernels for 1x1 convolutions keep more (5 to 8 in fp32, 9 to 13 in fp16; tail: 2 to 7).
_BODY, _RESIDUAL = 4, 4
_BODY_TURING, _BODY_TURING_HALF, _RESIDUAL_TURING = 8, 12, 6


def activation_bytes(spec: NetworkSpec, precision: str, shape: Shape, *, turing: bool = False) -> int:
    """Bytes for the activations of one shape, without the weights.

    The peak is in one of two places: the FFN, with both hidden tensors alive, or the last convolution. In half
    precision the latter has 64 channels at the output's size, in the file's precision and again in fp32; in fp32, where
    the last shuffle comes after it, it is both sides of the convolution before it, at the size before that shuffle.
    From 3 % below to 38 % above what was measured, for D of 32 to 256 and scales of 1 to 8.

    Args:
        spec: of the network.
        precision: a row of `PRECISIONS`.
        shape: (N, C, H, W) of the input.
        turing: whether sm75 is among the engine's targets.
    """
    row, widths = PRECISIONS[precision], spec.widths
    kept, residual = _BODY, _RESIDUAL
    if turing:
        kept, residual = _BODY_TURING_HALF if row.half else _BODY_TURING, _RESIDUAL_TURING
    body = row.bytes * (2 * widths.hidden + kept * widths.body)
    wide = row.bytes + _FP32 if row.half else _FP32 * (1 + 1 / widths.last_factor**2)
    tail = int(spec.scale**2 * widths.tail * wide) + row.bytes * residual * widths.body
    n, _, height, width = shape
    return n * height * width * (max(body, tail) + _ENDS)


def describe_bytes(count: int) -> str:
    """A number of bytes in GiB, MiB or KiB, for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / KIB:.0f} KiB"
