"""fp32: the graph as it is exported."""

from __future__ import annotations

from aether_deploy.precisions.precision import Precision, Tolerance

__all__ = ["FP32"]

FP32 = Precision(
    name="fp32",
    storage="FLOAT",
    tensorrt="FLOAT",
    bytes=4,
    min_opset=17,
    # Float32 arithmetic in another order: right files err by less than 4e-6, 3e-7 on average.
    tolerance=Tolerance(max_abs=2e-5, mean_abs=1e-6, min_psnr=110, relative=True),
)
