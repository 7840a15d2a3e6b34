"""Other ways to write the same network as ONNX, to measure against ours; no shipped file uses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from aether_deploy.graphs.constants import new_constant

__all__ = ["flat_ffn", "merged_ffn", "norm_of_reductions", "tanh_gelu"]


def merged_ffn(source: Path, target: Path) -> None:
    """fc1_gate and fc1_main as one MatMul of twice the width, split afterwards."""
    model = onnx.load(source)
    graph = model.graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            by_input.setdefault(node.input[0], []).append(node)
    for pair in (nodes for nodes in by_input.values() if len(nodes) == 2):
        users = [next(n for n in graph.node if matmul.output[0] in n.input) for matmul in pair]
        biases = [next(weights[name] for name in user.input if name in weights) for user in users]
        stem = pair[0].output[0]
        merged = np.concatenate([weights[matmul.input[1]] for matmul in pair], axis=1)
        halves = np.array([merged.shape[1] // 2] * 2, np.int64)
        for name, value in (("w", merged), ("b", np.concatenate(biases)), ("s", halves)):
            graph.initializer.append(numpy_helper.from_array(value, f"{stem}_{name}"))
        at = next(index for index, node in enumerate(graph.node) if node is pair[0] or node.output[0] == stem)
        nodes = [
            helper.make_node("MatMul", [pair[0].input[0], f"{stem}_w"], [f"{stem}_m"]),
            helper.make_node("Add", [f"{stem}_m", f"{stem}_b"], [f"{stem}_a"]),
            helper.make_node("Split", [f"{stem}_a", f"{stem}_s"], [user.output[0] for user in users], axis=-1),
        ]
        for node in (*pair, *users):
            graph.node.remove(node)
        for node in reversed(nodes):
            graph.node.insert(at, node)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def flat_ffn(model: ir.Model) -> ir.Model:
    """Each linear layer as one Gemm with its bias, on pixels x channels instead of NHWC."""
    model = model.clone()
    graph = model.graph
    norms = [node for node in graph if node.op_type == "LayerNormalization"]
    for number, norm in enumerate(norms[:-1]):
        (scale,) = (value.const_value for value in norm.inputs[1:2] if value is not None)
        assert scale is not None
        source = norm.inputs[0]
        assert source is not None
        shape = _insert(graph, norm, "Shape", [source])
        pixels = new_constant(graph, f"pixels_{number}", np.array([-1, scale.shape[0]], np.int64))
        norm.replace_input_with(0, _insert(graph, norm, "Reshape", [source, pixels]))
        gate, main = (_as_gemm(graph, use.node) for use in norm.outputs[0].uses())
        (product,) = {use.node for value in (gate, main) for use in value.uses() if use.node.op_type == "Mul"}
        ((last, _),) = product.outputs[0].uses()
        result = _as_gemm(graph, last)
        users = list(result.uses())
        back = _insert(graph, users[0].node, "Reshape", [result, shape])
        for user, index in users:
            user.replace_input_with(index, back)
    return model


def norm_of_reductions(model: ir.Model) -> ir.Model:
    """Each block's LayerNormalization as mean, difference and root, scale and shift folded into the FFN's weights."""
    model = model.clone()
    graph = model.graph
    last_axis = new_constant(graph, "last_axis", np.array([-1], np.int64))
    for number, norm in enumerate([node for node in graph if node.op_type == "LayerNormalization"][:-1]):
        source, scale, shift = norm.inputs
        assert source is not None
        gamma, beta = _array(scale), _array(shift)
        epsilon = np.array(norm.attributes["epsilon"].as_float(), np.float32)
        mean = _insert(graph, norm, "ReduceMean", [source, last_axis])
        centred = _insert(graph, norm, "Sub", [source, mean])
        squares = _insert(graph, norm, "ReduceSumSquare", [centred, last_axis])
        share = new_constant(graph, f"share_{number}", np.array(1 / len(gamma), np.float32))
        variance = _insert(graph, norm, "Mul", [squares, share])
        shifted = _insert(graph, norm, "Add", [variance, new_constant(graph, f"epsilon_{number}", epsilon)])
        factor = _insert(graph, norm, "Reciprocal", [_insert(graph, norm, "Sqrt", [shifted])])
        for layer in [use.node for use in norm.outputs[0].uses()]:
            weight = layer.inputs[1]
            ((add, _),) = layer.outputs[0].uses()
            bias = next(value for value in add.inputs if value is not None and value.const_value is not None)
            assert weight is not None
            _replace(bias, _array(bias) + beta @ _array(weight))
            _replace(weight, gamma[:, None] * _array(weight))
        norm.outputs[0].replace_all_uses_with(_insert(graph, norm, "Mul", [centred, factor]))
        graph.remove(norm, safe=True)
    return model


def tanh_gelu(model: ir.Model) -> ir.Model:
    """GELU by its usual approximation, with tanh."""
    model = model.clone()
    for node in model.graph:
        if node.op_type == "Gelu":
            node.attributes["approximate"] = ir.AttrString("approximate", "tanh")
    return model


def _as_gemm(graph: ir.Graph, layer: ir.Node) -> ir.Value:
    """MatMul and Add -> Gemm."""
    ((add, _),) = layer.outputs[0].uses()
    bias = next(value for value in add.inputs if value is not None and value.const_value is not None)
    gemm = _insert(graph, add, "Gemm", [*layer.inputs, bias])
    add.outputs[0].replace_all_uses_with(gemm)
    graph.remove([layer, add], safe=True)
    return gemm


def _insert(graph: ir.Graph, before: ir.Node, op: str, inputs: list[ir.Value | None] | list[ir.Value]) -> ir.Value:
    node = ir.node(op, inputs)
    node.outputs[0].name = f"{op}_{before.outputs[0].name}_{len(graph)}"
    graph.insert_before(before, node)
    return node.outputs[0]


def _array(value: ir.Value | None) -> NDArray[np.float64]:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy().astype(np.float64)


def _replace(value: ir.Value, array: NDArray[np.float64]) -> None:
    value.const_value = ir.Tensor(array.astype(np.float32), name=value.name)
