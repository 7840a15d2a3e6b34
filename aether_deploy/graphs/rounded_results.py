"""A half-precision graph as a GPU runs it, in operators that the CPU has: a pass on onnx-ir.

ONNX Runtime's CPU provider does not run the file that way: it computes in fp32 and drops the casts between operators,
which shows only the error of the rounded weights. After this pass every operator computes in fp32, in which tensor
cores accumulate, and a pair of Casts after it, down and up again, rounds its result to the type that the graph states.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from aether_deploy.errors import ExportError
from aether_deploy.graphs.constants import new_constant
from aether_deploy.graphs.opsets import AXES_AS_INPUT
from aether_deploy.graphs.types import HALF_TYPES, tensor_types

__all__ = ["Rounded", "RoundedResults"]

# These only move values, which are rounded already.
_MOVES = frozenset(
    [
        *("Transpose", "DepthToSpace", "SpaceToDepth", "Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze"),
        *("Slice", "Split", "Concat", "Gather", "Expand", "Tile", "Pad", "ScatterND", "Where"),
    ]
)


@dataclass
class Rounded(ir.passes.PassResult):
    """A graph after the pass.

    Attributes:
        casts: number of those that round a result.
        ranges: name of an added output, the largest absolute value before rounding -> (layer, type of operator).
    """

    casts: int = 0
    ranges: dict[str, tuple[str, str]] = field(default_factory=dict)


class RoundedResults(ir.passes.InPlacePass):
    """A graph in fp16 or bf16 -> one in fp32 with each result rounded; a graph in fp32 is left unchanged.

    For a half-precision LayerNormalization, mean, difference, squares, variance, quotient, scale and shift are rounded
    one by one: its `stash_type` asks for statistics in fp32, but a runtime may or may not honour that, and the proof
    must hold for both. Requires a strongly typed graph. Ensures that nothing computes in half precision.

    Args:
        ranges: add an output for each operator that computes in half precision: its largest absolute value before
            rounding.
    """

    def __init__(self, *, ranges: bool = False) -> None:
        self._with_ranges = ranges

    def call(self, model: ir.Model) -> Rounded:
        """Changes the model in place."""
        graph = model.graph
        numbers = tensor_types(graph)
        types = {value: kind for value, kind in numbers.items() if kind in HALF_TYPES}
        result = Rounded(model, bool(types))
        rounding = _Rounding(graph, result, ranges=self._with_ranges)
        nodes = list(graph)
        for value in graph.initializers.values():
            if value in types:
                _widen(value)
        for value in graph.inputs:
            if value in types:
                rounding.widen_input(value)
        for node in nodes:
            kind = types.get(node.outputs[0])
            if node.op_type == "Cast":
                rounding.cast(node, kind, of_integers=node.inputs[0] not in numbers)
            elif kind is not None and node.op_type == "LayerNormalization":
                rounding.layer_norm(node, kind)
            elif kind is not None and node.op_type not in _MOVES:
                rounding.behind(node, kind, _label(node), node.op_type)
        for value in graph.outputs:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        return result

    def ensures(self, model: ir.Model) -> None:
        """Raises PostconditionError if anything but a Cast has a result in half precision."""
        for node, kind in ((value.producer(), kind) for value, kind in tensor_types(model.graph).items()):
            if kind in HALF_TYPES and node is not None and node.op_type != "Cast":
                raise ir.passes.PostconditionError(f"{node.outputs[0].name} is computed in {kind.name}")


class _Rounding:
    """Inserts the rounding into one graph."""

    def __init__(self, graph: ir.Graph, result: Rounded, *, ranges: bool) -> None:
        self._graph = graph
        self._result = result
        self._ranges = ranges
        self._opset = graph.opset_imports[""]
        self._numbers = itertools.count()

    def behind(self, node: ir.Node, kind: ir.DataType, label: str, op_type: str) -> ir.Value:
        """Rounds a node's result for everything that reads it; returns the rounded value."""
        exact = node.outputs[0]
        after = list(self._pair(exact, kind))
        self._graph.insert_after(node, after)
        rounded = after[-1].outputs[0]
        self._replace(exact, rounded, but=after[0])
        exact.type = None
        if self._ranges:
            self._add_range(after[-1], exact, label, op_type)
        return rounded

    def cast(self, node: ir.Node, kind: ir.DataType | None, *, of_integers: bool) -> None:
        """Adds the Cast back to fp32 after a Cast to half; a Cast to fp32 needs nothing, since everything is fp32."""
        if kind is None:
            return
        narrowed = node.outputs[0]
        widened = self._node("Cast", [narrowed], {"to": ir.DataType.FLOAT.value})
        self._graph.insert_after(node, widened)
        self._replace(narrowed, widened.outputs[0], but=widened)
        narrowed.type = None
        self._result.casts += 1
        if self._ranges and not of_integers:
            self._add_range(widened, _given(node.inputs[0]), _label(node), node.op_type)

    def layer_norm(self, node: ir.Node, kind: ir.DataType) -> None:
        """LayerNormalization -> its steps, each of them rounded."""
        x, scale, *bias = node.inputs
        label, op_type = _label(node), node.op_type
        axis = node.attributes.get_int("axis", -1)
        if not -4 <= axis < 4:
            raise ExportError(f"{node.outputs[0].name} is normed from axis {axis}; an image's tensors have four")
        epsilon = self._constant(np.array(node.attributes.get_float("epsilon", 1e-5), np.float32))

        def step(op: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
            made = self._node(op, list(inputs), dict(attributes))
            self._graph.insert_before(node, made)
            return self.behind(made, kind, label, op_type)

        def mean(value: ir.Value) -> ir.Value:
            return self._mean(node, value, axis, kind, (label, op_type))

        centred = step("Sub", x, mean(_given(x)))
        variance = mean(step("Mul", centred, centred))
        deviation = step("Sqrt", step("Add", variance, epsilon))
        result = step("Mul", step("Div", centred, deviation), scale)
        if bias and bias[0] is not None:
            result = step("Add", result, bias[0])
        self._replace(node.outputs[0], result)
        self._graph.remove(node, safe=True)

    def widen_input(self, value: ir.Value) -> None:
        """Widens a half-precision input to fp32, once for everything that reads it."""
        node = self._node("Cast", [value], {"to": ir.DataType.FLOAT.value})
        self._replace(value, node.outputs[0], but=node)
        self._graph.insert_before(self._graph[0], node)

    def _mean(self, node: ir.Node, value: ir.Value, axis: int, kind: ir.DataType, named: tuple[str, str]) -> ir.Value:
        # Over this axis and all after it; an image's tensors have four.
        axes = list(range(axis, 0 if axis < 0 else 4))
        if self._opset < AXES_AS_INPUT:
            made = self._node("ReduceMean", [value], {"axes": axes, "keepdims": 1})
        else:
            made = self._node("ReduceMean", [value, self._constant(np.array(axes, np.int64))], {"keepdims": 1})
        self._graph.insert_before(node, made)
        return self.behind(made, kind, *named)

    def _pair(self, value: ir.Value, kind: ir.DataType) -> Iterator[ir.Node]:
        narrow = self._node("Cast", [value], {"to": kind.value})
        yield narrow
        yield self._node("Cast", [narrow.outputs[0]], {"to": ir.DataType.FLOAT.value})
        self._result.casts += 1

    def _add_range(self, behind: ir.Node, value: ir.Value, label: str, op_type: str) -> None:
        absolute = self._node("Abs", [value])
        largest = self._node("ReduceMax", [absolute.outputs[0]], {"keepdims": 0})
        self._graph.insert_after(behind, [absolute, largest])
        output = largest.outputs[0]
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        self._graph.outputs.append(output)
        self._result.ranges[str(output.name)] = (label, op_type)

    def _replace(self, old: ir.Value, new: ir.Value, *, but: ir.Node | None = None) -> None:
        """Everything that reads `old`, but for one node, reads `new`, which also becomes the output that `old` was."""
        for use in list(old.uses()):
            if use.node is not but:
                use.node.replace_input_with(use.idx, new)
        if old.is_graph_output():
            name = str(old.name)
            old.name, new.name = f"{name}_exact", name
            new.shape, old.shape = old.shape, None
            self._graph.outputs[self._graph.outputs.index(old)] = new

    def _node(self, op: str, inputs: list[ir.Value | None], attributes: dict[str, Any] | None = None) -> ir.Node:
        made = ir.node(op, inputs, attributes or {})
        made.name = made.outputs[0].name = f"rounded_{next(self._numbers)}"
        return made

    def _constant(self, array: NDArray[Any]) -> ir.Value:
        return new_constant(self._graph, f"rounded_{next(self._numbers)}", array)


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _widen(value: ir.Value) -> None:
    tensor = value.const_value
    assert tensor is not None
    value.const_value = ir.Tensor(tensor.numpy().astype(np.float32), name=value.name)
    value.type = ir.TensorType(ir.DataType.FLOAT)


def _label(node: ir.Node) -> str:
    """The layer whose weights an operator reads, and its type; without such weights, the name of its output."""
    for value in node.inputs:
        if value is not None and value.const_value is not None and "." in str(value.name):
            return f"{str(value.name).rpartition('.')[0]} {node.op_type}"
    return str(node.outputs[0].name)
