"""A file in half precision, executed as its types say, at the gate of its precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.candidates import first_that_passes
from aether_deploy.artifacts.onnx_check import Proof, describe_step, proved_again
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.verdict import ParityReport, Reference, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.rounded import RoundedRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.conversion import Conversion
    from aether_deploy.network.family import NetworkSpec

__all__ = ["prove_half", "write_half"]


def write_half(
    graph: ir.Model, spec: NetworkSpec, variant: Variant, reference: Reference, path: Path, before: ParityReport
) -> Proof:
    """Writes and proves the variant; `auto` islands are chosen on the way. See `onnx_proof.write_proved`."""
    from aether_deploy.precisions.forms import conversions

    name = path.name

    def judge(conversion: Conversion) -> tuple[ParityReport, RoundedRunner]:
        with _proof_runner(path, variant) as runner:
            what = f"{name}, islands {conversion.policy}"
            return verify(reference, runner.run, variant.precision, what=what), runner

    conversion, report, runner, measured = first_that_passes(conversions(graph, spec, variant), path, judge)
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


def prove_half(path: Path, variant: Variant, reference: Reference, islands: Mapping[str, Any]) -> Proof:
    """Compares a file that was made before; see `onnx_proof.prove_again`."""
    with _proof_runner(path, variant) as rounded:
        report = verify(reference, rounded.run, variant.precision, what=path.name)
    return proved_again(path.name, report, islands, rounded.headroom())


def _proof_runner(path: Path, variant: Variant) -> RoundedRunner:
    """Executes the file as its types say; ONNX Runtime must load the file itself too, if it has the operators."""
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
