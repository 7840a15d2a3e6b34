"""How large a step's files will be, and how long and how much memory making them will take: about, for a dry run."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.photos import parity_photos

if TYPE_CHECKING:
    from aether_deploy.recipes.record import Made
    from aether_deploy.recipes.steps import Step
    from aether_deploy.recipes.work import Work

__all__ = ["Estimate", "estimate"]

# Fitted to small, medium and large at x2 (benchmarks/README.md, "the pipeline's own cost"): a run over all cases
# reaches this share of a matrix product's speed, and the peak is that of the libraries and seven times the weights.
_SHARE = 0.45
_LIBRARIES, _COPIES = 0.78 * 2**30, 7
# Seconds that do not depend on the network, and runs over all cases, of each kind of step; half precision is run
# before rounding, and then operator by operator.
_FIXED = {"fuse": 0.5, "validate": 30.0, "export": 7.0, "report": 4.0, "release": 6.0}
_RUNS = {"fuse": 1, "validate": 4, "export": 1, "report": 3, "release": 4}
_RUNS_ROUNDED = 4
# Of building an engine, for each million of weights (benchmarks/README.md, "engine builds").
_ENGINE = 4.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what a step takes.

    Attributes:
        bytes: of its files; None if unknown.
        seconds: that it takes on this machine.
        memory: peak, in bytes.
    """

    bytes: int | None
    seconds: float
    memory: int


def estimate(work: Work, step: Step, known: Made | None, *, check: bool) -> Estimate:
    """The estimate of a step; its time is that of its last run if there was one.

    Args:
        work: the recipe.
        step: of it.
        known: what was recorded of it.
        check: whether it is only compared again.
    """
    count = _weights(work)
    run = _flops(work) / (_product_rate() * _SHARE)
    rounded = step.target is not None and step.target.variant.row.rounds
    runs = (_RUNS_ROUNDED if rounded else _RUNS[step.kind]) * run
    seconds = _FIXED[step.kind] + runs + (_ENGINE * count / 1e6 if step.target and step.target.engine else 0)
    if check:
        seconds = 1 + runs
    elif known is not None and known.seconds:
        seconds = known.seconds
    size = None
    if step.kind in ("fuse", "export"):
        size = count * (PRECISIONS[step.target.variant.precision].bytes if step.target else 4)
    return Estimate(size, seconds, int(_LIBRARIES + _COPIES * 4 * count))


def _weights(work: Work) -> int:
    return sum(value.numel() for value in work.checkpoint.state_dict.values())


def _flops(work: Work) -> int:
    cases = parity_cases(parity_photos(work.images), in_chans=work.checkpoint.spec.in_chans)
    total = 0
    for case in cases:
        n, c, height, width = case.lr.shape
        total += work.checkpoint.spec.flops((n, c, height, width))
    return total


@functools.cache
def _product_rate() -> float:
    """Floating-point operations a second of a product of matrices on this machine, now."""
    size, best = 768, float("inf")
    matrix = np.ones((size, size), np.float32)
    for _ in range(4):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return float(2 * size**3 / best)
