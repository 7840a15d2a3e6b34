"""One small protocol for everything that can run a network: `run(lr) -> sr`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from aether_deploy.arrays import Array, Shape
from aether_deploy.errors import RunnerError

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec

__all__ = ["Runner", "measured_scale"]


class Runner(Protocol):
    """Something that upscales; a context manager that closes it at the end.

    Attributes:
        name: runtime, precision and device that really run, for people.
        in_chans: C, channels of input and output.
        scale: output pixels for each input pixel along one side.
        precision: the row of `TOLERANCES` that it is judged by.
        static: the only (N, C, H, W) that it takes; None if it takes any.
        smallest: the smallest (N, C, H, W) that it takes; None if it takes any.
        spec: the network; None if the file does not describe it.
        device: whose memory it needs, such as `cpu` or `cuda:1`.
    """

    name: str
    in_chans: int
    scale: int
    precision: str
    static: Shape | None = None
    smallest: Shape | None = None
    spec: NetworkSpec | None = None
    device: str = "cpu"

    def run(self, lr: Array) -> Array:
        """(N, C, H, W) float32 RGB in [0, 1] -> (N, C, scale*H, scale*W), unclamped.

        Raises:
            OutOfMemoryError: a smaller input may run.
            RunnerError: a shape that it does not take.
        """
        ...

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an input of this shape would be run."""
        return self.static in (None, shape)

    def close(self) -> None:
        """Frees what the runner holds; it cannot be used afterwards."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def measured_scale(run: Callable[[Array], Array], shape: Shape) -> int:
    """Output pixels for each input pixel along one side, measured on a black image of `shape`.

    Raises:
        RunnerError: what comes out is no image of the same channels, larger by a whole number, or memory ran out.
    """
    n, c, h, w = shape
    try:
        found = run(np.zeros(shape, np.float32)).shape
    except (MemoryError, ValueError) as error:
        raise RunnerError(f"an image of {shape} cannot be run ({error}); choose a smaller fixed shape") from error
    scale = found[2] // h if len(found) == 4 else 0
    if scale < 1 or found != (n, c, scale * h, scale * w):
        raise RunnerError(f"its output for {shape} is {found}; expected N and C as they were, H and W times the scale")
    return int(scale)
