"""Folds a LayerNormalization's scale and shift, and the biases of the linear layers that read it, into their weights.

LayerNormalization(scale, shift), MatMul(W), Add(b) -> LayerNormalization(1, 1), MatMul(W'),
W' = scale W + 1 (shift W + b - 1 scale W)^T / D

W and W' are (D, M), 1 is the vector of D ones, scale W multiplies row d of W by scale[d], and 1 (...)^T / D adds 1/D of
value m of the bracket to all of column m. It holds because the normalised values n of a pixel sum to 0 over its D
channels, so n + 1 sums to D whatever the image is. With V = scale W and c = shift W + b - 1 V,
(n + 1) W' = n V + 1 V + D c / D = n V + shift W + b = (scale n + shift) W + b.

A pass on onnx-ir. On ONNX Runtime's CPU provider it gains 3 to 10 % (benchmarks/README.md): an Add reads and writes the
largest tensors of a block.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from aether_deploy.graphs.constants import new_constant

__all__ = ["FoldedNorms"]


class FoldedNorms(ir.passes.InPlacePass):
    """LayerNormalization(scale, shift), MatMul(W), Add(b) -> LayerNormalization(1, 1), MatMul(W'); see the module.

    Computed in float64, stored in float32. A norm whose result is also read by anything but such layers, as the last
    one's is, is left unchanged.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        graph = model.graph
        found = [(node, layers) for node in graph if (layers := _layers(node))]
        for norm, layers in found:
            _fold(graph, norm, layers)
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))


def _layers(norm: ir.Node) -> list[tuple[ir.Node, ir.Node]]:
    """(MatMul, Add) of each linear layer that reads a norm; empty if anything else reads it."""
    if norm.op_type != "LayerNormalization" or len(norm.inputs) != 3 or not all(map(_constant, norm.inputs[1:])):
        return []
    found = []
    for use in norm.outputs[0].uses():
        adds = [after.node for after in use.node.outputs[0].uses()]
        if use.node.op_type != "MatMul" or use.idx != 0 or not _constant(use.node.inputs[1]):
            return []
        if len(adds) != 1 or adds[0].op_type != "Add" or not any(map(_constant, adds[0].inputs)):
            return []
        found.append((use.node, adds[0]))
    return found


def _fold(graph: ir.Graph, norm: ir.Node, layers: list[tuple[ir.Node, ir.Node]]) -> None:
    scale, shift = (_array(value) for value in norm.inputs[1:])
    for layer, add in layers:
        weight = layer.inputs[1]
        assert weight is not None
        scaled = scale[:, None] * _array(weight)
        bias = _array(next(value for value in add.inputs if _constant(value))) + shift @ _array(weight)
        folded = scaled + (bias - scaled.sum(axis=0)) / len(scale)
        layer.replace_input_with(1, new_constant(graph, f"{weight.name}_folded", folded.astype(np.float32)))
        add.outputs[0].replace_all_uses_with(layer.outputs[0])
        graph.remove(add, safe=True)
    ones = new_constant(graph, f"{norm.outputs[0].name}_ones", np.ones(len(scale), np.float32))
    norm.replace_input_with(1, ones)
    norm.replace_input_with(2, ones)


def _constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def _array(value: ir.Value | None) -> NDArray[np.float64]:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy().astype(np.float64)
