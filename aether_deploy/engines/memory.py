"""How much GPU memory the activations of a shape need, estimated before a build.

The figures are fitted to builds of TensorRT-RTX 1.7.1 whose workspace was bisected without a GPU: a build
fails if its workspace is below what the largest shape needs (benchmarks/engine_memory.py).
"""

from __future__ import annotations

from aether_deploy.arrays import Shape
from aether_deploy.network.spec import NetworkSpec

__all__ = ["GIB", "activation_bytes", "describe_bytes"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
# Channels between the body and the last convolution, which is computed in fp32 in every precision.
_TAIL_CHANNELS = 64
_FP32 = 4
# Bytes a pixel for the image at both ends and for rounding up to blocks of memory.
_ENDS = 260
# Tensors of D channels that live while the FFN's two branches do (measured 2.1 to 4.2), and while the tail
# runs (2 to 4). Turing's kernels for 1x1 convolutions keep more (5 to 8 in fp32, 9 to 13 in fp16; 2 to 7).
_BODY, _RESIDUAL = 4, 4
_BODY_TURING, _RESIDUAL_TURING = {"fp32": 8, "fp16": 12, "bf16": 12}, 6


def activation_bytes(spec: NetworkSpec, precision: str, shape: Shape, *, turing: bool = False) -> int:
    """Bytes for the activations of one shape, weights not counted.

    Two places can be the peak: the FFN, with both hidden tensors alive, or the last convolution. In half that one has
    64 channels at the output's size, in the file's precision and again in fp32; in fp32, whose last shuffle comes
    behind it, both sides of the convolution before it, at the size before that shuffle.
    From 3 % below to 38 % above what was measured, for D 32 to 256 and scales 1 to 8.

    Args:
        spec: of the network.
        precision: fp32, fp16 or bf16.
        shape: (N, C, H, W) of the input.
        turing: for an engine that sm75 is among the targets of.
    """
    size = _BYTES[precision]
    kept, residual = (_BODY_TURING[precision], _RESIDUAL_TURING) if turing else (_BODY, _RESIDUAL)
    body = size * (2 * spec.hidden + kept * spec.embed_dim)
    last = spec.upsample_factors[-1] if spec.upsample_factors else 1
    wide = _FP32 * (1 + 1 / last**2) if precision == "fp32" else size + _FP32
    tail = int(spec.scale**2 * _TAIL_CHANNELS * wide) + size * residual * spec.embed_dim
    n, _, height, width = shape
    return n * height * width * (max(body, tail) + _ENDS)


def describe_bytes(count: int) -> str:
    """In GiB, MiB or KiB, for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / KIB:.0f} KiB"
