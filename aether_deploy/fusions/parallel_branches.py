"""Convolutions of one input whose results are summed, the input itself among them: RepVGG's and its kin."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from aether_deploy.fusions.batch_norm import scale_and_shift
from aether_deploy.fusions.kernels import beside, convolution, identity, kernel_of, plain, same_size
from aether_deploy.fusions.tracing import layer, only_reader, replace, rewritten

__all__ = ["fuse_parallel_branches"]

_SUMS = (operator.add, operator.iadd, torch.add)


def fuse_parallel_branches(network: nn.Module) -> tuple[nn.Module, int]:
    """Merges sums of 1x1, 3x3 ... k x k convolutions, batch norms and the identity, dense or depthwise.

    Exact where each keeps the size of its input, so that all see the same zeros beyond the border.

    Source: RepVGG, arXiv:2101.03697.
    """
    return rewritten(network, _merge)


def _merge(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in _SUMS or node.kwargs or len(node.args) != 2:
        return False
    layers = [layer(traced, value) for value in node.args]
    convs = [conv for conv in layers if isinstance(conv, nn.Conv2d) and plain(conv) and same_size(conv)]
    if not convs:
        return False
    conv = max(convs, key=lambda item: item.kernel_size)
    at = node.args[layers.index(conv)]
    assert isinstance(at, fx.Node)
    source = at.args[0]
    if not isinstance(source, fx.Node):
        return False
    branches = [_branch(node, value, found, conv, source) for value, found in zip(node.args, layers, strict=True)]
    kept = [branch for branch in branches if branch is not None]
    if len(kept) < len(branches):
        return False
    kernel, bias = beside(kept)
    replace(traced, node, at, convolution(kernel, bias, like=conv, padding=kernel.shape[-1] // 2), source)
    return True


def _branch(
    node: fx.Node, value: Any, found: nn.Module | None, conv: nn.Conv2d, source: fx.Node
) -> tuple[Tensor, Tensor] | None:
    """What is added, as a kernel with the groups of the largest convolution; None if it is not such a branch."""
    width = conv.in_channels
    if value is source:
        one = conv.weight.new_ones(width, dtype=torch.float64)
        return (identity(one, conv.groups), torch.zeros_like(one)) if width == conv.out_channels else None
    if not only_reader(node, value) or value.args[0] is not source:
        return None
    if (affine := scale_and_shift(found)) is not None:
        return (identity(affine[0], conv.groups), affine[1]) if width == conv.out_channels else None
    if not isinstance(found, nn.Conv2d) or not plain(found) or not same_size(found) or found.groups != conv.groups:
        return None
    return kernel_of(found)
