"""Linear layers in 8 bits, int8 or fp8: a pass on onnx-ir that adds QuantizeLinear and DequantizeLinear.

Runtimes replace DequantizeLinear, DequantizeLinear, MatMul by an integer kernel; those that have none compute the same
in floats. Activations and weights are symmetric, as TensorRT demands: no zero point but 0.

Three things make the layers exact enough, none of which costs time:
- Behind a LayerNormalization, features of a wide range are divided by a factor that the norm's scale and shift take up,
  and the weights are multiplied by it (Xiao et al., SmoothQuant, ICML 2023).
- The mean error of each output, over what was observed, is subtracted from the layer's bias.
- In int8, no two neighbouring weights saturate; see `eight_bit_numbers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from aether_deploy.graphs.constants import new_constant
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.graphs.eight_bit_numbers import Floats, Narrow, as_step, largest_of, narrowed, steps_of
from aether_deploy.graphs.half_weights import WeightLoss

__all__ = ["LinearInput", "Observed", "QuantizedLayers", "linear_inputs"]

# How far the range of a feature, and not the size of its weights, decides on its factor: measured best for photos
# without clipping patterns (benchmarks/README.md).
_ALPHA = 0.5


@dataclass(frozen=True, slots=True)
class LinearInput:
    """A tensor that linear layers read.

    Attributes:
        name: of the tensor.
        layers: names of the layers that read it, those of their biases without `.bias`.
        normed: whether a LayerNormalization made it.
        products: multiplications that the layers take for each pixel.
    """

    name: str
    layers: tuple[str, ...]
    normed: bool
    products: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What a tensor was seen to hold.

    Attributes:
        largest: (K,), the largest absolute value of each of its K features.
        rows: (M, K), a part of the pixels.
    """

    largest: Floats
    rows: Floats


def linear_inputs(model: ir.Model) -> list[LinearInput]:
    """The tensors that nothing but linear layers with constant weights read, in the order of the graph."""
    found = []
    for value, layers in _inputs_of_layers(model.graph):
        products = sum(int(np.prod(_weight(layer).shape)) for layer in layers)
        found.append(LinearInput(str(value.name), tuple(map(_label, layers)), _norm(value) is not None, products))
    return found


class QuantizedLayers(ir.passes.FunctionalPass):
    """Puts the layers that read the given tensors into 8 bits; see the module.

    Requires a graph in fp32. Everything else stays as it is.

    Args:
        observed: name of a tensor of `linear_inputs` -> what it was seen to hold.
        kind: INT8, or FLOAT8E4M3FN (4 bits of exponent, 3 of mantissa, up to 448).
        stored: the type, FLOAT or FLOAT16, that scales will be rounded to: see `as_step`.
    """

    def __init__(
        self,
        observed: Mapping[str, Observed],
        kind: ir.DataType = ir.DataType.INT8,
        stored: ir.DataType = ir.DataType.FLOAT,
    ) -> None:
        self._observed = observed
        self._kinds = kind, stored

    def call(self, model: ir.Model) -> Conversion:
        """A converted copy."""
        model = model.clone()
        every = list(_inputs_of_layers(model.graph))
        done = [(value, layers) for value, layers in every if value.name in self._observed]
        rounded = underflow = 0
        largest, worst = 0.0, ""
        for value, layers in done:
            given = {_label(layer): _weight(layer) for layer in layers}
            made = _quantize(model.graph, value, layers, self._observed[str(value.name)], *self._kinds)
            for (name, weight), narrow in zip(given.items(), made, strict=True):
                rounded += weight.size
                underflow += int(np.count_nonzero(weight) - np.count_nonzero(narrow.astype(np.float32)))
                largest, worst = max((largest, worst), (float(np.abs(weight).max()), name))
        RemoveUnusedNodesPass()(model)
        total, count = (sum(len(layers) for _, layers in some) for some in (every, done))
        return Conversion(
            model,
            bool(done),
            weights=WeightLoss(rounded, 0, underflow, largest, worst),
            casts=len(done),
            islands={"MatMul": total - count} if total > count else {},
            policy=f"{count} of {total} layers in 8 bits",
        )


def _inputs_of_layers(graph: ir.Graph) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    for node in graph:
        for value in node.outputs:
            uses = list(value.uses())
            if uses and all(use.node.op_type == "MatMul" and use.idx == 0 and _is_constant(use.node) for use in uses):
                yield value, [use.node for use in uses]


def _quantize(
    graph: ir.Graph, value: ir.Value, layers: list[ir.Node], seen: Observed, kind: ir.DataType, stored: ir.DataType
) -> list[Narrow]:
    """Changes one tensor and the layers that read it; returns their weights in 8 bits."""
    weights, names = [_weight(layer) for layer in layers], [_label(layer) for layer in layers]
    factors = _factors(seen, weights) if _norm(value) is not None else np.ones(len(seen.largest))
    _rescale_norm(graph, value, factors)
    rows = seen.rows / factors
    step = as_step(np.array((seen.largest / factors).max() / largest_of(kind)), stored)
    rounded = narrowed(rows / step, kind).astype(np.float64) * float(step)
    narrow, wide = _pair(graph, value, step, kind)
    graph.insert_before(layers[0], [narrow, wide])
    scaled = [weight * factors[:, None] for weight in weights]
    steps = [steps_of(weight, kind, stored) for weight in scaled]
    made = [narrowed(weight / own, kind) for weight, own in zip(scaled, steps, strict=True)]
    for layer, weight, own, taken in zip(layers, scaled, steps, made, strict=True):
        restored = taken.astype(np.float64) * own.astype(np.float64)
        _correct_bias(graph, layer, (rounded @ restored - rows @ weight).mean(axis=0))
    _replace(graph, "|".join(names), layers, wide.outputs[0], np.concatenate(made, axis=1), np.concatenate(steps))
    return made


