"""The network's inputs and outputs, captured in the neosr process by a forward hook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Capture"]


class Capture:
    """Counts the forward passes of one network class and, given a folder, saves their inputs and outputs.

    Args:
        network_class: the class that neosr calls.
        folder: where `input_<index>.npy` and `output_<index>.npy` go, float32 (N, C, H, W), unclamped, the index of
            5 digits from 0; None saves nothing.
    """

    def __init__(self, network_class: type[nn.Module], folder: Path | None) -> None:
        self._class = network_class
        self._folder = folder
        self.forwards = 0
        self.network: nn.Module | None = None

    def __enter__(self) -> Capture:
        # A global hook sees the network that neosr itself builds, so nothing in neosr is replaced.
        self._handle = nn.modules.module.register_module_forward_hook(self._hook)
        return self

    def __exit__(self, *exception: object) -> None:
        self._handle.remove()

    def _hook(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(module, self._class):
            return
        self.network = module
        if self._folder is not None:
            for side, tensor in (("input", args[0]), ("output", output)):
                floats = tensor.detach().to(device="cpu", dtype=torch.float32)
                np.save(self._folder / f"{side}_{self.forwards:05d}.npy", floats.contiguous().numpy())
        self.forwards += 1
