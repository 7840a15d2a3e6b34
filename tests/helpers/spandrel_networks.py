"""Networks that spandrel defines: the trained ones in tests/networks, and small ones with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aether_deploy.network.spandrel_network import network_class

__all__ = ["COMPACT", "SPAN", "save_random"]

_FOLDER = Path(__file__).parents[1] / "networks"
SPAN, COMPACT = _FOLDER / "2x_span_sample.pth", _FOLDER / "2x_compact_sample.pth"


def save_random(path: Path, architecture: str, network: str, **options: Any) -> Path:
    """A network of spandrel's as its trainer would write it: below `params_ema`."""
    torch.manual_seed(0)
    made = network_class(architecture, network)(**options).eval()
    torch.save({"params_ema": made.state_dict()}, path)
    return path
