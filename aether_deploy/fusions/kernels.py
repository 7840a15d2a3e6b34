"""The algebra of convolutions, in float64: one after another, and one beside another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["beside", "chained", "convolution", "identity", "kernel_of", "plain", "same_size"]


def plain(conv: nn.Module) -> bool:
    """Whether it is a convolution with stride and dilation 1 that is padded with zeros alike on all sides."""
    return (
        type(conv) is nn.Conv2d
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and isinstance(conv.padding, tuple)
        and conv.padding[0] == conv.padding[1]
        and conv.kernel_size[0] == conv.kernel_size[1]
    )


def same_size(conv: nn.Conv2d) -> bool:
    """Whether a plain convolution gives as many pixels as it takes."""
    return conv.kernel_size[0] == 2 * int(conv.padding[0]) + 1


def kernel_of(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """(kernel (out, in / groups, k, k), bias (out,)), both float64; a missing bias is zero."""
    weight = conv.weight.detach().double()
    return weight, weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias.detach().double()


def identity(scale: Tensor, groups: int) -> Tensor:
    """(C, C / groups, 1, 1): the kernel that multiplies channel c by `scale[c]`."""
    width = len(scale) // groups
    kernel = scale.new_zeros(len(scale), width, 1, 1)
    rows = torch.arange(len(scale))
    kernel[rows, rows % width] = scale[:, None, None]
    return kernel


def chained(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], groups: int = 1) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that equals `second` after `first`, where neither pads in between.

    Args:
        first: kernel (M, I / groups, k, k) and bias (M,).
        second: kernel (O, M / groups, l, l) and bias (O,).
        groups: of both.
    Returns:
        kernel (O, I / groups, k + l - 1, k + l - 1) and bias (O,).
    """
    (inner, inner_bias), (outer, outer_bias) = first, second
    k, reach = inner.shape[-1], outer.shape[-1]
    inner, outer = (kernel.reshape(groups, -1, *kernel.shape[1:]) for kernel in (inner, outer))
    side = k + reach - 1
    merged = inner.new_zeros(*outer.shape[:2], inner.shape[2], side, side)
    for y in range(reach):
        for x in range(reach):
            merged[..., y : y + k, x : x + k] += torch.einsum("gom,gmikl->goikl", outer[..., y, x], inner)
    bias = torch.einsum("gom,gm->go", outer.sum((-2, -1)), inner_bias.reshape(groups, -1))
    return merged.flatten(0, 1), bias.flatten() + outer_bias


def beside(branches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that equals the sum of branches, each of which keeps the size of its input.

    Args:
        branches: kernel (O, I / groups, k, k) of an odd k of its own, and bias (O,).
    Returns:
        kernel (O, I / groups, K, K) of the largest K, and bias (O,).
    """
    side = max(kernel.shape[-1] for kernel, _ in branches)
    merged = torch.stack(
        [nn.functional.pad(kernel, [(side - kernel.shape[-1]) // 2] * 4) for kernel, _ in branches]
    ).sum(0)
    return merged, torch.stack([bias for _, bias in branches]).sum(0)


def convolution(kernel: Tensor, bias: Tensor, *, like: nn.Conv2d, padding: int) -> nn.Conv2d:
    """A convolution of stride 1 with this kernel and bias, in the type and groups of another one."""
    groups = like.groups
    made = nn.Conv2d(kernel.shape[1] * groups, len(kernel), kernel.shape[-1], padding=padding, groups=groups)
    made.weight.data, made.bias.data = kernel.to(like.weight), bias.to(like.weight)  # type: ignore[union-attr]
    return made.eval().requires_grad_(like.weight.requires_grad)
