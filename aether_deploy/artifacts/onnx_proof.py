"""An ONNX file, written, reloaded from disk and proved; half precision in two steps.

First the graph before rounding, at fp32's gate, which finds errors in it (a wrong LayerNorm epsilon errs by 1e-4, less
than rounding does); then the rounded file at its own gate, executed as its types say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aether_deploy.errors import ExportError
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.verdict import ParityReport, Reference, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.half_precision import Conversion
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.runners.rounded import RoundedRunner

__all__ = ["Proof", "check_onnx", "describe_step", "prove_again", "write_proved"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved about a file.

    Attributes:
        report: the file against the network as it was trained.
        half: the manifest's `fp32_islands`, `weights` and `activations`; empty in fp32.
    """

    report: ParityReport
    half: dict[str, Any] = field(default_factory=dict)


def write_proved(graph: ir.Model, spec: NetworkSpec, variant: Variant, reference: Reference, path: Path) -> Proof:
    """Writes the variant of an fp32 graph, reloads it and proves it; `auto` islands are chosen on the way.

    Args:
        graph: from `forms.fp32_model`, with its metadata; not changed.
        spec: of the network.
        variant: to write.
        reference: the outputs of the network as it was trained.
        path: to write; a file that does not pass is left there, too.
    Raises:
        ParityError: the file does not pass; with `auto`, that of no policy passes.
        ExportError: the file is not valid ONNX; or see `to_half`.
    """
    from aether_deploy.graphs.exporter import save_onnx

    name = path.name
    save_onnx(graph, path)
    what = f"{name}, before rounding," if variant.row.rounds else name
    before = _compared_in_fp32(path, reference, what)
    return _write_rounded(graph, spec, variant, reference, path, before) if variant.row.rounds else Proof(before)


def _compared_in_fp32(path: Path, reference: Reference, what: str) -> ParityReport:
    """A file in fp32, read from disk, against the trained network; raises ParityError or ExportError."""
    _refuse_casts(check_onnx(path), path.name)
    with OnnxRunner(path) as runner:
        report = verify(reference, runner.run, "fp32", what=what)
    report.require(what)
    return report


def _write_rounded(
    graph: ir.Model, spec: NetworkSpec, variant: Variant, reference: Reference, path: Path, before: ParityReport
) -> Proof:
    from aether_deploy.graphs.exporter import save_onnx
    from aether_deploy.precisions.forms import conversions

    name, measured = path.name, []
    for conversion in conversions(graph, spec, variant):
        conversion.model.metadata_props["aether_deploy.fp32_islands"] = json.dumps(conversion.as_dict())
        save_onnx(conversion.model, path)
        check_onnx(path)
        with _proof_runner(path, variant) as runner:
            report = verify(reference, runner.run, variant.precision, what=f"{name}, islands {conversion.policy}")
        measured.append({"policy": conversion.policy, "casts": conversion.casts, **report.summary()})
        if report.passed:
            break
    tried = f" (tried {'; '.join(map(describe_step, measured))})" if len(measured) > 1 else ""
    report.require(name, hint=_hint(runner, conversion, variant) + tried)
    islands = {"asked": variant.islands, **conversion.as_dict(), "measured": measured}
    return Proof(
        report,
        {
            "fp32_islands": {**islands, "before_rounding": before.summary()},
            "weights": conversion.weights_as_dict(),
            "activations": runner.headroom(),
        },
    )


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
    if not variant.row.rounds:
        return Proof(_compared_in_fp32(path, reference, path.name))
    with _proof_runner(path, variant) as rounded:
        report = verify(reference, rounded.run, variant.precision, what=path.name)
    report.require(path.name)
    measured = {"policy": islands["policy"], "casts": islands["casts"], **report.summary()}
    return Proof(report, {"fp32_islands": {**islands, "measured": [measured]}, "activations": rounded.headroom()})


def _proof_runner(path: Path, variant: Variant) -> RoundedRunner:
    """Executes the file as its types say; ONNX Runtime must load the file itself too, if it has the operators."""
    from aether_deploy.runners.rounded import RoundedRunner

    if variant.row.in_onnxruntime:
        OnnxRunner(path).close()
    return RoundedRunner(path, ranges=True)


def _hint(runner: RoundedRunner, conversion: Conversion, variant: Variant) -> str:
    """Advice for a file that does not pass."""
    overflowing = runner.overflows()
    if not overflowing:
        return f"; use {'--islands default' if conversion.policy != 'default' else '--precision fp32'}"
    name, op = overflowing[0]
    if op == "LayerNormalization":
        return f"; {name} overflows {variant.precision} inside: use --islands default or all-norms"
    return f"; {name} overflows {variant.precision}: use --precision {variant.row.wider}"


def describe_step(step: Mapping[str, Any]) -> str:
    """One policy's figures in words, for people."""
    figures, verdict = step["figures"], "passes" if step["passed"] else "fails"
    if figures["max_abs"] is None:
        return f"{step['policy']} {verdict}: not finite"
    level, psnr = figures["max_abs"] * 255, math.inf if figures["psnr"] is None else figures["psnr"]
    return f"{step['policy']} {verdict}: {level:.3g} of an 8-bit level, {psnr:.1f} dB"


def check_onnx(path: Path) -> onnx.ModelProto:
    """Runs the full checker, and shape inference in strict mode as chaiNNer does.

    Returns:
        the model as it is on disk.
    Raises:
        ExportError: the file on disk is not a valid model.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is no valid ONNX: {str(error).splitlines()[0]}") from error
    return model


def _refuse_casts(model: onnx.ModelProto, name: str) -> None:
    """Refuses Casts in an fp32 file: the CPU provider would drop them, and the proof would miss them."""
    casts = [node.output[0] for node in model.graph.node if node.op_type == "Cast"]
    if casts:
        raise ExportError(f"{name}: {len(casts)} Casts in an fp32 graph, the first {casts[0]}; expected none")
