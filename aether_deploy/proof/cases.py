"""The inputs of a parity check: photos, noise and drawn patterns, in shapes that find what one alone would hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aether_deploy.arrays import Array, Shape
from aether_deploy.pictures.sizes import fitted

__all__ = ["Case", "parity_cases"]


@dataclass(frozen=True, slots=True)
class Case:
    """An input: `lr` is (N, C, H, W) float32 in [0, 1]; `drawn` if it is noise or a pattern and no photo."""

    name: str
    lr: Array
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.lr.shape))}"


def parity_cases(
    photos: Sequence[tuple[str, Array]] = (),
    *,
    in_chans: int = 3,
    static: Shape | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> tuple[Case, ...]:
    """Photos, noise, black, white, a step edge and a checkerboard; batch 2, odd, non-square and 1x1.

    Args:
        photos: (name, (1, C, H, W) in [0, 1]); those with another number of channels are left out.
        in_chans: C.
        static: the one (N, C, H, W) that an artifact takes; every case has it then, photos being mirrored
            and cropped to it.
        shapes: further (N, H, W) for noise, say those of an optimization profile.
    """
    rng = np.random.default_rng(0)

    def noise(n: int, h: int, w: int) -> Case:
        return Case("noise", rng.random((n, in_chans, h, w), dtype=np.float32), drawn=True)

    if static is not None:
        n, in_chans, height, width = static
        photos = [(name, fitted(lr, n, height, width)) for name, lr in photos]
        noises, patterns = [(n, height, width)], (n, height, width)
    else:
        noises, patterns = [(1, 48, 64), (2, 40, 24), (1, 37, 53), (1, 1, 1), *shapes], (1, 24, 32)
    n, height, width = patterns
    rows, columns = np.indices((height, width))
    drawn = {
        "black": np.zeros((height, width)),
        "white": np.ones((height, width)),
        "step edge": columns >= width // 2,
        "checkerboard": (rows + columns) % 2,
    }
    return (
        *(Case(name, lr) for name, lr in photos if lr.shape[1] == in_chans),
        *(noise(*shape) for shape in noises),
        *(
            Case(name, np.broadcast_to(plane, (n, in_chans, height, width)).astype(np.float32), drawn=True)
            for name, plane in drawn.items()
        ),
    )
