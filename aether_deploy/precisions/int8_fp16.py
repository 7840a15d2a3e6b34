"""int8-fp16: linear layers in 8-bit integers, the rest in fp16, as engines want it."""

from __future__ import annotations

import dataclasses

from aether_deploy.precisions.int8 import INT8

__all__ = ["INT8_FP16"]

INT8_FP16 = dataclasses.replace(
    INT8,
    name="int8-fp16",
    bytes=2,
    # QuantizeLinear has fp16 from this opset on.
    min_opset=19,
    half="FLOAT16",
    wider="int8",
)
