"""A file with layers in 8 bits, run in integers and as it is written, at the gate of its precision."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.arrays import Array, mean_squared_error, psnr
from aether_deploy.artifacts.candidates import first_that_passes
from aether_deploy.artifacts.eight_bits import AsWritten, QuantizedGraph, quantized_graphs
from aether_deploy.artifacts.onnx_check import Proof, describe_step, proved_again
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.calibration import GroundTruth, calibration_inputs, ground_truths
from aether_deploy.proof.cases import Case
from aether_deploy.proof.verdict import ParityReport, Reference, capture, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.text import printable

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.network.family import NetworkSpec

__all__ = ["prove_eight_bits", "write_eight_bits"]


def write_eight_bits(
    graph: ir.Model,
    spec: NetworkSpec,
    variant: Variant,
    reference: Reference,
    path: Path,
    before: ParityReport,
    options: ExportOptions,
) -> Proof:
    """Writes and proves the variant with as many layers in 8 bits as pass; see `onnx_proof.write_proved`.

    `path` holds the graph before rounding, whose report is `before`.
    """
    shapes: dict[str, Any] = {"in_chans": spec.in_chans, "static": variant.static}
    truths = ground_truths(options.images, options.calibration, scale=spec.scale, **shapes)
    calibration = calibration_inputs(options.calibration, **shapes)
    gate = reference.tolerances[variant.precision]
    most = variant.row.max_lost if options.max_lost is None else options.max_lost
    if options.quality is not None:
        gate = dataclasses.replace(gate, min_psnr=options.quality)
        reference = dataclasses.replace(reference, tolerances={**reference.tolerances, variant.precision: gate})
    with OnnxRunner(path) as exact:
        shrunk = capture(exact.run, [Case(f"{pair.name} shrunk", pair.lr) for pair in truths], reference.tolerances)

    def judge(_made: QuantizedGraph) -> tuple[ParityReport, tuple[dict[str, Any], dict[str, Any]]]:
        return _judge(path, variant, reference, shrunk, truths, most)

    candidates = quantized_graphs(graph, spec, variant, calibration, gate)
    made, report, (activations, found), measured = first_that_passes(candidates, path, judge)
    report.require(path.name, hint=f"; use fp16 (tried {'; '.join(map(describe_step, measured))})")
    islands = {"asked": variant.islands, **made.as_dict(), "measured": measured}
    return Proof(
        report,
        {
            "fp32_islands": {**islands, "before_rounding": before.summary()},
            "weights": made.weights_as_dict(),
            "activations": activations,
            "quantization": {"calibration": _where(options), "layers": made.layers, **found},
        },
    )


def _where(options: ExportOptions) -> str:
    return "the packaged photos" if options.calibration is None else printable(Path(options.calibration).name)


def prove_eight_bits(path: Path, variant: Variant, reference: Reference, islands: Mapping[str, Any]) -> Proof:
    """Compares a file that was made before, but not with ground truth; see `onnx_proof.prove_again`."""
    nothing = Reference((), (), reference.tolerances)
    report, (activations, _) = _judge(path, variant, reference, nothing, [], None)
    return proved_again(path.name, report, islands, activations)


def _judge(
    path: Path,
    variant: Variant,
    reference: Reference,
    shrunk: Reference,
    truths: Sequence[GroundTruth],
    most: float | None,
) -> tuple[ParityReport, tuple[dict[str, Any], dict[str, Any]]]:
    """Runs the file in ONNX Runtime, in integers if it has kernels for them, and as it is written.

    Args:
        path, variant, reference: of the file.
        shrunk, truths: shrunk photos with the outputs before rounding, and what they were shrunk from.
        most: dB of PSNR against those that may be lost.
    Returns:
        the worse report; activations, and what a manifest's `quantization` has of executions.
    """
    outputs: list[Array] = []
    gate, what, reports = variant.precision, path.name, {}

    def run(lr: Array) -> Array:
        outputs.append(runner.run(lr))
        return outputs[-1]

    with contextlib.ExitStack() as opened:
        runner: OnnxRunner = opened.enter_context(floats := AsWritten(path))
        reports["floats"] = verify(reference, floats.run, gate, what=f"{what}, in floats,")
        activations, clipped = floats.headroom(), dict(floats.clipped)
        if variant.row.in_onnxruntime:
            plain = opened.enter_context(OnnxRunner(path))
            # With fp16 around them, the CPU provider has no integer kernels; it must load the file all the same.
            if not variant.row.half:
                runner = plain
                reports["integers"] = verify(reference, runner.run, gate, what=what)
        against = verify(shrunk, run, gate, what=f"{what}, shrunk photos,")
    results, lost = [], []
    for pair, exact, actual, result in zip(truths, shrunk.outputs, outputs, against.results, strict=True):
        before, after = (psnr(mean_squared_error(pair.hr, image.clip(0, 1))) for image in (exact, actual))
        lost.append({"photo": printable(pair.name), "psnr": before, "lost": before - after})
        if not result.failure and most is not None and not before - after <= most:
            failure = f"{before - after:.3f} dB of PSNR against ground truth is lost, at most {most} is allowed"
            result = dataclasses.replace(result, failure=failure)
        results.append(result)
    worse = max(reports.values(), key=lambda one: (not one.passed, one.overall.max_abs))
    judged = dataclasses.replace(worse, results=(*worse.results, *results))
    executions = {name: report.summary() for name, report in reports.items()}
    return judged, (activations, {"ground_truth": lost, "executions": executions, "clipped": clipped})
