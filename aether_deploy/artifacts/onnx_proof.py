"""An ONNX file, written, reloaded from disk and proved; half precision and 8 bits in two steps.

First the graph before rounding, at fp32's gate, which finds errors in it (a wrong LayerNorm epsilon errs by 1e-4, less
than rounding does); then the rounded file at its own gate, executed as its types say.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aether_deploy.artifacts.eight_bits_proof import prove_eight_bits, write_eight_bits
from aether_deploy.artifacts.half_proof import prove_half, write_half
from aether_deploy.artifacts.onnx_check import Proof, check_onnx
from aether_deploy.errors import ExportError
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.verdict import ParityReport, Reference, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.network.family import NetworkSpec

__all__ = ["prove_again", "write_proved"]


def write_proved(
    graph: ir.Model, spec: NetworkSpec, variant: Variant, reference: Reference, path: Path, options: ExportOptions
) -> Proof:
    """Writes the variant of an fp32 graph, reloads it and proves it.

    Args:
        graph: from `forms.fp32_model`, with its metadata; not changed.
        spec: of the network.
        variant: to write.
        reference: the outputs of the network as it was trained.
        path: to write; a file that does not pass is left there, too.
        options: photos and limits of 8 bits.
    Raises:
        ParityError: the file does not pass; where several forms are tried, none passes.
        ExportError: the file is not valid ONNX; or see `to_half` and `quantized_graphs`.
    """
    from aether_deploy.graphs.exporter import save_onnx
    from aether_deploy.graphs.passes import applied
    from aether_deploy.graphs.row_means import RowMeans

    # A GPU's means over a picture are exact; the CPU's, which judge the graph before rounding, become so.
    save_onnx(applied(graph, RowMeans()) if variant.row.half else graph, path)
    what = f"{path.name}, before rounding," if variant.row.rounds else path.name
    before = _compared_in_fp32(path, reference, what)
    if variant.row.quantizes:
        return write_eight_bits(graph, spec, variant, reference, path, before, options)
    if variant.row.half:
        return write_half(graph, spec, variant, reference, path, before)
    return Proof(before)


def prove_again(path: Path, variant: Variant, reference: Reference, islands: Mapping[str, Any]) -> Proof:
    """Compares a file that was made before.

    Args:
        path: of the file.
        variant: that it has.
        reference: the outputs of the network as it was trained.
        islands: the manifest's `fp32_islands`, whose figures are replaced.
    Raises:
        ParityError: the file does not pass.
        RunnerError: the file cannot be run.
    """
    if variant.row.quantizes:
        return prove_eight_bits(path, variant, reference, islands)
    if variant.row.half:
        return prove_half(path, variant, reference, islands)
    return Proof(_compared_in_fp32(path, reference, path.name))


def _compared_in_fp32(path: Path, reference: Reference, what: str) -> ParityReport:
    """A file in fp32, read from disk, against the trained network; raises ParityError or ExportError."""
    _refuse_casts(check_onnx(path), path.name)
    with OnnxRunner(path) as runner:
        report = verify(reference, runner.run, "fp32", what=what)
    report.require(what)
    return report


_FLOATING = {
    kind for name, kind in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT", "BFLOAT")) or name == "DOUBLE"
}


def _refuse_casts(model: onnx.ModelProto, name: str) -> None:
    """Refuses Casts from and to other floating-point types: the CPU provider would drop them, unseen by the proof."""
    if all(node.op_type != "Cast" for node in model.graph.node):
        return
    graph = onnx.shape_inference.infer_shapes(model).graph
    numbers = _FLOATING - {onnx.TensorProto.FLOAT}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    kinds |= {value.name: value.data_type for value in graph.initializer}
    casts = [
        node.output[0]
        for node in graph.node
        if node.op_type == "Cast"
        and (kinds.get(node.output[0]) in {None, *numbers} or kinds.get(node.input[0]) in {None, *numbers})
    ]
    if casts:
        raise ExportError(f"{name}: {len(casts)} Casts in an fp32 graph, the first {casts[0]}; expected none")