def _replace(
    graph: ir.Graph, name: str, layers: list[ir.Node], value: ir.Value, narrow: Narrow, steps: NDArray[np.float32]
) -> None:
    """One MatMul in place of all that read a tensor.

    ONNX Runtime finds its integer kernels only for the single reader of a tensor on x86.
    """
    constants = (("8_bits", narrow), ("8_bits_scale", steps), ("8_bits_zero", np.zeros(len(steps), narrow.dtype)))
    inputs = [new_constant(graph, f"{name}.{what}", array) for what, array in constants]
    weight = ir.node("DequantizeLinear", inputs, {"axis": 1}, name=f"{name}.weight_dequantized")
    product = ir.node("MatMul", [value, weight.outputs[0]], name=f"{name}.product")
    made = [weight, product]
    if len(layers) > 1:
        sizes = new_constant(graph, f"{name}.sizes", np.array([_weight(layer).shape[1] for layer in layers], np.int64))
        split = ir.node(
            "Split", [product.outputs[0], sizes], {"axis": -1}, num_outputs=len(layers), name=f"{name}.split"
        )
        made.append(split)
    for node in made[:2]:
        node.outputs[0].name = node.name
    graph.insert_before(layers[0], made)
    for layer, output in zip(layers, made[-1].outputs, strict=True):
        output.name = str(layer.outputs[0].name)
        layer.outputs[0].name = f"{output.name}_replaced"
        layer.outputs[0].replace_all_uses_with(output)
        graph.remove(layer, safe=True)


def _factors(seen: Observed, weights: list[Floats]) -> Floats:
    """By what each feature is divided: large for those of a wide range whose weights are small; 1 on average."""
    heaviest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    tiny = np.finfo(np.float32).tiny
    factors: Floats = np.maximum(seen.largest, tiny) ** _ALPHA / np.maximum(heaviest, tiny) ** (1 - _ALPHA)
    # A feature that is always 0, or that no layer reads, needs no factor.
    factors = np.where((seen.largest > 0) & (heaviest > 0), factors, np.nan)
    factors = np.nan_to_num(factors / np.exp(np.nanmean(np.log(factors))), nan=1.0)
    return factors.astype(np.float32).astype(np.float64)


def _rescale_norm(graph: ir.Graph, value: ir.Value, factors: Floats) -> None:
    norm = _norm(value)
    for index, what in ((1, "weight"), (2, "bias")) if norm is not None else ():
        assert norm is not None
        given = norm.inputs[index]
        assert given is not None and given.const_value is not None  # see `_norm`
        divided = (given.const_value.numpy() / factors).astype(np.float32)
        norm.replace_input_with(index, new_constant(graph, f"{value.name}_{what}_equalized", divided))


def _pair(graph: ir.Graph, value: ir.Value, step: NDArray[np.float32], kind: ir.DataType) -> tuple[ir.Node, ir.Node]:
    # Each has a scale of its own, which in half precision has the type of what it reads or gives.
    scales = [new_constant(graph, f"{value.name}_{what}", step) for what in ("scale", "scale_back")]
    zero = new_constant(graph, f"{value.name}_zero", np.array(0, kind.numpy()))
    narrow = ir.node("QuantizeLinear", [value, scales[0], zero], name=f"{value.name}_quantized")
    wide = ir.node("DequantizeLinear", [narrow.outputs[0], scales[1], zero], name=f"{value.name}_dequantized")
    narrow.outputs[0].name, wide.outputs[0].name = narrow.name, wide.name
    return narrow, wide


def _correct_bias(graph: ir.Graph, layer: ir.Node, error: Floats) -> None:
    """Subtracts a layer's mean error from its bias, if it has one."""
    add = _add(layer)
    for index, value in enumerate(add.inputs if add is not None else ()):
        if value is not None and value.const_value is not None:
            assert add is not None
            corrected = (value.const_value.numpy() - error).astype(np.float32)
            add.replace_input_with(index, new_constant(graph, f"{value.name}_corrected", corrected))


def _norm(value: ir.Value) -> ir.Node | None:
    """The LayerNormalization with constant scale and shift that made a tensor, or None."""
    node = value.producer()
    if node is None or node.op_type != "LayerNormalization" or len(node.inputs) != 3:
        return None
    return node if all(item is not None and item.const_value is not None for item in node.inputs[1:]) else None


def _add(layer: ir.Node) -> ir.Node | None:
    """The Add of a constant behind a layer, or None."""
    uses = list(layer.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None
    constant = [value for value in uses[0].node.inputs if value is not None and value.const_value is not None]
    return uses[0].node if len(constant) == 1 else None


def _label(layer: ir.Node) -> str:
    add = _add(layer)
    given = [value for value in (add.inputs if add is not None else ()) if value is not None]
    names = [str(value.name) for value in given if value.const_value is not None]
    return names[0].removesuffix(".bias") if names else str(layer.outputs[0].name)


def _is_constant(layer: ir.Node) -> bool:
    weight = layer.inputs[1]
    return weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2


def _weight(layer: ir.Node) -> Floats:
    weight = layer.inputs[1]
    assert weight is not None and weight.const_value is not None  # see `_is_constant`
    return weight.const_value.numpy().astype(np.float64)
