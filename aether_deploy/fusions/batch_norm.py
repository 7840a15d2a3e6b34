"""A convolution and the batch norm behind it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, fx, nn

from aether_deploy.fusions.kernels import kernel_of
from aether_deploy.fusions.tracing import layer, only_reader, replace, rewritten

__all__ = ["fuse_batch_norm", "scale_and_shift"]


def fuse_batch_norm(network: nn.Module) -> tuple[nn.Module, int]:
    """Gives each convolution the scale and shift of the batch norm behind it; exact for any padding and stride."""
    return rewritten(network, _merge)


def scale_and_shift(norm: nn.Module | None) -> tuple[Tensor, Tensor] | None:
    """What a batch norm with statistics does to a channel, in float64: (C,) factors and (C,) summands."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _merge(traced: fx.GraphModule, node: fx.Node) -> bool:
    affine = scale_and_shift(layer(traced, node))
    if affine is None or not only_reader(node, before := node.args[0]):
        return False
    conv = layer(traced, before)
    if type(conv) is not nn.Conv2d:
        return False
    (scale, shift), (kernel, bias) = affine, kernel_of(conv)
    conv.weight.data = (kernel * scale[:, None, None, None]).to(conv.weight)
    conv.bias = nn.Parameter((bias * scale + shift).to(conv.weight), requires_grad=conv.weight.requires_grad)
    at = cast("fx.Node", before)
    replace(traced, node, at, conv, cast("fx.Node", at.args[0]))
    return True
