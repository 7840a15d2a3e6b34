"""How far the effect of a tile's edge reaches inwards, measured on the network itself: the overlap of `auto`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aether_deploy.arrays import Array
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.pictures.sizes import fitted, run_fitted
from aether_deploy.samples import PHOTOS

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

__all__ = ["effective_margin"]

logger = logging.getLogger(__name__)

# How much an edge may change values beyond the margin, in 8-bit levels: after rounding, one level at most.
EDGE_LEVELS = 0.25

# The probes: (height, width) of a strip of a photo, the offset of a second strip, and the number of photos.
_PROBE = (48, 256)
_PROBE_OFFSET = 64
_PROBE_PHOTOS = 2


def effective_margin(runner: Runner) -> int:
    """The distance from a tile's edge, in input pixels, beyond which the edge changes next to nothing.

    Measured on this network: two strips of a photo, one shifted against the other, differ only because of their edges.
    The receptive field is the upper bound, but in a trained network the influence fades long before it.

    Returns:
        the smallest margin beyond which no value differs by more than `EDGE_LEVELS`; if the strips show none,
        the receptive field, or half the strips' overlap where the file does not say what network it holds.
    """
    limit = EDGE_LEVELS / 255
    reach, worst = 0, 0
    for path in list_images(PHOTOS)[:_PROBE_PHOTOS]:
        photo = read_image(path)
        for axis in (2, 3):
            errors = _edge_errors(runner, photo, axis)
            reach = len(errors)
            beyond = np.nonzero(errors > limit)[0]
            worst = max(worst, int(beyond[-1]) + 1 if len(beyond) else 0)
    bound = (runner.spec.receptive_field if runner.spec else None) or reach
    margin = min(worst, bound) if worst < reach else bound
    logger.info("measured overlap: %d pixels (receptive field: %d)", margin, bound)
    return margin


def _edge_errors(runner: Runner, photo: Array, axis: int) -> NDArray[np.float64]:
    """(reach,) largest difference, in output units, at each distance along `axis` from an edge, in input pixels."""
    static = runner.static
    across, along = _PROBE if static is None else (static[5 - axis], static[axis])
    offset = min(_PROBE_OFFSET, along // 4)
    shape = (across, along + offset) if axis == 3 else (along + offset, across)
    strip = fitted(photo, 1, *shape)
    strip = strip if axis == 3 else strip.transpose(0, 1, 3, 2)
    both = [strip[..., :along], strip[..., offset:]]
    count = 1 if static is None else static[0]
    outputs = []
    for part in both:
        part = part if axis == 3 else part.transpose(0, 1, 3, 2)
        output = run_fitted(runner, np.ascontiguousarray(part.repeat(count, axis=0)))[:1]
        outputs.append(output if axis == 3 else output.transpose(0, 1, 3, 2))
    scale = runner.scale
    difference = np.abs(outputs[0][..., offset * scale :] - outputs[1][..., : (along - offset) * scale])
    columns = difference.max(axis=(0, 1, 2)).reshape(-1, scale).max(axis=1).astype(np.float64)
    # A column is near the right edge of one strip, or the left edge of the other.
    folded: NDArray[np.float64] = np.maximum(columns, columns[::-1])[: len(columns) // 2]
    return folded
