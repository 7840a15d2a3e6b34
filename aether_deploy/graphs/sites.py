"""The tensors of a graph at which two forms of one network can be compared, read, replaced or shifted.

A site is the result of an operator that computes; what only moves or converts values belongs to the site behind it.
Names survive every pass (see `layer_names`), so a site has the same one in every form of a network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from aether_deploy.graphs.half_precision import UNCAST
from aether_deploy.graphs.layer_names import layer_of
from aether_deploy.graphs.types import HALF_TYPES, tensor_types

__all__ = ["Site", "given", "part", "read", "shifted", "sites_of", "upstream"]

# These move or convert values; their errors are those of the site that reads them.
_PASSING = frozenset(
    [
        *("Cast", "QuantizeLinear", "DequantizeLinear", "Transpose", "DepthToSpace", "SpaceToDepth", "Reshape"),
        *("Identity", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice", "Concat", "Expand"),
    ]
)


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the network.

    Attributes:
        name: of the tensor, the same in every form of the network.
        layer: of the network, such as `layers.0.1.ffn.fc2`; the tensor's own name outside all layers.
        op: type of the operator whose result it is.
    """

    name: str
    layer: str
    op: str


def sites_of(model: ir.Model) -> list[Site]:
    """The sites of a graph in the order of execution; the last is its output."""
    found, last = [], str(model.graph.outputs[0].name)
    numbers = tensor_types(model.graph)
    for node in model.graph:
        value = node.outputs[0]
        if node.op_type in _PASSING or value not in numbers:
            continue
        name = str(value.name).removesuffix(UNCAST)
        found.append(Site(name, layer_of(node) or name, node.op_type))
    if not found or found[-1].name != last:  # the output is a moved one
        found.append(Site(last, found[-1].layer if found else last, found[-1].op if found else "Identity"))
    return found


def read(model: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy whose outputs are these tensors as well, the image first."""
    model = model.clone()
    types = tensor_types(model.graph)
    for value in _values(model.graph, names):
        _add_output(model.graph, value, types[value])
    return model


def given(model: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy in which whatever reads one of these tensors reads an input `<name>_given` instead, in fp32.

    So each site is computed from exact values, alone. Its outputs are those of `read`.
    """
    model = model.clone()
    graph, types = model.graph, tensor_types(model.graph)
    for value in list(_values(graph, names)):
        put = _input(graph, f"{value.name}_given")
        source = put
        if types[value] in HALF_TYPES:
            cast = ir.node("Cast", [put], {"to": types[value].value}, name=f"{put.name}_cast")
            cast.outputs[0].name = cast.name
            graph.insert_before(graph[0], cast)
            source = cast.outputs[0]
        for use in list(value.uses()):
            use.node.replace_input_with(use.idx, source)
        _add_output(graph, value, types[value])
    return model


def shifted(model: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy in which an input `<name>_shift`, which broadcasts, is added to each of these tensors; in fp32."""
    model = model.clone()
    graph = model.graph
    for value in list(_values(graph, names)):
        uses = list(value.uses())
        put = _input(graph, f"{value.name}_shift")
        add = ir.node("Add", [value, put], name=f"{value.name}_shifted")
        add.outputs[0].name = add.name
        producer = value.producer()
        assert producer is not None  # see `sites_of`
        graph.insert_after(producer, add)
        for use in uses:
            use.node.replace_input_with(use.idx, add.outputs[0])
    return model


def part(model: ir.Model, site: str, cuts: Collection[str]) -> ir.Model:
    """What computes a site from these tensors and the network's input, as a graph of its own."""
    model = given(model, [name for name in cuts if name != site])
    graph = model.graph
    (end,) = _values(graph, [site], outputs=True)
    nodes = set(upstream(end))
    kind = tensor_types(graph)[end]
    for value in list(graph.outputs):
        graph.outputs.remove(value)
    for node in [node for node in reversed(graph) if node not in nodes]:
        graph.remove(node, safe=True)
    for value in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(value)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    end.type, end.shape = ir.TensorType(kind), None
    graph.outputs.append(end)
    return model


def upstream(end: ir.Value, cuts: Collection[str] = ()) -> Iterator[ir.Node]:
    """The operators that compute a tensor, from it back to the cuts, the nearest first; each once."""
    waiting, seen = [end], set()
    while waiting:
        value = waiting.pop(0)
        node = value.producer()
        if node is None or node in seen or (value.name in cuts and value is not end):
            continue
        seen.add(node)
        yield node
        waiting.extend(item for item in node.inputs if item is not None)


def _values(graph: ir.Graph, names: Collection[str], *, outputs: bool = False) -> Iterator[ir.Value]:
    """The tensors of these names; without the graph's own output unless `outputs`."""
    wanted, ends = set(names), set() if outputs else set(graph.outputs)
    for node in graph:
        yield from (value for value in node.outputs if value.name in wanted and value not in ends)


def _input(graph: ir.Graph, name: str) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(value)
    return value


def _add_output(graph: ir.Graph, value: ir.Value, kind: ir.DataType) -> None:
    value.type, value.shape = ir.TensorType(kind), None
    graph.outputs.append(value)
