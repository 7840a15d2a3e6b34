"""fp8: linear layers in 8-bit floats (E4M3: 4 significant bits, up to 448), the rest in fp32."""

from __future__ import annotations

import dataclasses

from aether_deploy.precisions.int8 import INT8_FAST

__all__ = ["FP8"]

FP8 = dataclasses.replace(
    INT8_FAST,
    name="fp8",
    storage="FLOAT8E4M3FN",
    tensorrt="FP8",
    # QuantizeLinear has 8-bit floats from this opset on.
    min_opset=19,
    least_capability=(8, 9),
    in_onnxruntime=False,
)
