"""The types of a graph, as a strongly typed runtime reads them."""

from __future__ import annotations

import functools

import ml_dtypes
import onnx
import onnx_ir as ir

from aether_deploy.errors import ExportError

__all__ = [
    "FLOATING",
    "HALF_TYPES",
    "Slots",
    "cast_type",
    "declared_type",
    "largest_finite",
    "slots_of",
    "tensor_types",
]

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
        slots = slots_of(node, graph)
        kinds = {types[value] for index, value in enumerate(node.inputs) if value in types and slots.free_input(index)}
        if node.op_type == "Cast":
            kinds = {cast_type(node)}
        if len(kinds) > 1:
            seen = ", ".join(sorted(kind.name for kind in kinds))
            raise ExportError(f"{node.op_type} {node.outputs[0].name} mixes {seen}; not strongly typed")
        if kinds <= FLOATING:
            outputs = [output for index, output in enumerate(node.outputs) if slots.free_output(index)]
            types |= {output: kind for output in outputs for kind in kinds}
    for value in graph.outputs:
        if value.dtype != types.get(value, value.dtype):
            raise ExportError(f"{value.name} is declared {value.dtype}, but computed in {types[value]}")
    return types


class Slots:
    """Which inputs and outputs of an operator can be of any floating-point type, by ONNX's own definition of it.

    Not the scales of a Resize, which are fp32 whatever is resized, nor the result of Shape.

    Args:
        schema: None for an operator of another domain, which is taken to compute throughout in one type.
    """

    def __init__(self, schema: onnx.defs.OpSchema | None) -> None:
        self._all = schema is None
        self._inputs: list[bool] = []
        self._outputs: list[bool] = []
        if schema is not None:
            kinds = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
            self._inputs, self._outputs = (
                ["tensor(float16)" in kinds.get(formal.type_str, ()) for formal in formals]
                for formals in (schema.inputs, schema.outputs)
            )

    def free_input(self, index: int) -> bool:
        """Whether input `index` is such a one; those beyond the last are like it."""
        return self._all or self._inputs[min(index, len(self._inputs) - 1)]

    def free_output(self, index: int) -> bool:
        """Whether output `index` is such a one; those beyond the last are like it."""
        return self._all or self._outputs[min(index, len(self._outputs) - 1)]


def slots_of(node: ir.Node, graph: ir.Graph) -> Slots:
    """See `Slots`."""
    return _slots(node.domain, node.op_type, graph.opset_imports.get(node.domain, 0))


@functools.cache
def _slots(domain: str, op_type: str, version: int) -> Slots:
    try:
        return Slots(onnx.defs.get_schema(op_type, version, domain))
    except onnx.defs.SchemaError:
        return Slots(None)


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
