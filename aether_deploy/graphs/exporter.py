"""Network -> ONNX: one self-contained file with dynamic shapes and native operators."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from aether_deploy.arrays import Shape
from aether_deploy.errors import ExportError
from aether_deploy.network.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DEFAULT_OPSET",
    "DYNAMIC_SHAPES",
    "OPSETS",
    "dynamic_shapes",
    "export_onnx",
    "quiet_exporters",
    "save_onnx",
    "static_shapes",
]

logger = logging.getLogger(__name__)

# At 20 GELU is one operator; readers with an older runtime ask for 17.
DEFAULT_OPSET = 20
OPSETS = range(17, 24)

INPUT, OUTPUT = "input", "output"
# Distinct names: one name at both ends of a 2x model makes ONNX Runtime reuse a buffer of a wrong size.
DYNAMIC_SHAPES: dict[str, list[str | int]] = {
    INPUT: ["batch", 3, "height", "width"],
    OUTPUT: ["batch", 3, "out_height", "out_width"],
}

# Every dynamic dimension at least 2: a size of 1 is specialised by the exporter, batch included.
_EXAMPLE = (2, 32, 48)

# What an Aether graph consists of; anything else means that the exporter has changed under us.
_OPERATORS = {"Add", "Sub", "Mul", "Div", "Conv", "MatMul", "Transpose", "LayerNormalization", "Gelu", "Erf"} | {
    "LeakyRelu",
    "DepthToSpace",
}


def export_onnx(
    network: nn.Module,
    spec: NetworkSpec,
    *,
    opset: int = DEFAULT_OPSET,
    static: Shape | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ir.Model:
    """The network as an ONNX model, `input` -> `output`, fp32, with everything inside.

    Args:
        network: in eval mode, fused or not; is not changed.
        spec: of that network.
        opset: 17 to 23. Below 20 GELU becomes five operators.
        static: fixed (N, C, H, W) of the input; dynamic batch, height and width otherwise.
        metadata: for `metadata_props`.
    Raises:
        ExportError: the opset is not offered, or the graph is not what it should be.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset}; expected {OPSETS.start} to {OPSETS.stop - 1}")
    if static is not None and (static[1] != spec.in_chans or min(static) < 1):
        raise ExportError(f"static shape {'x'.join(map(str, static))}; expected Nx{spec.in_chans}xHxW, all at least 1")
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    example = torch.zeros(static or (_EXAMPLE[0], spec.in_chans, *_EXAMPLE[1:]))
    with torch.no_grad(), quiet_exporters():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=None if static else ({0: batch, 2: height, 3: width},),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    model = program.model
    _tidy(model, spec, static, metadata or {})
    _check(model, opset)
    return model


def static_shapes(shape: Shape, scale: int) -> dict[str, list[str | int]]:
    """Shapes of both ends for a fixed input (N, C, H, W)."""
    n, c, h, w = shape
    return {INPUT: [n, c, h, w], OUTPUT: [n, c, h * scale, w * scale]}


def dynamic_shapes(in_chans: int) -> dict[str, list[str | int]]:
    """Shapes of both ends, with names where they are free."""
    return {name: [dims[0], in_chans, *dims[2:]] for name, dims in DYNAMIC_SHAPES.items()}


def save_onnx(model: ir.Model, path: Path) -> None:
    """Writes one file, the weights inside."""
    ir.save(model, path)


def _tidy(model: ir.Model, spec: NetworkSpec, static: Shape | None, metadata: Mapping[str, str]) -> None:
    """Names the dimensions, and drops what only describes the exporter's own steps (0.3 MB for small)."""
    graph = model.graph
    shapes = static_shapes(static, spec.scale) if static else dynamic_shapes(spec.in_chans)
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            # Readers overwrite height and width and infer shapes anew; stale ones would contradict them.
            value.shape = None
            if not value.is_graph_output():
                value.type = None
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.inputs[0].shape = ir.Shape(shapes[INPUT])
    graph.outputs[0].shape = ir.Shape(shapes[OUTPUT])
    graph.metadata_props.clear()
    graph.name = spec.variant
    graph.doc_string = None
    model.producer_name = "aether_deploy"
    model.producer_version = None
    model.doc_string = None
    model.metadata_props.clear()
    model.metadata_props.update(metadata)


def _check(model: ir.Model, opset: int) -> None:
    seen = model.graph.opset_imports.get("")
    if seen != opset:
        raise ExportError(f"the exporter wrote opset {seen}, asked for was {opset}; choose another --opset")
    surplus = {node.op_type for node in model.graph.all_nodes()} - _OPERATORS
    if surplus or model.functions:
        raise ExportError(
            f"the exporter wrote operators that no AetherNet needs: {', '.join(sorted(surplus)) or 'functions'}; "
            "the pinned torch and onnxscript give none of them, see constraints.txt"
        )


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """PyTorch's exporters print and warn about their own internals and about opset 17, which the checks here cover."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
