"""The types of a graph, as a strongly typed runtime reads them, and what each type holds."""

from __future__ import annotations

import onnx_ir as ir

from aether_deploy.errors import ExportError

__all__ = ["DTYPES", "HALF", "IO", "LIMITS", "MIN_OPSETS", "declared_type", "tensor_types"]

DTYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
HALF = ("fp16", "bf16")

# What a file may have at both ends.
IO = ("fp32", "fp16")

# The largest finite value of each type.
LIMITS = {"fp16": 65504.0, "bf16": 3.3895313892515355e38, "fp32": 3.4028234663852886e38}

# Conv takes bfloat16 from opset 22 on.
MIN_OPSETS = {"fp16": 17, "bf16": 22}


def tensor_types(graph: ir.Graph) -> dict[ir.Value, ir.DataType]:
    """The type of every tensor, as a strongly typed runtime reads it off the graph.

    Raises:
        ExportError: an operator whose inputs have more than one type, or an output that is declared otherwise.
    """
    types: dict[ir.Value, ir.DataType] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        types[value] = declared_type(value)
    for node in graph:
        kinds = {types[value] for value in node.inputs if value is not None}
        if node.op_type == "Cast":
            kinds = {ir.DataType(node.attributes["to"].as_int())}
        if len(kinds) != 1:
            seen = ", ".join(sorted(kind.name for kind in kinds))
            raise ExportError(f"{node.op_type} {node.outputs[0].name} mixes {seen}; not strongly typed")
        types[node.outputs[0]] = kinds.pop()
    for value in graph.outputs:
        if value.dtype != types[value]:
            raise ExportError(f"{value.name} is declared {value.dtype}, but computed in {types[value]}")
    return types


def declared_type(value: ir.Value) -> ir.DataType:
    """The type that an initializer is stored in, or that an end of the graph is declared to have.

    Raises:
        ExportError: it has none.
    """
    tensor = value.const_value
    kind = tensor.dtype if tensor is not None else value.dtype
    if kind is None:
        raise ExportError(f"{value.name} has no type")
    return kind
