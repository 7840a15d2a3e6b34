"""Rounds a graph's weights to half precision, and counts what that loses instead of hiding it by clamping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from aether_deploy.errors import ExportError
from aether_deploy.graphs.types import FLOATING, slots_of

__all__ = ["WeightLoss", "round_weights"]


@dataclass(frozen=True, slots=True)
class WeightLoss:
    """What rounding did to the weights.

    Attributes:
        rounded: number of weights now stored in half precision or 8 bits.
        overflow: number of finite ones that became infinite.
        underflow: number of nonzero ones that became zero.
        largest: largest absolute value before rounding.
        worst: the initializer that holds it.
    """

    rounded: int
    overflow: int
    underflow: int
    largest: float
    worst: str

    def __add__(self, other: WeightLoss) -> WeightLoss:
        """What two roundings of different weights did."""
        largest, worst = max((self.largest, self.worst), (other.largest, other.worst))
        counts = (self.rounded + other.rounded, self.overflow + other.overflow, self.underflow + other.underflow)
        return WeightLoss(*counts, largest, worst)

    def require(self, precision: str, limit: float) -> None:
        """Raises ExportError if a weight overflowed; nothing is clamped."""
        if self.overflow:
            raise ExportError(
                f"{self.overflow} weights overflow {precision}: {self.worst} reaches {self.largest:.3g}, "
                f"at most {limit:.5g} fits; use --precision bf16, or fp32"
            )


def round_weights(graph: ir.Graph, types: Mapping[ir.Node, ir.DataType], half: ir.DataType) -> WeightLoss:
    """Stores each initializer of a graph once: in half if any node that computes in half reads it, else in fp32.

    Args:
        graph: in fp32; changed in place.
        types: node -> the type that it computes in.
        half: FLOAT16 or BFLOAT16.
    """
    rounded = overflow = underflow = 0
    largest, worst = 0.0, ""
    for value in graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.dtype not in FLOATING or not any(
            types.get(use.node) == half and slots_of(use.node, graph).free_input(use.idx) for use in value.uses()
        ):
            continue
        before: NDArray[Any] = tensor.numpy()
        with np.errstate(over="ignore"):
            after = before.astype(half.numpy())
        rounded += before.size
        overflow += int(np.sum(np.isinf(after.astype(np.float32)) & np.isfinite(before)))
        underflow += int(np.sum((after == 0) & (before != 0)))
        peak = float(np.abs(before).max(initial=0))
        if peak > largest:
            largest, worst = peak, str(value.name)
        value.const_value = ir.Tensor(after, dtype=half, name=value.name)
        # A new type object: a cloned model shares the old one with its original.
        value.type = ir.TensorType(half)
    return WeightLoss(rounded, overflow, underflow, largest, worst)
