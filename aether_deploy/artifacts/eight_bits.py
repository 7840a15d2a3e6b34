"""8 bits, layer by layer: what each costs is measured, and those that the gate cannot afford stay in fp32."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from aether_deploy.arrays import Array
from aether_deploy.errors import ExportError
from aether_deploy.graphs.constants import new_constant
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.graphs.eight_bit_numbers import largest_of
from aether_deploy.graphs.passes import AFTER_8_BITS, PASSES, applied
from aether_deploy.graphs.quantized_layers import LinearInput, Observed, QuantizedLayers, linear_inputs
from aether_deploy.network.families import family_of
from aether_deploy.proof.calibration import Calibration
from aether_deploy.proof.figures import figures_of
from aether_deploy.runners.onnx_reading import OnnxModel
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.rounded import RoundedRunner

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.precisions.precision import Tolerance
    from aether_deploy.precisions.variant import Variant

__all__ = ["AsWritten", "Layers", "QuantizedGraph", "quantized_graphs"]

logger = logging.getLogger(__name__)

# Rows of a picture that are kept to find the mean error of each output.
_ROWS = 256
# Errors of layers add up about like noise; up to this factor beyond the gate, the sum is not believed and tried.
_DOUBT = 2.0


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers that read one tensor, and what 8 bits cost there.

    Attributes:
        read: the tensor, and its layers.
        share: of the gate's squared error that these layers alone take up in 8 bits: 1 is all that is allowed.
    """

    read: LinearInput
    share: float

    def as_dict(self, *, eight_bits: bool) -> dict[str, Any]:
        """For the manifest."""
        return {"layers": list(self.read.layers), "share": self.share, "eight_bits": eight_bits}


@dataclass
class QuantizedGraph(Conversion):
    """A graph with layers in 8 bits.

    Attributes:
        layers: `Layers.as_dict` of every candidate.
    """

    layers: list[dict[str, Any]]


def quantized_graphs(
    graph: ir.Model, spec: NetworkSpec, variant: Variant, calibration: Calibration, gate: Tolerance
) -> Iterator[QuantizedGraph]:
    """The graph with as many layers in 8 bits as the gate may allow, then with fewer and fewer.

    Those that cost most for the time that they save are left out first.

    Args:
        graph: in fp32, its norms not folded; not changed.
        spec: of the network.
        variant: says which layers.
        calibration: what ranges, mean errors and costs are found on.
        gate: by which the file will be judged.
    Raises:
        ExportError: the graph has no such layers, or each of them alone errs too much.
    """
    from aether_deploy.precisions.forms import conversions

    every = [read for read in linear_inputs(graph) if read.normed or variant.row.quantizes == "all"]
    if not every:
        raise ExportError(f"no linear layer for {variant.precision} in this network; export it in fp16")
    observed = _observe(graph, every, calibration.images)
    costs = _costs(graph, every, observed, calibration, gate, variant)
    kept = sorted(costs, key=lambda layers: layers.share / layers.read.products)
    folds = [PASSES[name]() for name in family_of(spec).passes if name in AFTER_8_BITS]
    tried = False
    while kept:
        if sum(layers.share for layers in kept) <= _DOUBT:
            names = {layers.read.name for layers in kept}
            made = _quantized(graph, {name: observed[name] for name in names}, variant)
            tried = True
            layers_of = [layers.as_dict(eight_bits=layers.read.name in names) for layers in costs]
            if variant.row.half:
                for around in conversions(made.model, spec, variant):
                    around.weights += made.weights
                    around.policy = f"{made.policy}, islands {around.policy}"
                    yield QuantizedGraph(**vars(around), layers=layers_of)
            else:
                # What stays in fp32 is made as fast as in an fp32 file.
                made.model = applied(made.model, *folds)
                yield QuantizedGraph(**vars(made), layers=layers_of)
        kept.pop()
    if not tried:
        best = min(costs, key=lambda layers: layers.share)
        raise ExportError(
            f"8 bits err more than {variant.precision} allows in every layer, least in {best.read.layers[0]}: "
            f"{math.sqrt(best.share):.1f} times what is allowed; use fp16"
        )


