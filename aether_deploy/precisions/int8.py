"""int8: linear layers in 8-bit integers, the rest in fp32."""

from __future__ import annotations

import dataclasses

from aether_deploy.precisions.fp16 import FP16
from aether_deploy.precisions.precision import Precision, Tolerance

__all__ = ["INT8", "INT8_FAST"]

INT8 = Precision(
    name="int8",
    storage="INT8",
    tensorrt="INT8",
    bytes=4,  # what flows between layers
    min_opset=17,
    # Half an 8-bit level on photos, as fp16. The layers behind norms, without those that cost too much, pass it.
    tolerance=FP16.tolerance,
    quantizes="normed",
    max_lost=0.01,
)

INT8_FAST = dataclasses.replace(
    INT8,
    name="int8-fast",
    # What nobody sees: at most 0.01 dB lost against ground truth, and a level at the 99.9th percentile. The mean is
    # bounded by the root mean square error of 60 dB.
    tolerance=Tolerance(max_abs=5 / 255, mean_abs=1e-3, min_psnr=60, drawn=4, p999_abs=1 / 255),
    quantizes="all",
)
