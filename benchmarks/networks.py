"""Checkpoints to measure on: the packaged sample, and random stand-ins for networks that were not trained here."""

from __future__ import annotations

from pathlib import Path

import torch

from aether_deploy.network.definition import arch
from aether_deploy.samples import SAMPLE

NETWORKS = ("sample", "aether_small", "aether_medium", "aether_large")


def checkpoint_file(network: str, folder: Path, *, scale: int = 2) -> Path:
    """The sample's file, or that of a random variant, written to the folder."""
    return SAMPLE if network == "sample" else random_checkpoint(network, folder / f"{network}.pth", scale=scale)


def random_checkpoint(variant: str, path: Path, *, scale: int = 2) -> Path:
    """Writes an unfused network with every parameter random.

    Each block adds a tenth to the residual stream, and the output stays near [0, 1], like a trained network's: the
    errors of half precision grow with the values.
    """
    generator = torch.Generator().manual_seed(0)
    network = getattr(arch, variant)(scale=scale)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                damping = {"fc2": 0.1, "conv_last": 0.05}.get(name.split(".")[-2], 1.0)
                parameter.copy_(damping * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("norm.weight") else 0.0))
    torch.save({"params": network.state_dict()}, path)
    return path
