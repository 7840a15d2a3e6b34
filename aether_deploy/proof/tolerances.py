"""The one table of tolerances: how far an artifact of each precision may be from the network as it was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["TOLERANCES", "Tolerance"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The most that an artifact of one precision may differ from the network as it was trained.

    Attributes:
        max_abs: of a single value, in output units (1.0 is white).
        mean_abs: of a case's mean absolute error, in output units.
        min_psnr: dB between both outputs, peak 1.0.
        drawn: by how much errors may be larger on what is drawn (noise at full contrast, a one-pixel
            checkerboard), whose activations are larger than those of any photo.
    """

    max_abs: float
    mean_abs: float
    min_psnr: float
    drawn: float = 1.0

    def for_drawn(self) -> Tolerance:
        """The row for noise and patterns: errors `drawn` times as large, PSNR lower by as much."""
        return Tolerance(
            self.max_abs * self.drawn, self.mean_abs * self.drawn, self.min_psnr - 20 * math.log10(self.drawn)
        )


# One row a precision. What is right was measured on the packaged sample, on small, medium and large, and on
# tiny networks whose every parameter is random (the worst); what is wrong, on the sample with one block of
# four damaged: LayerNorm eps 1e-5 for 1e-6 (the least visible) errs by 3e-5 at most and 2e-5 on average, a
# small kernel shifted by one pixel by 0.16, dropped by 0.24; after 2,000 iterations of training by 2e-3 and 6e-3.
TOLERANCES: dict[str, Tolerance] = {
    # The fused network, its weights rounded to float32, run in float64: right is below 2e-7, 3e-8 on average.
    "fp64": Tolerance(max_abs=1e-6, mean_abs=1e-7, min_psnr=140),
    # Float32 arithmetic in another order: right is below 4e-6, 3e-7 on average.
    "fp32": Tolerance(max_abs=2e-5, mean_abs=1e-6, min_psnr=110),
    # On photos half an 8-bit level, and 70 dB, whose root mean square error bounds the mean. Right is below 0.18
    # of a level and above 77 dB there with the default islands, 0.36 and 69 dB on what is drawn
    # (benchmarks/islands.py). What is too small to be seen here is found before rounding: see `onnx_proof`.
    "fp16": Tolerance(max_abs=0.5 / 255, mean_abs=3.2e-4, min_psnr=70, drawn=2),
    # Three bits less of mantissa, so eight times each.
    "bf16": Tolerance(max_abs=4 / 255, mean_abs=2.6e-3, min_psnr=52, drawn=2),
}
