"""The tolerances by which everything is judged: those of the precision table, and one for float64.

The errors of right files were measured on the packaged sample, on small, medium and large, and on tiny networks with
every parameter random (the worst). Those of wrong files were measured on the sample with one block of four damaged:
LayerNorm eps 1e-5 for 1e-6 (the least visible) errs by 3e-5 at most and 2e-5 on average; a small kernel shifted by one
pixel errs by 0.16, a dropped one by 0.24 (2e-3 and 6e-3 after only 2,000 iterations of training).
"""

from __future__ import annotations

from aether_deploy.precisions.precision import Tolerance
from aether_deploy.precisions.table import PRECISIONS

__all__ = ["TOLERANCES", "Tolerance"]

TOLERANCES: dict[str, Tolerance] = {
    # The fused network, its weights rounded to float32, run in float64: right ones err below 2e-7, 3e-8 on average.
    "fp64": Tolerance(max_abs=1e-6, mean_abs=1e-7, min_psnr=140, relative=True),
    **{name: row.tolerance for name, row in PRECISIONS.items()},
}
