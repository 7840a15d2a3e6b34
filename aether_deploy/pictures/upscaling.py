"""Picture in, picture out: tiles that fit the memory, grey and transparency, and what to do when memory runs out."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Pixels
from aether_deploy.errors import OutOfMemoryError, RunnerError
from aether_deploy.pictures.edge_reach import effective_margin
from aether_deploy.pictures.images import Picture
from aether_deploy.pictures.tiling import RAMP, plan_grid, stitch
from aether_deploy.runners.devices import device_of

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.runners.protocol import Runner

__all__ = ["Upscaler", "auto_tile", "available_memory", "bytes_per_pixel"]

logger = logging.getLogger(__name__)

# On the CPU larger tiles are no faster; this keeps the whole process below 2 GiB at 3840x2160.
_CPU_BUDGET = 2**30
# Below this a tile is nearly all overlap; running out of memory even here is for the user to solve.
_SMALLEST_TILE = 32
# Bytes that the runtime's arena takes for each live byte: 1.4 (small) to 1.6 (the sample) measured.
_ARENA = 1.6
# Bytes per input pixel for a network that the file does not describe: those of medium x4.
_UNKNOWN_BYTES = 14_000


class Upscaler:
    """A network, ready to upscale pictures of any size.

    Args:
        runner: of 3 channels.
        tile: the largest side of a tile, in input pixels; None chooses it from the available memory.
        overlap: `auto` (measured on this network, blended), `exact` (the receptive field, as if untiled), or
            input pixels at each inner edge, blended.
        batch: tiles in one run.
    Raises:
        RunnerError: the network does not have 3 channels, or `exact` for one whose receptive field is unknown.
    """

    def __init__(self, runner: Runner, *, tile: int | None = None, overlap: str | int = "auto", batch: int = 1) -> None:
        if runner.in_chans != 3:
            raise RunnerError(f"the network has {runner.in_chans} channels; pictures need one of 3")
        if overlap == "exact" and (runner.spec is None or runner.spec.receptive_field is None):
            raise RunnerError(
                "the file does not say what network it is, so its receptive field is not known; "
                "give --overlap auto or a number of pixels"
            )
        self.runner = runner
        self.overlap = overlap
        self.batch = batch
        self.tile = tile
        self._margin: tuple[int, int] | None = None

    @property
    def scale(self) -> int:
        """Output pixels for each input pixel along one side."""
        return self.runner.scale

    def identity(self, model: str) -> dict[str, Any]:
        """What determines the pixels, for a run that resumes an interrupted one.

        Tile, batch and device are left out: they depend on free memory and change a value by a level at most.

        Args:
            model: the network's sha256.
        """
        return {"model": model, "scale": self.scale, "overlap": self.overlap}

    def __call__(self, picture: Picture) -> Picture:
        """The picture `scale` times as large, with the same channels and depth; alpha goes through the network too.

        Raises:
            OutOfMemoryError: not even the smallest tile fits.
        """
        pixels = picture.pixels
        channels = pixels.shape[2]
        grey = channels < 3
        colour = np.broadcast_to(pixels[:, :, :1], (*pixels.shape[:2], 3)) if grey else pixels[:, :, :3]
        parts = [self._fitting(colour, grey=grey)]
        if picture.alpha:
            parts.append(self._alpha(pixels[:, :, -1:]))
        return dataclasses.replace(picture, pixels=parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2))

    def _alpha(self, alpha: Pixels) -> Pixels:
        """(H, W, 1) -> (scale*H, scale*W, 1); a constant alpha stays exactly the same."""
        if alpha.min() == alpha.max():
            return np.full((alpha.shape[0] * self.scale, alpha.shape[1] * self.scale, 1), alpha.flat[0])
        return self._fitting(np.broadcast_to(alpha, (*alpha.shape[:2], 3)), grey=True)

    def _fitting(self, pixels: Pixels, *, grey: bool) -> Pixels:
        """Upscales (H, W, 3), halving the tile until it fits."""
        height, width = pixels.shape[:2]
        static = self.runner.static
        while True:
            tile, margin, ramp = self._cut(height, width)
            grid = plan_grid(height, width, tile, margin, ramp=ramp, batch=self.batch, static=static)
            try:
                return stitch(self.runner, pixels, grid, grey=grey)
            except (OutOfMemoryError, MemoryError) as error:  # MemoryError: the pixels themselves
                seen = f"{grid.columns.tile}x{grid.rows.tile}"
                side = max(grid.rows.tile, grid.columns.tile) // 2
                if static is not None or side < max(_SMALLEST_TILE, 2 * self._margins()[0] + 1):
                    raise OutOfMemoryError(
                        f"out of memory for {width}x{height} pixels in tiles of {seen}, the smallest possible; "
                        "free some memory, or cut the picture into pieces"
                    ) from error
                logger.warning("out of memory with tiles of %s; going on with %d", seen, side)
                self.tile = side

    def _cut(self, height: int, width: int) -> tuple[int, int, int]:
        """(tile, margin, ramp); the margin is measured only once a picture needs more than one tile."""
        static = self.runner.static
        if static is not None:
            return (0, 0, 0) if height <= static[2] and width <= static[3] else (0, *self._margins())
        tile = self.tile or self._auto_tile(0)
        if height * width <= tile * tile:
            return tile, 0, 0
        margin, ramp = self._margins()
        if self.tile is None:
            self.tile = self._auto_tile(4 * margin)
            logger.info("tiles of at most %d pixels a side", self.tile)
        return self.tile, margin, ramp

    def _auto_tile(self, wanted: int) -> int:
        spec = self.runner.spec
        return auto_tile(
            available_memory(self.runner.device), bytes_per_pixel(spec) * self.batch, wanted, self.runner.device
        )

    def _margins(self) -> tuple[int, int]:
        """(margin, ramp) at inner edges, in input pixels."""
        if self._margin is None:
            spec = self.runner.spec
            if spec is not None and spec.tiling == "discouraged":
                logger.warning("%s looks at the whole picture, and tiles may differ from it", spec.architecture)
            if self.overlap == "exact" and spec is not None and spec.receptive_field is not None:
                self._margin = spec.receptive_field, 0
            elif isinstance(self.overlap, int):
                self._margin = self.overlap, min(RAMP, self.overlap)
            else:
                # Half of the ramp lies on each side of a joint: all of it keeps the measured distance.
                self._margin = effective_margin(self.runner) + RAMP // 2, RAMP
        return self._margin


def auto_tile(available: int, per_pixel: float, wanted: int, device: str) -> int:
    """The side, in input pixels, of a square tile that fits half of the available memory; on the CPU, `_CPU_BUDGET`.

    Args:
        available: bytes.
        per_pixel: bytes, see `bytes_per_pixel`.
        wanted: a side that may exceed `_CPU_BUDGET`, for overlaps that leave little of a smaller tile.
        device: `cpu` or a GPU.
    """
    most = math.isqrt(int(available / 2 / per_pixel))
    usual = math.isqrt(int(_CPU_BUDGET / per_pixel)) if device == "cpu" else most
    return max(_SMALLEST_TILE, min(most, max(usual, wanted)))


def bytes_per_pixel(spec: NetworkSpec | None) -> float:
    """Peak memory of a run in bytes per input pixel, without the weights, in float32.

    In a block, three tensors of D channels (skip, residual, normalised) and three of the hidden size are alive; in the
    tail, both sides of the last PixelShuffle. Our fp32 files, whose shuffle comes last, need less.
    """
    if spec is None:
        return _UNKNOWN_BYTES
    widths = spec.widths
    body = 3 * widths.body + 3 * widths.hidden
    tail = widths.tail * (2 * spec.scale**2 + 1)
    return 4 * max(body, tail) * _ARENA


def available_memory(device: str) -> int:
    """Free bytes: of NVIDIA's GPU, or of the machine and of this process's control group, whichever has less."""
    chosen = device_of(device)
    if chosen.nvidia:
        import torch

        if torch.cuda.is_available():
            return int(torch.cuda.mem_get_info(chosen.index)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
