"""Two convolutions with nothing between them."""

from __future__ import annotations

from typing import cast

from torch import fx, nn

from aether_deploy.fusions.kernels import chained, convolution, kernel_of, plain
from aether_deploy.fusions.tracing import layer, only_reader, replace, rewritten

__all__ = ["border_is_exact", "fuse_consecutive", "merged"]


def fuse_consecutive(network: nn.Module) -> tuple[nn.Module, int]:
    """Merges two convolutions in a row where that is exact up to the border, and no more multiplications."""
    return rewritten(network, _merge)


def border_is_exact(first: nn.Conv2d, second: nn.Conv2d) -> bool:
    """Whether one convolution can do what both do beyond the border.

    The second pads with zeros what the first would have computed there. Both are the same only if the second does not
    pad, or if the first is a 1x1 without bias, which makes zeros of zeros.
    """
    return second.padding == (0, 0) or (first.kernel_size == (1, 1) and first.padding == (0, 0) and first.bias is None)


def merged(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One convolution for two; equal to them inside the picture, and at its border if `border_is_exact`."""
    kernel, bias = chained(kernel_of(first), kernel_of(second), first.groups)
    return convolution(kernel, bias, like=second, padding=int(first.padding[0]) + int(second.padding[0]))


def _merge(traced: fx.GraphModule, node: fx.Node) -> bool:
    second = layer(traced, node)
    if not isinstance(second, nn.Conv2d) or not only_reader(node, before := node.args[0]):
        return False
    first = layer(traced, before)
    if not isinstance(first, nn.Conv2d) or not plain(first) or not plain(second) or first.groups != second.groups:
        return False
    if not border_is_exact(first, second):
        return False
    made = merged(first, second)
    # A bottleneck, many channels to few and back, is cheaper as it is.
    if made.weight.numel() > first.weight.numel() + second.weight.numel():
        return False
    replace(traced, node, node, made, cast("fx.Node", cast("fx.Node", before).args[0]))
    return True
