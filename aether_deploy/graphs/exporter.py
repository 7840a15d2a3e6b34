"""Network -> ONNX: one self-contained file with dynamic shapes and native operators."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from aether_deploy.arrays import Shape
from aether_deploy.errors import ExportError
from aether_deploy.graphs.export_process import exported_apart
from aether_deploy.graphs.layer_names import name_layers
from aether_deploy.graphs.opsets import DEFAULT_OPSET, OPSETS
from aether_deploy.graphs.shapes import INPUT, OUTPUT, dynamic_shapes, static_shapes
from aether_deploy.network.families import family_of

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.family import Family, NetworkSpec, Sizes

__all__ = [
    "export_onnx",
    "quiet_exporters",
    "save_onnx",
    "traced",
]


# (N, H, W), each at least 2: the exporter specialises a size of 1, for the batch too.
_EXAMPLE = (2, 32, 48)


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


def traced(network: nn.Module, spec: NetworkSpec, *, opset: int, static: Shape | None) -> ir.Model:
    """What PyTorch's exporter gives; args and errors are those of `export_onnx`, and whatever the exporter raises."""
    free = static is None and family_of(spec).operators is None
    example = torch.zeros(static or (_EXAMPLE[0], spec.in_chans, *spec.sizes.fit(*_EXAMPLE[1:])))
    try:
        with torch.no_grad(), quiet_exporters():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=_free(spec.sizes) if free else None,
                verbose=False,
            )
    except Exception as error:
        if interruption := _interruption(error):
            raise interruption from None
        raise
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    return program.model


def _interruption(error: BaseException) -> BaseException | None:
    """The Ctrl-C or SIGTERM behind an error: PyTorch's exporter turns both into errors of its own."""
    cause: BaseException | None = error
    while cause is not None and isinstance(cause, Exception):
        cause = cause.__cause__ or cause.__context__
    return cause


def _free(sizes: Sizes) -> tuple[dict[int, Any], ...]:
    """Batch, height and width as symbols for the export.

    Not needed for a family whose operators are known: none of them depends on a size, so the export of one size is the
    same graph, and takes 0.4 times as long.
    """
    least = max(1, sizes.minimum // sizes.multiple)
    batch = torch.export.Dim("batch", min=1)
    height, width = (torch.export.Dim(name, min=least) for name in ("height", "width"))
    # A multiple of 1 is written as the symbol itself, which the exporter reads in another way than 1 * symbol.
    sides = [height, height if sizes.square else width]
    if sizes.multiple > 1:
        sides = [sizes.multiple * side for side in sides]
    return ({0: batch, 2: sides[0], 3: sides[1]},)


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


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silences PyTorch's exporters, which report internals and warn about opset 17; the checks here cover both."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
