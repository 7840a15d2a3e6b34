"""A half-precision ONNX file on the CPU, run as a GPU would: the proof of half precision without a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from aether_deploy.arrays import Array, finite
from aether_deploy.errors import ExportError, RunnerError
from aether_deploy.files import scratch
from aether_deploy.graphs.rounded_results import Rounded, RoundedResults
from aether_deploy.graphs.types import HALF_TYPES, cast_type, declared_type, largest_finite
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.runners.onnx_reading import OnnxModel, read_onnx
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.text import in_one_line

__all__ = ["RoundedRunner", "graph_of", "half_type_of"]


class RoundedRunner(OnnxRunner):
    """An ONNX file in ONNX Runtime's CPU provider, with every result rounded as its type in the file says.

    See `RoundedResults`. The types in the file decide, whatever it was made from; in an fp32 file nothing is rounded.

    Args:
        path: the file.
        threads: of the CPU; by default one per core.
        ranges: record `activations`.
        model: the file, if it has been read already.
        as_written: let ONNX Runtime optimize nothing.
    Attributes:
        activations: layer that computes in half -> largest absolute value before rounding, over all runs so far;
            infinite once it was not finite.
    Raises:
        RunnerError: the file cannot be read, is not strongly typed, or ONNX Runtime cannot run it with every rounding.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        ranges: bool = False,
        model: OnnxModel | None = None,
        as_written: bool = False,
    ) -> None:
        graph = graph_of(model or read_onnx(path), path)
        try:
            kind = half_type_of(graph)
            # A file is judged by the type of its weights, whatever its metadata or a stray Cast says.
            stored = {declared_type(value).name for value in graph.graph.initializers.values()}
            rounded = RoundedResults(ranges=ranges)(graph)
            assert isinstance(rounded, Rounded)
            self._watch(rounded.model)
        except (ExportError, ir.passes.InvariantError) as error:
            raise RunnerError(f"{path}: {error}; export it again") from error
        self._ranges = rounded.ranges
        self._limit = largest_finite(kind or ir.DataType.FLOAT)
        self.activations: dict[str, float] = {}
        made = OnnxModel.of(rounded.model)
        # Optimizing moves casts, and drops a rounding of what was rounded already; without it all of them stay.
        for unoptimized in (True,) if as_written else (False, True):
            with scratch("rounded") as folder:
                ran = folder / "optimized.onnx"
                super().__init__(path, threads=threads, model=made, optimized=ran, as_written=unoptimized)
                kept = sum(map(_narrows, ir.load(ran).graph.all_nodes()))
            if kept == rounded.casts:
                break
        else:
            raise RunnerError(f"{path}: ONNX Runtime keeps {kept} of {rounded.casts} roundings; it proves nothing here")
        self.activations.clear()
        # Of a graph with layers in 8 bits, the weights around them have another type.
        rows = [row for row in PRECISIONS.values() if row.half and {row.half, row.storage} <= stored]
        self.precision = max(rows, key=lambda row: len({row.half, row.storage})).name if rows else "fp32"
        self.name = f"faithful {self.precision} on the CPU"

    def run(self, lr: Array) -> Array:
        """See `Runner`; the input is first rounded to the file's own type."""
        image, *found = self.outputs(lr)
        self._record(found)
        return np.asarray(image, dtype=np.float32)

    def _watch(self, model: ir.Model) -> None:
        """Adds a subclass's own outputs to the graph that runs, behind those of the ranges."""

    def _record(self, found: Sequence[Array]) -> None:
        """Notes what the added outputs gave in one run."""
        for (label, _), value in zip(self._ranges.values(), map(float, found), strict=True):
            peak = value if math.isfinite(value) else math.inf
            self.activations[label] = max(self.activations.get(label, 0.0), peak)

    def headroom(self) -> dict[str, Any]:
        """How far the largest activations are from the largest value of the type.

        Returns:
            {limit, largest, at, headroom, operators: {type: largest}, ops: {layer: largest}}, headroom being
            limit / largest; values that are not finite are None, with a headroom of 0.
        """
        at, largest = max(self.activations.items(), key=lambda item: item[1], default=("", 0.0))
        operators: dict[str, float] = {}
        for label, op_type in self._ranges.values():
            operators[op_type] = max(self.activations.get(label, 0.0), operators.get(op_type, 0.0))
        found: dict[str, Any] = finite(
            {"limit": self._limit, "largest": largest, "at": at, "operators": operators, "ops": self.activations}
        )
        return {**found, "headroom": self._limit / largest if largest else None}

    def overflows(self) -> list[tuple[str, str]]:
        """(layer, type of operator) for each that exceeded the largest value of the type, in the order of execution."""
        found = dict.fromkeys(self._ranges.values())
        return [item for item in found if self.activations.get(item[0], 0.0) > self._limit]


def graph_of(model: OnnxModel, path: Path) -> ir.Model:
    """The graph of an ONNX file that was read.

    Raises:
        RunnerError: it cannot be represented; the message names the file.
    """
    try:
        return ir.from_proto(model.proto)
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise RunnerError(f"{path}: cannot be read as ONNX ({in_one_line(error)}); export it again") from error


def half_type_of(model: ir.Model) -> ir.DataType | None:
    """FLOAT16 or BFLOAT16 if anything is stored in it or rounded to it; None for a graph that is fp32 throughout."""
    graph = model.graph
    weights = [declared_type(value) for value in graph.initializers.values()]
    casts = [cast_type(node) for node in graph.all_nodes() if node.op_type == "Cast"]
    ends = [value.dtype for value in (*graph.inputs, *graph.outputs)]
    # Input and output come last: in a bf16 file they can be fp16.
    return next((kind for kind in (*weights, *casts, *ends) if kind in HALF_TYPES), None)


def _narrows(node: ir.Node) -> bool:
    return node.op_type == "Cast" and cast_type(node) in HALF_TYPES
