"""Network -> ONNX: one self-contained file with dynamic shapes and native operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from aether_deploy.arrays import Shape
from aether_deploy.errors import ExportError
from aether_deploy.graphs.export_process import exported_apart
from aether_deploy.graphs.layer_names import name_layers
from aether_deploy.graphs.opsets import DEFAULT_OPSET, OPSETS
from aether_deploy.graphs.shapes import INPUT, OUTPUT, dynamic_shapes, static_shapes
from aether_deploy.graphs.torch_export import traced
from aether_deploy.network.families import family_of

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.family import Family, NetworkSpec

__all__ = ["export_onnx", "save_onnx"]


def export_onnx(
    network: nn.Module,
    spec: NetworkSpec,
    *,
    opset: int = DEFAULT_OPSET,
    static: Shape | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ir.Model:
    """The network as an fp32 ONNX model, `input` -> `output`, with the weights inside.

    Args:
        network: in eval mode, fused or not; not changed.
        spec: of that network.
        opset: 17 to 23. Below 20 GELU becomes five operators.
        static: fixed (N, C, H, W) of the input; None for dynamic batch, height and width.
        metadata: for `metadata_props`.
    Raises:
        ExportError: an opset or static shape that is not possible, or the exporter wrote another graph than expected.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset}; expected {OPSETS.start} to {OPSETS.stop - 1}")
    if static is not None and (static[1] != spec.in_chans or min(static) < 1):
        raise ExportError(f"static shape {'x'.join(map(str, static))}; expected Nx{spec.in_chans}xHxW, all at least 1")
    family = family_of(spec)
    if family.operators is None:
        model = exported_apart(network, spec, opset=opset, static=static)
    else:
        model = traced(network, spec, opset=opset, static=static)
    _tidy(model, spec, static, metadata or {})
    _check(model, opset, family)
    return model


def save_onnx(model: ir.Model, path: Path) -> None:
    """Writes the model as one file, with the weights inside."""
    ir.save(model, path)


def _tidy(model: ir.Model, spec: NetworkSpec, static: Shape | None, metadata: Mapping[str, str]) -> None:
    """Names layers and dimensions, and drops what only describes the exporter's own steps (0.3 MB for small)."""
    graph = model.graph
    shapes = static_shapes(static, spec.scale) if static else dynamic_shapes(spec.in_chans)
    name_layers(graph)
    ClearMetadataAndDocStringPass()(model)
    computed = [value for node in graph.all_nodes() for value in node.outputs]
    for value in (*graph.inputs, *graph.initializers.values(), *computed):
        value.metadata_props.clear()  # the pass leaves these
    for value in computed:
        # Some readers set height and width and infer the shapes again; stale ones would contradict those.
        value.shape = None
        if not value.is_graph_output():
            value.type = None
    graph.inputs[0].shape = ir.Shape(shapes[INPUT])
    graph.outputs[0].shape = ir.Shape(shapes[OUTPUT])
    graph.name = spec.variant
    model.producer_name = "aether_deploy"
    model.producer_version = None
    model.metadata_props.update(metadata)


def _check(model: ir.Model, opset: int, family: Family) -> None:
    seen = model.graph.opset_imports.get("")
    if seen != opset:
        raise ExportError(f"the exporter wrote opset {seen}, expected {opset}; choose another --opset")
    if family.operators is None:
        return
    surplus = {node.op_type for node in model.graph.all_nodes()} - family.operators
    if surplus or model.functions:
        raise ExportError(
            f"the exporter wrote operators that no {family.title} needs: {', '.join(sorted(surplus)) or 'functions'}; "
            "the pinned torch and onnxscript give none of them, see constraints.txt"
        )
    sizes = [name for name, value in model.graph.initializers.items() if value.dtype != ir.DataType.FLOAT]
    if sizes:
        raise ExportError(f"the exporter wrote {sizes[0]}, which is not a weight: a size may be fixed in the graph")
