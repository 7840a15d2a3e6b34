"""The rows by which everything is judged: those of the precision table, and one for float64.

What is right was measured on the packaged sample, on small, medium and large, and on tiny networks whose every
parameter is random (the worst); what is wrong, on the sample with one block of four damaged: LayerNorm eps 1e-5 for
1e-6 (the least visible) errs by 3e-5 at most and 2e-5 on average, a small kernel shifted by one pixel by 0.16, dropped
by 0.24; after 2,000 iterations of training by 2e-3 and 6e-3.
"""

from __future__ import annotations

from aether_deploy.precisions.precision import Tolerance
from aether_deploy.precisions.table import PRECISIONS

__all__ = ["TOLERANCES", "Tolerance"]

TOLERANCES: dict[str, Tolerance] = {
    # The fused network, its weights rounded to float32, run in float64: right is below 2e-7, 3e-8 on average.
    "fp64": Tolerance(max_abs=1e-6, mean_abs=1e-7, min_psnr=140, relative=True),
    **{name: row.tolerance for name, row in PRECISIONS.items()},
}
