"""Names that speak of layers: what Netron, profilers and error messages show.

PyTorch's exporter calls the weights of linear layers `val_23` and their products `val_24`; which module each node came
from is in its metadata.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

import onnx_ir as ir

__all__ = ["layer_of", "name_layers"]

_SCOPES = "pkg.torch.onnx.name_scopes"
# How the exporter spells a layer whose name is an attribute of the module's class as well.
_DICTIONARY = re.compile(r"__dict__\['_modules'\]\['(\w+)'\]")


def name_layers(graph: ir.Graph) -> None:
    """Names nodes, results and nameless constants after their layer, in place: `layers.0.1.ffn.fc2/MatMul`.

    A constant that is no parameter of the network, such as a transposed weight, becomes `layers.0.1.ffn.fc2.weight`.
    Nodes of the network itself, outside all layers, keep their names; so do input, output, parameters and buffers.
    """
    taken: Counter[str] = Counter(value.name for value in graph.initializers.values() if value.name)
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        layer = _DICTIONARY.sub(r"\1", scopes[-2]) if len(scopes) > 1 else ""
        if not layer:
            continue
        for value in node.inputs:
            if value is not None and value.is_initializer() and "." not in str(value.name):
                what = "weight" if node.op_type == "MatMul" else f"{node.op_type.lower()}_constant"
                _rename(graph, value, _unique(f"{layer}.{what}", taken))
        node.name = _unique(f"{layer}/{node.op_type}", taken)
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = node.name


def layer_of(node: ir.Node) -> str:
    """The layer that a node was named after by `name_layers`; "" outside all layers."""
    layer, slash, _ = str(node.name).partition("/")
    return layer if slash else ""


def _unique(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"


def _rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    if graph.initializers.get(str(value.name)) is value:
        del graph.initializers[str(value.name)]
    value.name = name
    if value.const_value is not None:
        value.const_value.name = name
    graph.initializers[name] = value
