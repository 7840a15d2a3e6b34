"""fp32 ONNX -> strongly typed fp16 or bf16: a pass on onnx-ir.

TensorRT 11 and TensorRT-RTX take each operator's precision from the types in the graph, so half precision is decided in
the graph. Every floating-point tensor of the result has one type, fixed by the initializers, the graph's input and
output, and the Cast nodes; what a policy calls an island is computed in fp32.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from aether_deploy.errors import ExportError
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.graphs.half_weights import round_weights
from aether_deploy.graphs.only_rounded import require_only_rounded
from aether_deploy.graphs.types import FLOATING, cast_type, declared_type, largest_finite, slots_of, tensor_types
from aether_deploy.network.family import Roles

__all__ = ["UNCAST", "HalfPrecision", "to_half"]

# What a length goes through before it divides.
_LENGTHENED = frozenset({"Clip", "Max", "Expand"})

# Behind the name of a result before its last Cast, which has the name itself.
UNCAST = "_uncast"


def to_half(
    model: ir.Model,
    half: ir.DataType,
    *,
    name: str,
    roles: Roles,
    policy: str,
    kept: frozenset[str],
    io: ir.DataType = ir.DataType.FLOAT,
) -> Conversion:
    """The model in half precision, strongly typed; the given one is not changed.

    The result is compared with the given model: see `require_only_rounded`.

    Args:
        model: fp32 throughout, one input and one output.
        half: FLOAT16 or BFLOAT16.
        name: of the precision, for people.
        roles: which operators are norms, and where head and tail are.
        policy: the name of what is kept, for people.
        kept: the parts that compute in fp32: any of head, norm, tail.
        io: the type of input and output, FLOAT or FLOAT16.
    Raises:
        ExportError: the model is not fp32 throughout, a weight overflows, or more than the rounding differs.
    """
    # If the input arrives in half, an fp32 head would only widen it.
    kept = kept if io == ir.DataType.FLOAT else kept - {"head"}
    try:
        result = HalfPrecision(half, roles=roles, kept=kept, io=io, policy=policy)(model)
    except ir.passes.InvariantError as error:
        raise ExportError(str(error)) from error
    assert isinstance(result, Conversion)
    result.weights.require(name, largest_finite(half))
    require_only_rounded(model, result.model, half, roles=roles, kept=kept)
    return result


class HalfPrecision(ir.passes.FunctionalPass):
    """fp32 -> strongly typed half precision with fp32 islands.

    Requires a graph in fp32 without casts between floating-point types. Ensures that every operator's tensors have one
    type and that input and output have type `io`. Each weight is stored once.

    Args:
        half, roles, kept, io, policy: see `to_half`.
    """

    def __init__(
        self, half: ir.DataType, *, roles: Roles, kept: frozenset[str], io: ir.DataType, policy: str = ""
    ) -> None:
        self.half = half
        self.roles = roles
        self.kept = kept
        self.io = io
        self.policy = policy

    def requires(self, model: ir.Model) -> None:
        """Raises PreconditionError unless the graph is fp32 throughout and has one input and one output."""
        graph = model.graph
        ends = [*graph.inputs, *graph.outputs]
        if len(graph.inputs) != 1 or len(graph.outputs) != 1 or model.functions:
            raise ir.passes.PreconditionError("a graph of one input and one output and no functions is expected")
        weights = [value for value in graph.initializers.values() if value.dtype in FLOATING]
        for value in (*ends, *weights):
            if value.dtype != ir.DataType.FLOAT:
                raise ir.passes.PreconditionError(f"{value.name} is {value.dtype}; a graph in fp32 is expected")
        numbers = tensor_types(graph)
        for node in graph.all_nodes():
            if node.op_type == "Cast" and node.inputs[0] in numbers and cast_type(node) in FLOATING:
                raise ir.passes.PreconditionError("the graph has casts already; a graph in fp32 is expected")

    def call(self, model: ir.Model) -> Conversion:
        """A converted copy; see `to_half`."""
        model = model.clone()
        graph = model.graph
        roles = _roles(graph, self.roles)
        numbers = tensor_types(graph)
        types = {
            node: ir.DataType.FLOAT if role in self.kept else self.half
            for node, role in roles.items()
            if any(value in numbers for value in node.outputs)  # the others compute sizes and places
        }
        types |= {node: types[source] for node, source in _quantizers(graph) if source in types}
        types |= dict.fromkeys(_places(graph), ir.DataType.FLOAT)
        for node in (node for node, kind in types.items() if node.op_type == "Cast" and kind == self.half):
            node.attributes["to"] = ir.AttrInt64("to", self.half.value)
        weights = round_weights(graph, types, self.half)
        graph.inputs[0].type = ir.TensorType(self.io)
        _insert_casts(graph, types)
        _type_output(graph, types, self.io)
        ops = Counter(node.op_type for node, kind in types.items() if kind == ir.DataType.FLOAT)
        casts = sum(node.op_type == "Cast" for node in graph)
        return Conversion(model, True, weights, casts, dict(sorted(ops.items())), self.policy)

    def ensures(self, model: ir.Model) -> None:
        """Raises PostconditionError unless the graph is strongly typed and input and output have type `io`."""
        graph = model.graph
        try:
            types = tensor_types(graph)
        except ExportError as error:
            raise ir.passes.PostconditionError(str(error)) from error
        if types[graph.inputs[0]] != self.io or types[graph.outputs[0]] != self.io:
            raise ir.passes.PostconditionError(f"input and output are not {self.io}")


def _quantizers(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node | None]]:
    """Nodes that give 8 bits, and what made their inputs: they take those in the type that they come in."""
    for node in graph:
        if node.op_type == "QuantizeLinear" and node.inputs[0] is not None:
            yield node, node.inputs[0].producer()


def _places(graph: ir.Graph) -> set[ir.Node]:
    """What computes sizes and places in floats, and ends in integers: half precision has not enough digits for them."""
    found: set[ir.Node] = set()
    numbers = tensor_types(graph)
    for node in reversed(graph):
        uses = [use.node for value in node.outputs if value in numbers for use in value.uses()]
        if uses and all(use in found or (use.op_type == "Cast" and cast_type(use) not in FLOATING) for use in uses):
            found.add(node)
    return found


def _roles(graph: ir.Graph, roles: Roles) -> dict[ir.Node, str]:
    """The role of every node, `head`, `norm`, `tail` or `body`, in the order of the graph.

    The head is everything before the first convolution; the tail is the last convolution and everything after it.
    """
    found = {node: "norm" if node.op_type in roles.norm else "body" for node in graph}
    lengths: set[ir.Value] = set()
    for node in graph:
        if node.op_type in roles.lengths or (node.op_type in _LENGTHENED and node.inputs[0] in lengths):
            lengths.update(node.outputs)
            found[node] = "norm"
        elif node.op_type == "Div" and node.inputs[1] in lengths:
            found[node] = "norm"
    for node in itertools.takewhile(lambda node: node.op_type != roles.ends, graph):
        found[node] = "head"
    last = max((number for number, node in enumerate(graph) if node.op_type == roles.ends), default=len(found))
    for node in itertools.islice(graph, last, None):
        found[node] = "tail"
    return found


def _insert_casts(graph: ir.Graph, types: dict[ir.Node, ir.DataType]) -> None:
    """Gives every node its inputs in its own type, with at most one Cast per tensor and type."""
    known = {value: declared_type(value) for value in (*graph.inputs, *graph.initializers.values())}
    known = {value: kind for value, kind in known.items() if kind in FLOATING}
    done: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node, wanted in types.items():
        slots = slots_of(node, graph)
        for index, value in enumerate(node.inputs):
            kind = wanted if slots.free_input(index) else ir.DataType.FLOAT
            if value is None or known.get(value, kind) == kind:
                continue
            if (value, kind) not in done:
                cast = _cast_node(value, kind, f"{value.name}_{kind.name.lower()}")
                graph.insert_before(node, cast)
                done[value, kind] = cast.outputs[0]
            node.replace_input_with(index, done[value, kind])
        known |= {value: wanted for index, value in enumerate(node.outputs) if slots.free_output(index)}


def _cast_node(value: ir.Value, kind: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": kind.value}, name=f"cast_{name}")
    node.outputs[0].name = name
    return node


def _type_output(graph: ir.Graph, types: dict[ir.Node, ir.DataType], io: ir.DataType) -> None:
    """Sets the output's type and keeps its name and shape; adds a last Cast if it is not computed in type `io`."""
    last = graph.outputs[0]
    producer = last.producer()
    assert producer is not None
    if types[producer] != io:
        name = str(last.name)
        last.name = f"{name}{UNCAST}"
        cast = _cast_node(last, io, name)
        cast.outputs[0].shape, last.shape, last.type = last.shape, None, None
        graph.insert_after(producer, cast)
        graph.outputs[0] = last = cast.outputs[0]
    last.type = ir.TensorType(io)
