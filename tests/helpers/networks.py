"""Tiny networks with every parameter random, and their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aether_deploy import samples
from aether_deploy.network.definition import arch

SAMPLE = samples.SAMPLE


def randomize(network: torch.nn.Module, seed: int = 0) -> Any:
    """Every parameter random, LayerNorm's too, at a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("norm.weight") else 0.0))
    return network.eval()


def tiny(**options: Any) -> Any:
    """A random network of two stages that runs in milliseconds."""
    defaults = {"scale": 2, "embed_dim": 12, "depths": (1, 2), "lk_kernel": 7, "sk_kernel": 3}
    return randomize(arch.AetherNet(**{**defaults, **options}))


def save(network: torch.nn.Module, path: Path, key: str | None = "params") -> Path:
    """As neosr writes it; bare without a key."""
    state_dict = network.state_dict()
    torch.save({key: state_dict} if key else state_dict, path)
    return path


def source_file(folder: Path, *, trained: bool) -> Path:
    """An unfused checkpoint to damage a pipeline with: the packaged sample, or a random network."""
    path = folder / "net.pth"
    if not trained:
        return save(tiny(), path)
    path.write_bytes(SAMPLE.read_bytes())
    return path


def calm(**options: Any) -> Any:
    """A random network whose output stays near [0, 1], as a trained one's does; the fp16 gate counts levels."""
    network = randomize(arch.AetherNet(**options))
    with torch.no_grad():
        for parameter in network.conv_last.parameters():
            parameter.mul_(0.02)
    return network


def wrong_eps(network: Any) -> Any:
    """The network with the epsilon of another LayerNorm, which is easily forgotten; changed in place."""
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    return network
