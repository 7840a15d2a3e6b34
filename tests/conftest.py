"""Tiny networks with every parameter random, their checkpoints, and a command line to call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from aether_deploy.cli import main
from aether_deploy.network import arch

SAMPLE = Path(__file__).parents[1] / "aether_deploy" / "samples" / "2x_aether_sample.pth"


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


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    """An unfused tiny network as neosr would have written it."""
    return save(tiny(), tmp_path / "2x_Tiny.pth")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call() -> Callable[..., Ran]:
    """Calls `aether-deploy ...` in this process; an unknown exception is raised, not turned into a code."""

    def run(*words: object) -> Ran:
        result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


def error_line(ran: Ran) -> str:
    """The one `error:` line of a run that ended with it."""
    lines = [line for line in ran.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    return lines[0]
