"""Constants of an onnx-ir graph."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["new_constant"]


def new_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Adds an initializer; a pass gives its nodes new constants, since other nodes may share the old ones."""
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value
