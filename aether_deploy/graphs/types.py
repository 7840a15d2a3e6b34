"""The types of a graph, as a strongly typed runtime reads them."""

from __future__ import annotations

import ml_dtypes
import onnx_ir as ir

from aether_deploy.errors import ExportError

__all__ = ["FLOATING", "HALF_TYPES", "cast_type", "declared_type", "largest_finite", "tensor_types"]

# The two-byte types, whose results are rounded.
HALF_TYPES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
FLOATING = HALF_TYPES | {ir.DataType.FLOAT, ir.DataType.DOUBLE}


def largest_finite(kind: ir.DataType) -> float:
    """The largest finite value of a floating-point type: 65504 for FLOAT16."""
    return float(ml_dtypes.finfo(kind.numpy()).max)  # type: ignore[no-untyped-call]


def tensor_types(graph: ir.Graph) -> dict[ir.Value, ir.DataType]:
    """The type of every floating-point tensor, as a strongly typed runtime reads it from the graph.

    Raises:
        ExportError: an operator's inputs have more than one such type, or an output is declared as another type.
    """
    types: dict[ir.Value, ir.DataType] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        if (kind := declared_type(value)) in FLOATING:
            types[value] = kind
    for node in graph:
        kinds = {types[value] for value in node.inputs if value in types}
        if node.op_type == "Cast":
            kinds = {cast_type(node)}
        if len(kinds) > 1:
            seen = ", ".join(sorted(kind.name for kind in kinds))
            raise ExportError(f"{node.op_type} {node.outputs[0].name} mixes {seen}; not strongly typed")
        if kinds <= FLOATING:
            types |= {output: kind for output in node.outputs for kind in kinds}
    for value in graph.outputs:
        if value.dtype != types.get(value, value.dtype):
            raise ExportError(f"{value.name} is declared {value.dtype}, but computed in {types[value]}")
    return types


def cast_type(node: ir.Node) -> ir.DataType:
    """What a Cast casts to.

    Raises:
        ExportError: it does not say, or there is no such type.
    """
    try:
        return ir.DataType(node.attributes["to"].as_int())
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{node.outputs[0].name} is cast to an unknown type") from error


def declared_type(value: ir.Value) -> ir.DataType:
    """The type that an initializer is stored in, or that a graph's input or output is declared to have.

    Raises:
        ExportError: it has no type.
    """
    tensor = value.const_value
    kind = tensor.dtype if tensor is not None else value.dtype
    if kind is None:
        raise ExportError(f"{value.name} has no type")
    return kind
