"""The table of fusions, and a network with all of them applied. A new one is a file beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from aether_deploy.fusions.batch_norm import fuse_batch_norm
from aether_deploy.fusions.consecutive import fuse_consecutive
from aether_deploy.fusions.parallel_branches import fuse_parallel_branches
from aether_deploy.fusions.span import fuse_span

__all__ = ["FUSIONS", "fuse_layers"]

# In this order: a batch norm goes into its convolution before that becomes a branch, and branches before a row.
FUSIONS: dict[str, Callable[[nn.Module], tuple[nn.Module, int]]] = {
    "SPAN's rows of 1x1, 3x3, 1x1": fuse_span,
    "convolution and batch norm": fuse_batch_norm,
    "parallel branches": fuse_parallel_branches,
    "consecutive convolutions": fuse_consecutive,
}


def fuse_layers(network: nn.Module) -> tuple[nn.Module, dict[str, int]]:
    """The network with every fusion applied, and how often each was.

    What is merged depends on the layers and not on their weights, so that a fused network can be built first and get
    its weights afterwards.

    Args:
        network: in eval mode; it is changed, and may be part of the result.
    """
    counts = {}
    for name, fuse in FUSIONS.items():
        network, count = fuse(network)
        if count:
            counts[name] = count
    return network.eval(), counts
