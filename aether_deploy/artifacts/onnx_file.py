"""An ONNX file, written, reloaded from disk and proved; half precision in two steps.

First the graph before rounding, at fp32's gate, which finds what is wrong in it (a LayerNorm's epsilon errs by
1e-4, less than rounding does); then the rounded file at its own gate, in the faithful executor.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aether_deploy.artifacts.model import Artifact, Source, Target
from aether_deploy.errors import ExportError
from aether_deploy.files import replacing
from aether_deploy.graphs.exporter import dynamic_shapes, save_onnx, static_shapes
from aether_deploy.graphs.forms import Variant, conversions, fp32_model
from aether_deploy.graphs.types import HALF
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import Manifest
from aether_deploy.proof.verdict import ParityReport, Reference, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.rounded import HalfRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.half_precision import Conversion

__all__ = ["Proof", "check_onnx", "describe_step", "write_proved"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved of a file.

    Attributes:
        report: the file against the network as it was trained.
        half: the manifest's `fp32_islands`, `weights` and `activations`; empty in fp32.
    """

    report: ParityReport
    half: dict[str, Any] = field(default_factory=dict)


def write_proved(
    graph: ir.Model, variant: Variant, reference: Reference, path: Path, metadata: Mapping[str, str], name: str
) -> Proof:
    """Writes the variant of an fp32 graph, reloads it and proves it; `auto` islands are chosen on the way.

    Args:
        graph: from `variants.fp32_model`; is not changed but for its metadata.
        reference: what the network gave as it was trained.
        path: where to write, a temporary file: what does not pass is there, too.
        metadata: for `metadata_props`, to which half precision adds its islands.
        name: of the file, for messages.
    Raises:
        ParityError: neither this file nor, with `auto`, that of any other policy passes.
        ExportError: no valid ONNX, or see `to_half`.
    """
    graph.metadata_props.update(metadata)
    save_onnx(graph, path)
    check_onnx(path, name)
    half = variant.precision in HALF
    what = f"{name}, before rounding," if half else name
    before = verify(reference, OnnxRunner(path).run, "fp32", what=what)
    before.require(what)
    return _write_half(graph, variant, reference, path, name, before) if half else Proof(before)


def _write_half(
    graph: ir.Model, variant: Variant, reference: Reference, path: Path, name: str, before: ParityReport
) -> Proof:
    measured: list[dict[str, Any]] = []
    for conversion in conversions(graph, variant):
        model = conversion.model
        model.metadata_props["aether_deploy.fp32_islands"] = json.dumps(conversion.as_dict())
        save_onnx(model, path)
        check_onnx(path, name)
        runner = _proof_runner(path, variant.precision)
        report = verify(reference, runner.run, variant.precision, what=f"{name}, islands {conversion.policy}")
        measured.append({"policy": conversion.policy, "casts": conversion.casts, **report.summary()})
        if report.passed:
            break
    tried = f" (tried {'; '.join(map(describe_step, measured))})" if len(measured) > 1 else ""
    report.require(name, hint=_hint(runner, conversion, variant.precision) + tried)
    islands = {"asked": variant.islands, **conversion.as_dict(), "measured": measured}
    return Proof(
        report,
        {
            "fp32_islands": {**islands, "before_rounding": before.summary()},
            "weights": conversion.weights_as_dict(),
            "activations": runner.headroom(),
        },
    )


def _proof_runner(path: Path, precision: str) -> HalfRunner:
    """The executor. ONNX Runtime must load and run fp16 too, though it computes it in fp32; it has no bf16."""
    if precision == "fp16":
        OnnxRunner(path)
    return HalfRunner(path)


def _hint(runner: HalfRunner, conversion: Conversion, precision: str) -> str:
    """What to do about a file that does not pass."""
    overflowing = runner.overflows()
    if not overflowing:
        return f"; use {'--islands default' if conversion.policy != 'default' else '--precision fp32'}"
    name, op = overflowing[0]
    if op == "LayerNormalization":
        return f"; {name} overflows {precision} inside: use --islands default or all-norms"
    return f"; {name} overflows {precision}: use --precision {'bf16' if precision == 'fp16' else 'fp32'}"


def describe_step(step: Mapping[str, Any]) -> str:
    """One policy's figures in words, for people."""
    figures, verdict = step["figures"], "passes" if step["passed"] else "fails"
    if figures["max_abs"] is None:
        return f"{step['policy']} {verdict}: not finite"
    level, psnr = figures["max_abs"] * 255, math.inf if figures["psnr"] is None else figures["psnr"]
    return f"{step['policy']} {verdict}: {level:.3g} of an 8-bit level, {psnr:.1f} dB"


def check_onnx(path: Path, name: str) -> None:
    """The full checker, and shape inference in strict mode as chaiNNer does it.

    Raises:
        ExportError: the file on disk is no valid model.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{name} is no valid ONNX: {str(error).splitlines()[0]}") from error


def _onnx(source: Source, target: Target) -> Artifact:
    spec = source.checkpoint.spec.as_fused()
    variant, name = target.variant, target.path.name
    logger.info("exporting %s", name)
    with replacing(target.path) as temporary:
        proof = write_proved(
            fp32_model(source.network, spec, variant),
            variant,
            source.reference,
            temporary,
            _metadata(source, variant),
            name,
        )
        artifact = manifest.describe_artifact(temporary, "onnx", name=name)
    written = Manifest(
        artifact=artifact,
        source=manifest.describe_source(source.checkpoint),
        network=spec.as_dict(),
        parity=proof.report.as_dict(),
        precision=variant.precision,
        io=variant.io,
        ffn=variant.ffn,
        opset=variant.opset,
        shapes=dict(static_shapes(variant.static, spec.scale) if variant.static else dynamic_shapes(spec.in_chans)),
        **proof.half,
        tools=manifest.tool_versions("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy"),
        created=manifest.utc_now(),
    )
    written.write(target.path)
    return Artifact(target, target.path, proof.report, written)


def _onnx_once(source: Source, target: Target) -> Artifact:
    """An engine may have left the file that it was built from."""
    if target.variant not in source.proved:
        source.proved[target.variant] = _onnx(source, target)
    return source.proved[target.variant]


def _metadata(source: Source, variant: Variant) -> dict[str, str]:
    """The essentials of the manifest; only what is the same for two exports, so that the files are too."""
    described = manifest.describe_source(source.checkpoint)
    values = {
        "precision": variant.precision,
        "io": variant.io,
        "ffn": variant.ffn,
        "scale": str(source.checkpoint.spec.scale),
        "network": json.dumps(source.checkpoint.spec.as_fused().as_dict()),
        **{f"source.{key}": str(value) for key, value in described.items()},
        **{f"tool.{key}": value for key, value in manifest.tool_versions("torch").items()},
    }
    return {f"aether_deploy.{key}": value for key, value in sorted(values.items())}