def _observe(graph: ir.Model, reads: Sequence[LinearInput], images: Sequence[Array]) -> dict[str, Observed]:
    model = graph.clone()
    for read, value in _values(model, reads):
        shape = new_constant(model.graph, f"{value.name}_rows_shape", np.array([-1, _features(value)], np.int64))
        rows = ir.node("Reshape", [value, shape], name=f"{read.name}_rows")
        _add_output(model.graph, rows, ir.Shape([None, _features(value)]))
    largest: dict[str, list[Array]] = {read.name: [] for read in reads}
    kept: dict[str, list[Array]] = {read.name: [] for read in reads}
    with _runner_of(model) as runner:
        for number, image in enumerate(images, start=1):
            logger.info("calibrating %d/%d", number, len(images))
            for read, rows_seen in zip(reads, runner.outputs(image)[1:], strict=True):
                largest[read.name].append(np.abs(rows_seen).max(axis=0))
                # A copy: a view would keep every row of every picture.
                kept[read.name].append(rows_seen[:: max(1, len(rows_seen) // _ROWS)].copy())
    return {
        name: Observed(np.max(values, axis=0).astype(np.float64), np.concatenate(kept[name]).astype(np.float64))
        for name, values in largest.items()
    }


def _costs(
    graph: ir.Model,
    reads: Sequence[LinearInput],
    observed: Mapping[str, Observed],
    calibration: Calibration,
    gate: Tolerance,
    variant: Variant,
) -> list[Layers]:
    images = [
        *((photo, gate) for photo in calibration.photos),
        *((image, gate.for_drawn()) for image in calibration.drawn),
    ]
    with _runner_of(graph) as exact:
        expected = [exact.run(image) for image, _ in images]
    found = []
    for number, read in enumerate(reads, start=1):
        logger.info("what 8 bits cost %d/%d: %s", number, len(reads), ", ".join(read.layers))
        quantized = _quantized(graph, {read.name: observed[read.name]}, variant).model
        with _runner_of(quantized, as_written=not variant.row.in_onnxruntime) as runner:
            shares = [
                _share(before, runner.run(image), limit)
                for before, (image, limit) in zip(expected, images, strict=True)
            ]
        found.append(Layers(read, max(shares)))
    return found


def _share(expected: Array, actual: Array, limit: Tolerance) -> float:
    """Squared error as a share of what is allowed, of a single value or of all, whichever is more."""
    figures = figures_of(expected, actual)
    return max((figures.max_abs / limit.max_abs) ** 2, 10 ** ((limit.min_psnr - figures.psnr) / 10))


class AsWritten(RoundedRunner):
    """A file with 8-bit layers, QuantizeLinear and DequantizeLinear computed in floats as they stand.

    ONNX Runtime's integer kernels, which replace them otherwise, must give the same. Half precision around them is
    rounded as its types say.

    Raises:
        RunnerError: see `RoundedRunner`; or the file quantizes in another way than `quantized_layers`.
    Attributes:
        shares: layers -> largest absolute value that was quantized, as a share of the largest that is not clipped, over
            all runs so far; above 1 it was clipped.
        clipped: layers -> how many values were clipped, over all runs so far.
    """

    def __init__(self, path: Path) -> None:
        self._labels: list[tuple[str, float]] = []
        self.shares: dict[str, float] = {}
        self.clipped: dict[str, int] = {}
        super().__init__(path, ranges=True, as_written=True)
        self.shares.clear()
        self.clipped.clear()

    def _watch(self, model: ir.Model) -> None:
        for node in [node for node in model.graph if node.op_type == "QuantizeLinear"]:
            label, most = _written(node)
            absolute = ir.node("Abs", node.inputs[:1], name=f"{node.name}_abs")
            largest = ir.node("ReduceMax", [absolute.outputs[0]], {"keepdims": 0}, name=f"{node.name}_largest")
            limit = new_constant(model.graph, f"{node.name}_most", np.array(most, np.float32))
            beyond = ir.node("Greater", [absolute.outputs[0], limit], name=f"{node.name}_beyond")
            ones = ir.node("Cast", [beyond.outputs[0]], {"to": ir.DataType.FLOAT.value}, name=f"{node.name}_ones")
            count = ir.node("ReduceSum", [ones.outputs[0]], {"keepdims": 0}, name=f"{node.name}_clipped")
            model.graph.extend([absolute, beyond, ones])
            _add_output(model.graph, largest, ir.Shape([]))
            _add_output(model.graph, count, ir.Shape([]))
            self._labels.append((label, most))

    def _record(self, found: Sequence[Array]) -> None:
        own = len(found) - 2 * len(self._labels)
        super()._record(found[:own])
        for (label, most), largest, count in zip(self._labels, found[own::2], found[own + 1 :: 2], strict=True):
            self.shares[label] = max(self.shares.get(label, 0.0), float(largest) / most)
            self.clipped[label] = self.clipped.get(label, 0) + int(count)

    def headroom(self) -> dict[str, Any]:
        """The manifest's `activations`: of half precision, or in shares of what is not clipped, so the limit is 1."""
        if self.activations:
            return super().headroom()
        at, largest = max(self.shares.items(), key=lambda item: item[1], default=("", 0.0))
        return {
            "limit": 1.0,
            "largest": largest,
            "at": at,
            "operators": {"QuantizeLinear": largest},
            "ops": self.shares,
            "headroom": 1 / largest if largest else None,
        }


def _written(quantize: ir.Node) -> tuple[str, float]:
    """The layers that read a quantized tensor, as `quantized_layers` named them, and the largest value not clipped."""
    given = [value.const_value for value in quantize.inputs[1:3] if value is not None and value.const_value is not None]
    products = [node for wide in quantize.outputs[0].uses() for node in _products(wide.node.outputs[0])]
    if len(given) != 2 or given[0].size != 1 or len(products) != 1 or len(products[0].inputs) != 2:
        raise ExportError(f"{quantize.outputs[0].name} is quantized in another way than ours")
    weight = products[0].inputs[1]
    while weight is not None and (source := weight.producer()) is not None and source.op_type == "Cast":
        weight = source.inputs[0]
    label = "" if weight is None else str(weight.name).removesuffix(".weight_dequantized").replace("|", ", ")
    return label, float(given[0].numpy().reshape(())) * largest_of(given[1].dtype)


def _products(value: ir.Value) -> Iterator[ir.Node]:
    """The MatMuls that read a value, or read it rounded."""
    for use in value.uses():
        if use.node.op_type == "Cast":
            yield from _products(use.node.outputs[0])
        elif use.node.op_type == "MatMul":
            yield use.node


def _quantized(graph: ir.Model, observed: Mapping[str, Observed], variant: Variant) -> Conversion:
    row = variant.row
    made = QuantizedLayers(observed, ir.DataType[row.storage], ir.DataType[row.half or "FLOAT"])(graph)
    assert isinstance(made, Conversion)
    return made


def _values(model: ir.Model, reads: Sequence[LinearInput]) -> Iterator[tuple[LinearInput, ir.Value]]:
    values = {value.name: value for node in model.graph for value in node.outputs}
    for read in reads:
        yield read, values[read.name]


def _features(value: ir.Value) -> int:
    weight = next(iter(value.uses())).node.inputs[1]
    assert weight is not None and weight.const_value is not None  # see `linear_inputs`
    return int(weight.const_value.numpy().shape[0])


def _add_output(graph: ir.Graph, node: ir.Node, shape: ir.Shape) -> None:
    graph.append(node)
    output = node.outputs[0]
    output.name, output.type, output.shape = node.name, ir.TensorType(ir.DataType.FLOAT), shape
    graph.outputs.append(output)


def _runner_of(model: ir.Model, *, as_written: bool = False) -> OnnxRunner:
    return OnnxRunner(Path("the graph"), model=OnnxModel.of(model), as_written=as_written)
