"""Runs a half-precision ONNX file as a GPU would, on the CPU: the proof of fp16 where no GPU is.

ONNX Runtime's CPU provider is no such proof: it computes in fp32 and drops the casts between its operators,
which shows the error of the rounded weights alone. Here every operator runs in float32, which is what
tensor cores accumulate in, and its result is rounded to the type that the graph gives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from google.protobuf.message import DecodeError
from torch import Tensor
from torch.nn import functional

from aether_deploy.arrays import Array, Shape
from aether_deploy.errors import ExportError, RunnerError
from aether_deploy.graphs.types import DTYPES, HALF, LIMITS, tensor_types
from aether_deploy.runners.protocol import Runner

if TYPE_CHECKING:
    from aether_deploy.network.spec import NetworkSpec

__all__ = [
    "HalfRunner",
]

Rounding = Callable[[Tensor], Tensor]

_TORCH = {ir.DataType.FLOAT16: torch.float16, ir.DataType.BFLOAT16: torch.bfloat16}

# These only move values, which have the type already.
_MOVES = frozenset({"Transpose", "DepthToSpace"})


class HalfRunner(Runner):
    """An ONNX file, executed operator by operator with every result rounded as its type says.

    A half LayerNormalization has its mean, difference, squares, variance and quotient rounded one by one:
    its `stash_type` asks for statistics in fp32, but a runtime may or may not honour that, and what is
    proved must hold for both. Data types are read off the file, not off what it was made from.

    Args:
        path: a file of this house, in any precision; in fp32 nothing is rounded.
    Attributes:
        activations: operator -> largest absolute value before rounding, over all runs so far, of those that
            compute in half; infinite once it was not finite.
    Raises:
        RunnerError: not there, not strongly typed, or with operators that no AetherNet has.
    """

    def __init__(self, path: Path) -> None:
        try:
            model = ir.load(path)
        except (OSError, ValueError, RuntimeError, DecodeError) as error:
            raise RunnerError(f"{path}: cannot be read as ONNX ({error}); check the path") from error
        self._graph = model.graph
        try:
            self._types = tensor_types(self._graph)
        except ExportError as error:
            raise RunnerError(f"{path}: {error}; export it again") from error
        unknown = {node.op_type for node in self._graph} - set(_OPERATORS)
        if unknown or len(self._graph.inputs) != 1 or len(self._graph.outputs) != 1:
            raise RunnerError(f"{path}: no AetherNet ({', '.join(sorted(unknown)) or 'more than one image'})")
        self._weights = {value: _weight(value) for value in self._graph.initializers.values()}
        self._last_use = {value: node for node in self._graph for value in node.inputs if value is not None}
        stored = {self._types[value] for value in self._weights}
        self.precision = next((name for name in HALF if DTYPES[name] in stored), "fp32")
        self.name = f"faithful {self.precision} on the CPU"
        self.activations: dict[str, float] = {}
        self._operators = {_label(node): node.op_type for node in self._graph}
        shape = self._graph.inputs[0].shape
        assert shape is not None
        dims = [dim if isinstance(dim, int) else None for dim in shape]
        self.in_chans = dims[1] or 3
        self.static: Shape | None = None
        if None not in dims:
            n, c, h, w = (int(dim or 0) for dim in dims)
            self.static = (n, c, h, w)
        probe = np.zeros(self.static or (1, self.in_chans, 8, 8), np.float32)
        self.scale = int(self.run(probe).shape[2] // probe.shape[2])
        self.activations.clear()
        self.spec: NetworkSpec | None = None
        self.device = "cpu"

    def run(self, lr: Array) -> Array:
        """See `Runner`; the input is rounded to the file's own type first."""
        if self.static not in (None, lr.shape):
            raise RunnerError(f"input {lr.shape} was refused: the file takes {self.static}")
        graph = self._graph
        entry, exit_ = graph.inputs[0], graph.outputs[0]
        values = dict(self._weights)
        values[entry] = _rounding(self._types[entry])(torch.from_numpy(np.ascontiguousarray(lr, np.float32)))
        with torch.no_grad():
            for node in graph:
                values[node.outputs[0]] = self._step(node, values)
                for value in node.inputs:
                    if value is not None and self._last_use[value] is node and value not in self._weights:
                        values.pop(value, None)
        result: Array = values[exit_].numpy()
        return result

    def headroom(self) -> dict[str, Any]:
        """How far the largest activations are from what the type holds.

        Returns:
            {limit, largest, at, headroom, operators: {type: largest}, ops: {operator: largest}}; null for
            what is not finite, whose headroom is 0.
        """
        limit = LIMITS[self.precision]
        at, largest = max(self.activations.items(), key=lambda item: item[1], default=("", 0.0))
        operators: dict[str, float] = {}
        for name, value in self.activations.items():
            kind = self._operators[name]
            operators[kind] = max(value, operators.get(kind, 0.0))
        return {
            "limit": limit,
            "largest": _finite(largest),
            "at": at,
            "headroom": limit / largest if largest else None,
            "operators": {name: _finite(value) for name, value in operators.items()},
            "ops": {name: _finite(value) for name, value in self.activations.items()},
        }

    def overflows(self) -> list[tuple[str, str]]:
        """(operator, its type) of those that went beyond what the type holds, in the order of execution."""
        limit = LIMITS[self.precision]
        return [(name, self._operators[name]) for name, value in self.activations.items() if value > limit]

    def _step(self, node: ir.Node, values: dict[ir.Value, Tensor]) -> Tensor:
        inputs = [values[value] for value in node.inputs if value is not None]
        if node.op_type in _MOVES:
            return _OPERATORS[node.op_type](node, inputs, _unchanged)
        kind = self._types[node.outputs[0]]
        rounding = _rounding(kind)
        if kind != DTYPES[self.precision]:
            return _OPERATORS[node.op_type](node, inputs, rounding)
        name = _label(node)

        def record_and_round(value: Tensor) -> Tensor:
            low, high = torch.aminmax(value)
            peak = max(-low.item(), high.item())
            seen = self.activations.get(name, 0.0)
            self.activations[name] = max(seen, peak) if math.isfinite(peak) else math.inf
            return rounding(value)

        return _OPERATORS[node.op_type](node, inputs, record_and_round)


