"""Runs pictures of any size through a network in bounded memory: overlapping tiles whose seams do not show.

Along an axis all tiles have the same size. Neighbours overlap by at least twice the margin and are joined in the middle
of the overlap, so the output within the margin of a tile's inner edges, where it lacked context, is not used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aether_deploy.arrays import Array, Pixels, Shape, quantize
from aether_deploy.errors import RunnerError
from aether_deploy.pictures.sizes import run_fitted

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

__all__ = ["RAMP", "Axis", "Grid", "plan_axis", "plan_grid", "stitch", "stitched_rows"]

# Input pixels over which neighbours are blended, unless the overlap is exact.
RAMP = 16

# Output rows rounded at a time, so that the float copies stay small.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class Axis:
    """Tiles along one axis, in input pixels.

    Attributes:
        length: of the picture.
        tile: length of each tile; above `length` only where the network takes a single size.
        starts: where each tile begins, ascending.
        ramp: distance over which neighbours are blended; 0 for a hard joint.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    ramp: int

    def joint(self, index: int) -> float:
        """The middle of the overlap between tile `index` and the next."""
        return (self.starts[index] + self.tile + self.starts[index + 1]) / 2

    def final(self, index: int) -> int:
        """How far the axis is complete once tile `index` is done: to the start of the next tile, or to the end."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else self.length

    def weights(self, index: int, scale: int) -> NDArray[np.float32]:
        """(scale * min(tile, length),) weights of a tile, 0 to 1; over all tiles they sum to 1 everywhere."""
        size = min(self.tile, self.length)
        centres = self.starts[index] + (np.arange(size * scale) + 0.5) / scale
        weights = np.ones(size * scale)
        if index > 0:
            weights *= self._rise(centres - self.joint(index - 1))
        if index + 1 < len(self.starts):
            weights *= 1 - self._rise(centres - self.joint(index))
        return weights.astype(np.float32)

    def _rise(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(distance / self.ramp + 0.5, 0, 1) if self.ramp else (distance > 0).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Grid:
    """How a picture is cut.

    Attributes:
        rows, columns: the vertical and the horizontal axis.
        batch: tiles in one run.
    """

    rows: Axis
    columns: Axis
    batch: int = 1

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)


def plan_axis(length: int, tile: int, margin: int, *, ramp: int = 0, fixed: bool = False) -> Axis:
    """The fewest tiles of at most `tile` (exactly that, if fixed) that cover an axis, evenly spread.

    Args:
        length, tile, margin, ramp: in input pixels.
        fixed: whether the network takes only tiles of exactly that size.
    Raises:
        RunnerError: the tile is no larger than its two margins.
    """
    if length <= tile:
        return Axis(length, tile if fixed else length, (0,), 0)
    stride = tile - 2 * margin
    if stride < 1:
        raise RunnerError(
            f"a tile of {tile} has nothing left inside an overlap of {margin}; give one above {2 * margin}"
        )
    count = 1 + math.ceil((length - tile) / stride)
    if not fixed:
        tile = math.ceil((length + (count - 1) * 2 * margin) / count)
    starts = tuple(index * (length - tile) // (count - 1) for index in range(count))
    # Ramps that met would blend three tiles, and their weights would no longer sum to 1.
    narrowest = min(after - before for before, after in itertools.pairwise(starts))
    return Axis(length, tile, starts, min(ramp, 2 * margin, narrowest))


def plan_grid(
    height: int,
    width: int,
    tile: int | None,
    margin: int,
    *,
    ramp: int = 0,
    batch: int = 1,
    static: Shape | None = None,
) -> Grid:
    """How to cut a picture of (height, width).

    Args:
        height, width: in input pixels.
        tile: the largest side of a tile, in input pixels; None for one tile.
        margin: input pixels that are not used at a tile's inner edges.
        ramp: see `RAMP`; 0 for a hard joint.
        batch: tiles in one run.
        static: the only (N, C, H, W) that the network takes, if there is one; it then overrides tile and batch.
    Raises:
        RunnerError: see `plan_axis`.
    """
    if static is not None:
        batch, _, *sides = static
    elif tile is None or height * width <= tile * tile:
        sides = [height, width]
    else:
        sides = [tile, tile]
    rows, columns = (
        plan_axis(length, side, margin, ramp=ramp, fixed=static is not None)
        for length, side in zip((height, width), sides, strict=True)
    )
    return Grid(rows, columns, batch)


def stitch(runner: Runner, pixels: Pixels, grid: Grid, *, grey: bool = False) -> Pixels:
    """Upscales tile by tile; only one row of tiles is ever held in floats.

    Args:
        runner: of 3 channels.
        pixels: (H, W, 3) uint8 or uint16; a view is fine.
        grid: from `plan_grid`, for this size.
        grey: return the mean of the channels, for a grey picture given as three equal channels.
    Returns:
        (scale*H, scale*W, 3), or (scale*H, scale*W, 1) if grey, of the type of `pixels`, clamped and rounded.
    Raises:
        OutOfMemoryError: see `Runner.run`.
    """
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    size = (height * runner.scale, width * runner.scale, 1 if grey else channels)
    result: Pixels = np.empty(size, pixels.dtype)
    for row, block in stitched_rows(runner, pixels, grid):
        block = block.transpose(1, 2, 0)
        levels = quantize(block.mean(axis=2, keepdims=True) if grey else block, bits)
        result[row : row + len(levels)] = levels
    return result


def stitched_rows(runner: Runner, pixels: Pixels, grid: Grid) -> Iterator[tuple[int, Array]]:
    """The output from top to bottom, as float32, before anything is clamped or rounded.

    Args:
        runner, pixels, grid: see `stitch`.
    Yields:
        (first row, (3, rows, scale*W) of at most `_ROWS` rows); a view that is valid until the next step.
    """
    height, width, channels = pixels.shape
    scale, rows = runner.scale, grid.rows
    size = min(rows.tile, height) * scale
    band = np.zeros((channels, size, width * scale), np.float32)
    for index, start in enumerate(rows.starts):
        vertical = rows.weights(index, scale)[:, None]
        for left, horizontal, sr in _run_row(runner, pixels, grid, start):
            horizontal_end = left * scale + len(horizontal)
            band[:, :, left * scale : horizontal_end] += sr[:, :size, : len(horizontal)] * vertical * horizontal
        done = (rows.final(index) - start) * scale
        for row in range(0, done, _ROWS):
            yield start * scale + row, band[:, row : min(row + _ROWS, done)]
        carried = size - done
        # Source and target overlap where less than half of the band is done; numpy copies correctly all the same.
        band[:, :carried] = band[:, done:]
        band[:, carried:] = 0


def _run_row(runner: Runner, pixels: Pixels, grid: Grid, top: int) -> Iterator[tuple[int, NDArray[np.float32], Array]]:
    """(left, weights, (3, h, w) output) of each tile in the row of tiles that begins at `top`."""
    columns, rows = grid.columns, grid.rows
    indices = range(len(columns.starts))
    for first in range(0, len(indices), grid.batch):
        chosen = indices[first : first + grid.batch]
        tiles = [_tile(pixels, top, columns.starts[index], rows.tile, columns.tile) for index in chosen]
        if runner.static is not None:
            tiles += [tiles[-1]] * (grid.batch - len(tiles))
        output = run_fitted(runner, np.stack(tiles))
        for index, sr in zip(chosen, output, strict=False):
            yield columns.starts[index], columns.weights(index, runner.scale), sr


def _tile(pixels: Pixels, top: int, left: int, height: int, width: int) -> Array:
    """(3, height, width) in [0, 1]; mirrored where the picture ends before the tile does."""
    part = pixels[top : top + height, left : left + width]
    missing = (height - part.shape[0], width - part.shape[1])
    if any(missing):
        part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    peak = np.float32(2 ** (pixels.dtype.itemsize * 8) - 1)
    return np.ascontiguousarray(part.transpose(2, 0, 1)).astype(np.float32) / peak
