"""SPAN: 1x1, 3x3 and 1x1 in a row, with a 1x1 beside them, are one 3x3."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from aether_deploy.fusions.kernels import beside, chained, convolution, kernel_of

__all__ = ["fuse_span"]


def fuse_span(network: nn.Module) -> tuple[nn.Module, int]:
    """Replaces each `Conv3XC` by the 3x3 convolution that it is; exact, since it pads before the first 1x1.

    Its `eval_conv`, a merger that its file may hold in any state, is not read.

    Source: SPAN, arXiv:2311.12770.
    """
    count = 0
    for name, module in list(network.named_modules()):
        if type(module).__name__ != "Conv3XC":
            continue
        parts: Any = module
        first, middle, last, beside_them = (cast("nn.Conv2d", part) for part in (*parts.conv, parts.sk))
        row = chained(chained(kernel_of(first), kernel_of(middle)), kernel_of(last))
        made: nn.Module = convolution(*beside([row, kernel_of(beside_them)]), like=beside_them, padding=1)
        if parts.has_relu:
            made = nn.Sequential(made, nn.LeakyReLU(0.05))
        network.set_submodule(name, made)
        count += 1
    return network, count
