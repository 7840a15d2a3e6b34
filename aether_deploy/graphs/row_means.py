"""Means over a whole picture as means over its rows, and then of those: a pass on onnx-ir.

ONNX Runtime's CPU provider adds millions of numbers one after the other in float32. A GroupNorm over 1024x1024 pixels
is off by 5e-4 of a standard deviation there, and the network with it, while PyTorch is off by 2e-7
(benchmarks/README.md). Sums of one row are short, and so is the sum of all rows.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from aether_deploy.graphs.new_nodes import NewNodes
from aether_deploy.graphs.opsets import AXES_AS_INPUT

__all__ = ["RowMeans"]

_NORMS = ("InstanceNormalization", "GroupNormalization")


class RowMeans(ir.passes.InPlacePass):
    """ReduceMean and GlobalAveragePool over height and width -> row by row; norms over a picture -> with such means.

    A norm becomes mean, difference, mean of its squares, and product, since nothing smaller gives its statistics.
    Requires a graph in fp32. Ensures that no norm over a picture is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        graph = model.graph
        means = [(node, axis) for node in graph if (axis := _along_rows(node)) is not None]
        norms = [node for node in graph if node.op_type in _NORMS]
        for node, axis in means:
            (source, *_), made = node.inputs, NewNodes(graph, f"{node.outputs[0].name}_rows")
            assert source is not None
            rows = _mean(graph, made, source, axis)
            graph.insert_before(node, made.taken())
            node.replace_input_with(0, rows)
        for node in norms:
            _spell_out(graph, node)
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(means or norms))

    def ensures(self, model: ir.Model) -> None:
        """Raises PostconditionError if a norm over a picture is left."""
        if any(node.op_type in _NORMS for node in model.graph):
            raise ir.passes.PostconditionError("a norm over a whole picture is left")


def _along_rows(node: ir.Node) -> int | None:
    """The last axis of a mean over height and width, None of anything else."""
    if node.op_type == "GlobalAveragePool":
        return -1
    if node.op_type != "ReduceMean":
        return None
    axes: Collection[int] = node.attributes.get_ints("axes", ())
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None and given.const_value is not None:
        axes = given.const_value.numpy().ravel().tolist()
    return max(axes) if sorted(axes) in ([2, 3], [-2, -1]) else None


def _mean(graph: ir.Graph, made: NewNodes, value: ir.Value, axis: int) -> ir.Value:
    """The mean along an axis, which stays with size 1."""
    if graph.opset_imports[""] >= AXES_AS_INPUT:
        return made.add("ReduceMean", value, made.several(axis), keepdims=1)
    mean = made.add("ReduceMean", value, keepdims=1)
    node = mean.producer()
    assert node is not None
    node.attributes["axes"] = ir.AttrInt64s("axes", [axis])
    return mean


def _spell_out(graph: ir.Graph, norm: ir.Node) -> None:
    source, scale, shift = norm.inputs
    result, made = norm.outputs[0], NewNodes(graph, str(norm.outputs[0].name))
    assert source is not None and scale is not None and shift is not None
    image, groups = source, norm.attributes.get_int("num_groups", 0)
    if norm.op_type == "InstanceNormalization":
        assert scale.const_value is not None
        groups = int(np.prod(scale.const_value.numpy().shape))
        before = source.producer()
        # The exporter's GroupNorm: an InstanceNormalization of (N, groups, everything else).
        if before is not None and before.op_type == "Reshape" and before.inputs[0] is not None:
            image = before.inputs[0]
    split, shape = made.several(0, groups, -1), made.add("Shape", image)
    rows = made.add("Reshape", _mean(graph, made, image, -1), split)
    centred = made.add("Sub", made.add("Reshape", image, split), _mean(graph, made, rows, 2))
    picture = made.add("Reshape", centred, shape)
    rows = made.add("Reshape", _mean(graph, made, made.add("Mul", picture, picture), -1), split)
    variance = made.add("Add", _mean(graph, made, rows, 2), made.floats(norm.attributes.get_float("epsilon", 1e-5)))
    normed = made.add("Div", centred, made.add("Sqrt", variance))
    if image is source:
        normed = made.add("Reshape", normed, shape)
    # Of the channels of an image, or of the groups of what the exporter made of it.
    sides = made.several(*((-1, 1, 1) if image is source else (-1, 1)))
    scaled = made.add("Mul", normed, made.add("Reshape", scale, sides))
    shifted = made.add("Add", scaled, made.add("Reshape", shift, sides))
    graph.insert_before(norm, made.taken())
    name = str(result.name)
    result.name = f"{name}_replaced"
    shifted.name = name
    shifted.type, shifted.shape = result.type, result.shape
    result.replace_all_uses_with(shifted, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
