"""A network in PyTorch: as it was trained it is the reference of every proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import RunnerError
from aether_deploy.memory_errors import memory_errors
from aether_deploy.parity import Reference, capture
from aether_deploy.parity_cases import parity_cases
from aether_deploy.pictures.images import parity_photos

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.checkpoint import Checkpoint
    from aether_deploy.spec import NetworkSpec

__all__ = ["TorchRunner", "capture_reference", "torch_device"]

Array = NDArray[np.floating[Any]]


class TorchRunner:
    """A network in eager PyTorch.

    Args:
        network: in eval mode; is not changed.
        in_chans, scale, spec: as the network's.
        double: run in float64, on a copy.
        device: `cpu` or `cuda`; on the latter it runs as a copy.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        in_chans: int,
        scale: int,
        spec: NetworkSpec | None = None,
        double: bool = False,
        device: str = "cpu",
    ) -> None:
        import copy

        self.in_chans = in_chans
        self.scale = scale
        self.spec = spec
        self.precision = "fp64" if double else "fp32"
        self.static: tuple[int, int, int, int] | None = None
        self.name = f"torch {'float64' if double else 'float32'} {device.upper()}"
        self.device = device
        if double or device != "cpu":
            network = copy.deepcopy(network).to(device)
        self._network = network.double() if double else network

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, double: bool = False, device: str = "cpu") -> TorchRunner:
        """The network exactly as the checkpoint has it, fused or not."""
        spec = checkpoint.spec
        return cls(
            checkpoint.build(), in_chans=spec.in_chans, scale=spec.scale, spec=spec, double=double, device=device
        )

    def run(self, lr: Array) -> Array:
        """See `Runner`; the output has the precision of the network."""
        import torch

        # no_grad, not inference_mode: outputs of the latter break an export that follows.
        with torch.no_grad(), memory_errors(lr.shape, RuntimeError, MemoryError):
            dtype = next(self._network.parameters()).dtype
            image = torch.from_numpy(np.ascontiguousarray(lr)).to(self.device, dtype)
            output: Array = self._network(image).cpu().numpy()
        return output


def torch_device(device: str) -> str:
    """`cpu` or `cuda`, for a device of `aether_deploy.runners.DEVICES`.

    Raises:
        RunnerError: a GPU was asked for by name, and PyTorch sees none.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return "cuda"
    if device in ("cpu", "auto"):
        return "cpu"
    raise RunnerError("this PyTorch sees no CUDA device, available: cpu; choose --device cpu, or see to the driver")


def capture_reference(
    checkpoint: Checkpoint,
    images: Path | None = None,
    *,
    double: bool = False,
    static: tuple[int, int, int, int] | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> Reference:
    """What the network gives as it was trained, from weights read off the disk, before anything is done to it.

    Args:
        checkpoint: unfused, or fused where nothing else is left.
        images: photos for the cases, the packaged ones by default.
        double: in float64, on two small cases (it takes ten times as long as float32).
        static, shapes: see `parity_cases`.
    """
    runner = TorchRunner.from_checkpoint(checkpoint, double=double)
    if not double:
        cases = parity_cases(parity_photos(images), in_chans=checkpoint.spec.in_chans, static=static, shapes=shapes)
        return capture(runner.run, cases)
    (name, photo), *_ = parity_photos(images)
    small = parity_cases([(name, photo[:, :, :32, :48])], in_chans=checkpoint.spec.in_chans)
    return capture(runner.run, [case for case in small if case.lr.shape[2:] in ((32, 48), (37, 53))])
