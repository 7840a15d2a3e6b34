"""Two branches -> one convolution, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aether_deploy.errors import ReparameterizationError

if TYPE_CHECKING:
    from torch import Tensor

    from neosr.archs.aether_arch import AetherNet

__all__ = ["fuse_aether", "fuse_state_dict", "merge_branches"]


def merge_branches(large: Tensor, small: Tensor, large_bias: Tensor, small_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the single convolution that equals both branches.

    K = K_large + pad(k_small), b = b_large + b_small; holds because both have stride 1 and same padding.

    Args:
        large: (D, 1, K, K) float.
        small: (D, 1, k, k) float, k at most K and of the same parity.
        large_bias, small_bias: (D) float.
    Returns:
        (D, 1, K, K) and (D), in the dtype of `large`; summed in float64.
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


def fuse_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the fused network; the given one is not changed.

    Args:
        state_dict: canonical keys (see `aether_deploy.checkpoint`); a fused one is copied as it is.
    Raises:
        ReparameterizationError: see `merge_branches`.
    """
    fused: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        prefix, found, _ = key.partition("lk_conv.weight")
        if found:
            fused[f"{prefix}fused_conv.weight"], fused[f"{prefix}fused_conv.bias"] = merge_branches(
                value.detach(),
                state_dict[f"{prefix}sk_conv.weight"].detach(),
                state_dict[f"{prefix}lk_bias"].detach(),
                state_dict[f"{prefix}sk_bias"].detach(),
            )
        elif not key.endswith((".sk_conv.weight", ".conv.lk_bias", ".conv.sk_bias")):
            fused[key] = value.detach().clone()
    return fused


def fuse_aether(network: AetherNet) -> AetherNet:
    """A new network in eval mode, fused; the caller's is left untouched.

    Args:
        network: as trained, on any device and in any floating-point type; a fused one gives a copy.
    Raises:
        ReparameterizationError: see `merge_branches`.
    """
    from aether_deploy.network.spec import NetworkSpec

    state_dict = network.state_dict()
    spec = NetworkSpec.from_state_dict(state_dict, img_range=network.img_range)
    weight = network.conv_first.weight
    fused = spec.as_fused().build().to(device=weight.device, dtype=weight.dtype)
    fused.load_state_dict(fuse_state_dict(state_dict), strict=True)
    return fused
