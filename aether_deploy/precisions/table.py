"""The precisions that a file can have. A new one is a file beside these and a line here."""

from __future__ import annotations

from aether_deploy.precisions.bf16 import BF16
from aether_deploy.precisions.fp8 import FP8
from aether_deploy.precisions.fp16 import FP16
from aether_deploy.precisions.fp32 import FP32
from aether_deploy.precisions.int8 import INT8, INT8_FAST
from aether_deploy.precisions.int8_fp16 import INT8_FP16
from aether_deploy.precisions.precision import Precision

__all__ = ["PRECISIONS"]

PRECISIONS: dict[str, Precision] = {row.name: row for row in (FP32, FP16, BF16, INT8, INT8_FAST, INT8_FP16, FP8)}
