"""The network's inputs and outputs, caught in the neosr process by a forward hook."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Capture"]


class Capture:
    """Counts the forward passes of one network class, and saves each output if told where.

    Args:
        network_class: the class whose outermost module neosr calls; its own children are not counted.
        folder: where `<index>.npy` goes, float32 (N, C, H, W), not clamped; None saves nothing.
    """

    def __init__(self, network_class: type[nn.Module], folder: Path | None) -> None:
        self._class = network_class
        self._folder = folder
        self.forwards = 0
        self.calls: list[dict[str, Any]] = []
        self.network: nn.Module | None = None

    def __enter__(self) -> Capture:
        # The global hook sees the network that neosr builds itself, so nothing in neosr is replaced.
        self._handle = nn.modules.module.register_module_forward_hook(self._hook)
        return self

    def __exit__(self, *exception: object) -> None:
        self._handle.remove()

    def _hook(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(module, self._class):
            return
        self.network = module
        if self._folder is not None:
            floats = _numpy(output)
            np.save(self._folder / f"{self.forwards:05d}.npy", floats)
            seen = _numpy(args[0])
            digest = hashlib.sha256(np.ascontiguousarray(seen).tobytes()).hexdigest()
            call = {"input_sha256": digest, "input_shape": seen.shape, "output_dtype": str(output.dtype)}
            self.calls.append(call)
        self.forwards += 1


def _numpy(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
