"""Branches -> one convolution in float64, and a network -> its fused form; its family says what is fused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_deploy.errors import ReparameterizationError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aether_deploy.network.family import NetworkSpec

__all__ = ["fuse_network", "merge_branches"]


def merge_branches(large: Tensor, small: Tensor, large_bias: Tensor, small_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the single convolution that equals both branches.

    K = K_large + pad(k_small), b = b_large + b_small; holds because both have stride 1 and same padding.

    Args:
        large: (D, 1, K, K) float.
        small: (D, 1, k, k) float, k at most K and of the same parity.
        large_bias, small_bias: (D,) float.
    Returns:
        ((D, 1, K, K) kernel, (D,) bias), summed in float64, in the dtype of `large`.
    Raises:
        ReparameterizationError: the small kernel is larger, or the parities differ.
    Source: RepLKNet, arXiv:2203.06717.
    """
    margin = large.shape[-1] - small.shape[-1]
    if margin < 0 or margin % 2:
        raise ReparameterizationError(
            f"kernels of {large.shape[-1]} and {small.shape[-1]}; expected a small one that is not larger, both odd"
        )
    inner = slice(margin // 2, margin // 2 + small.shape[-1])
    kernel = large.double().clone()
    kernel[..., inner, inner] += small.double()
    bias = large_bias.double() + small_bias.double()
    return kernel.to(large.dtype), bias.to(large.dtype)


def fuse_network(network: nn.Module, spec: NetworkSpec) -> nn.Module:
    """A new, fused network in eval mode; the caller's is not changed.

    Args:
        network: as trained, on any device and of any floating-point type; a fused one is copied.
        spec: of that network.
    Raises:
        ReparameterizationError: see `NetworkSpec.fuse`.
    """
    weight = next(network.parameters())
    fused = spec.as_fused().build().to(device=weight.device, dtype=weight.dtype)
    fused.load_state_dict(spec.fuse(network.state_dict()), strict=True)
    return fused
