"""Something to time, and its measurements."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aether_deploy.arrays import Array

__all__ = ["BASELINE", "Contender", "Run", "Timing"]


Run = Callable[[Array], Array]

BASELINE = "torch eager, unfused"


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time. It is sent to a process of its own, so it is plain data.

    Attributes:
        name: shown to people.
        kind: how `open_contender` opens the file.
        path: a checkpoint or an ONNX file.
        peer: whether it is made as another project makes it.
        half: whether it computes in half precision.
    """

    name: str
    kind: str
    path: Path
    peer: bool = False
    half: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """One contender on one input.

    Attributes:
        contender: what was timed.
        seconds: of each round, in order.
        first: seconds of the first run, which compiles and allocates; not part of `seconds`.
        peak_rss: peak memory of its process, in bytes.
        max_abs: largest difference from the first contender's output, in output units.
    """

    contender: Contender
    seconds: tuple[float, ...]
    first: float
    peak_rss: int
    max_abs: float

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def ratio(self, baseline: Timing) -> float:
        """How many times faster than the baseline: the median of the ratios within each round."""
        return statistics.median(b / own for own, b in zip(self.seconds, baseline.seconds, strict=True))