def _label(node: ir.Node) -> str:
    """The layer whose weights an operator has, and its type; its output where it has none with a name."""
    for value in node.inputs:
        if value is not None and value.const_value is not None and "." in str(value.name):
            return f"{str(value.name).rpartition('.')[0]} {node.op_type}"
    return str(node.outputs[0].name)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _weight(value: ir.Value) -> Tensor:
    tensor = value.const_value
    assert tensor is not None
    return torch.from_numpy(tensor.numpy().astype(np.float32))


def _rounding(kind: ir.DataType) -> Rounding:
    if kind not in _TORCH:
        return _unchanged
    return lambda value: value.to(_TORCH[kind]).float()


def _unchanged(value: Tensor) -> Tensor:
    return value


def _conv(node: ir.Node, inputs: list[Tensor], rounding: Rounding) -> Tensor:
    """The bias is added to the fp32 accumulator, as the hardware's epilogue does."""
    attributes = node.attributes
    pads = attributes.get_ints("pads", (0, 0, 0, 0))
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        raise RunnerError(f"{node.outputs[0].name} pads {pads}; expected the same on opposite sides")
    bias = inputs[2] if len(inputs) > 2 else None
    return rounding(functional.conv2d(inputs[0], inputs[1], bias, 1, (top, left), 1, attributes.get_int("group", 1)))


def _layer_norm(node: ir.Node, inputs: list[Tensor], rounding: Rounding) -> Tensor:
    x, scale, bias = inputs
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    centred = rounding(x - rounding(x.mean(-1, keepdim=True)))
    variance = rounding(rounding(centred * centred).mean(-1, keepdim=True))
    normal = rounding(centred / rounding(torch.sqrt(rounding(variance + epsilon))))
    return rounding(rounding(normal * scale) + bias)


def _gelu(node: ir.Node, inputs: list[Tensor], rounding: Rounding) -> Tensor:
    return rounding(functional.gelu(inputs[0], approximate=node.attributes.get_string("approximate", "none")))


def _leaky_relu(node: ir.Node, inputs: list[Tensor], rounding: Rounding) -> Tensor:
    return rounding(functional.leaky_relu(inputs[0], node.attributes.get_float("alpha", 0.01)))


def _depth_to_space(node: ir.Node, inputs: list[Tensor], rounding: Rounding) -> Tensor:
    if node.attributes.get_string("mode", "DCR") != "CRD":
        raise RunnerError(f"{node.outputs[0].name} shuffles in mode DCR; expected CRD, as PixelShuffle does")
    return rounding(functional.pixel_shuffle(inputs[0], node.attributes["blocksize"].as_int()))


_OPERATORS: dict[str, Callable[[ir.Node, list[Tensor], Rounding], Tensor]] = {
    "Add": lambda node, inputs, rounding: rounding(inputs[0] + inputs[1]),
    "Sub": lambda node, inputs, rounding: rounding(inputs[0] - inputs[1]),
    "Mul": lambda node, inputs, rounding: rounding(inputs[0] * inputs[1]),
    "Div": lambda node, inputs, rounding: rounding(inputs[0] / inputs[1]),
    "Erf": lambda node, inputs, rounding: rounding(torch.erf(inputs[0])),
    "MatMul": lambda node, inputs, rounding: rounding(inputs[0] @ inputs[1]),
    "Cast": lambda node, inputs, rounding: rounding(inputs[0]),
    "Transpose": lambda node, inputs, rounding: inputs[0].permute(*node.attributes["perm"].as_ints()),
    "Conv": _conv,
    "LayerNormalization": _layer_norm,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "DepthToSpace": _depth_to_space,
}
