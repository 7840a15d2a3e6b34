"""A network in PyTorch: as it was trained, it is the reference of every proof."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.errors import AetherDeployError, RunnerError
from aether_deploy.network.families import family_of
from aether_deploy.runners.devices import device_of
from aether_deploy.runners.memory_errors import memory_errors
from aether_deploy.runners.protocol import Runner
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.network.family import NetworkSpec

__all__ = ["TorchRunner", "torch_device"]


class TorchRunner(Runner):
    """A network in eager PyTorch.

    Args:
        network: in eval mode; not changed.
        in_chans, scale, spec: of the network.
        double: run a copy in float64.
        device: `cpu`, or a GPU such as `cuda:1`, on which a copy runs.
        threads: of PyTorch on the CPU while it runs; by default as many as it has.
        channels_last: run a copy in that memory layout: the same network, twice as fast on a CPU (medium; outputs
            differ by 2e-7).
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
        threads: int | None = None,
        channels_last: bool = False,
    ) -> None:
        import copy

        import torch

        self.in_chans = in_chans
        self.scale = scale
        self.spec = spec
        self.precision = "fp64" if double else "fp32"
        self.name = f"torch {'float64' if double else 'float32'} {device.upper()}"
        self.device = device
        self._threads = threads
        self._layout: dict[str, Any] = {}
        if double or device != "cpu" or channels_last:
            network = copy.deepcopy(network).to(device)
        if channels_last:
            self._layout["memory_format"] = torch.channels_last
            network = network.to(**self._layout)
        self._network = network.double() if double else network

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        double: bool = False,
        device: str = "cpu",
        threads: int | None = None,
        channels_last: bool = False,
    ) -> TorchRunner:
        """The network exactly as in the checkpoint, fused or not.

        `channels_last` is for families whose layers are known: a GroupNorm over 720x720 pixels is off by 4e-4 in that
        layout, and by 7e-8 in the other (benchmarks/README.md).
        """
        spec = checkpoint.spec
        return cls(
            checkpoint.build(),
            in_chans=spec.in_chans,
            scale=spec.scale,
            spec=spec,
            double=double,
            device=device,
            threads=threads,
            channels_last=channels_last and family_of(spec).operators is not None,
        )

    def run(self, lr: Array) -> Array:
        """See `Runner`; the output has the network's floating-point type.

        Raises:
            RunnerError: a network of spandrel's does not run on this shape.
        """
        import torch

        out_of_memory = memory_errors(lr.shape, RuntimeError, MemoryError)
        # no_grad, not inference_mode, whose outputs break a later export.
        with torch.no_grad(), _threads(self._threads), _refusals(self.spec, lr.shape), out_of_memory:
            dtype = next(self._network.parameters()).dtype
            # A copy: RCAN, for one, multiplies its input in place.
            image = torch.from_numpy(np.ascontiguousarray(lr)).to(self.device, dtype, copy=True, **self._layout)
            output: Array = self._network(image).cpu().numpy()
        return output


@contextlib.contextmanager
def _refusals(spec: NetworkSpec | None, shape: tuple[int, ...]) -> Iterator[None]:
    """What a network whose code is not ours raises, as one line: IPT, for one, takes no batch of two."""
    try:
        yield
    except AetherDeployError:
        raise
    except Exception as error:
        if spec is None or family_of(spec).operators is not None:
            raise
        size, why = "x".join(map(str, shape)), f"{type(error).__name__}: {in_one_line(error)}"
        raise RunnerError(
            f"{spec.variant} does not run on {size} ({why}); a fixed size may, export --static 1x3x256x256"
        ) from error


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets PyTorch's number of threads, which is the process's, and restores it afterwards."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def torch_device(device: str | None) -> str:
    """PyTorch's name of a device, such as `cpu` or `cuda:1`; see `devices.device_of`.

    Raises:
        RunnerError: a GPU is requested by name, and PyTorch does not see it.
    """
    chosen = device_of(device)
    if chosen.name == "cpu":
        return "cpu"
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.index < seen:
        return f"cuda:{chosen.index}" if chosen.index else "cuda"
    if chosen.name == "auto":
        return "cpu"
    others = "".join(f", cuda:{index}" for index in range(seen))
    seen_are = f"available: cpu{others}; choose --device cpu, or see to the driver"
    raise RunnerError(f"this PyTorch sees no CUDA device {chosen.index}, {seen_are}")
