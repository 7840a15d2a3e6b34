"""What a network has to compute and to move, counted from its spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_deploy.arrays import Shape

if TYPE_CHECKING:
    from aether_deploy.network.spec import NetworkSpec

__all__ = ["bytes_moved", "flops"]

_TAIL = 64  # channels between the body and the last convolution


def flops(spec: NetworkSpec, shape: Shape) -> int:
    """Floating-point operations of one run, a multiply-add counting two; biases, norms and GELU are left out.

    Args:
        spec: fused or not; an unfused network has its small kernels in addition.
        shape: (N, C, H, W) of the input.
    """
    n, _, height, width = shape
    dim = spec.embed_dim
    block = dim * (spec.lk_kernel**2 + (spec.sk_kernel or 0) ** 2) + 3 * dim * spec.hidden
    macs = 9 * spec.in_chans * dim + sum(spec.depths) * block + 9 * dim * dim + 9 * dim * _TAIL
    size = 1
    for factor in spec.upsample_factors:
        macs += size * 9 * _TAIL * _TAIL * factor**2
        size *= factor**2
    macs += size * 9 * _TAIL * spec.in_chans
    return 2 * n * height * width * macs


def bytes_moved(spec: NetworkSpec, shape: Shape, *, width_of_value: int = 4) -> int:
    """The least that has to be read and written if each layer's fused kernel touches memory once.

    A block as two kernels: the depthwise convolution reads and writes D channels; norm, FFN and skip read D twice
    (convolved and skip) and write D, the hidden channels staying on the chip. Weights are read once.
    """
    n, _, height, width = shape
    dim = spec.embed_dim
    values = spec.in_chans + dim + sum(spec.depths) * 5 * dim + 3 * dim + dim + _TAIL
    size = 1
    for factor in spec.upsample_factors:
        values += size * _TAIL * (1 + factor**2)
        size *= factor**2
    values += size * (_TAIL + spec.in_chans)
    weights = sum(_product(shape) for shape in spec.as_fused().expected_shapes().values())
    return width_of_value * (n * height * width * values + weights)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for side in shape:
        result *= side
    return result
