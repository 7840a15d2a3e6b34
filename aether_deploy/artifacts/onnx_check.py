"""What every proof of an ONNX file begins and ends with: a valid file on disk, and what was proved about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from aether_deploy.errors import ExportError
from aether_deploy.proof.verdict import ParityReport

__all__ = ["Proof", "check_onnx", "describe_step", "proved_again"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved about a file.

    Attributes:
        report: the file against the network as it was trained.
        rounding: the manifest's `fp32_islands`, `weights`, `activations` and `quantization`; empty in fp32.
    """

    report: ParityReport
    rounding: dict[str, Any] = field(default_factory=dict)


def proved_again(name: str, report: ParityReport, islands: Mapping[str, Any], activations: dict[str, Any]) -> Proof:
    """The proof of a file that was made before; its figures replace those of its manifest's `fp32_islands`.

    Raises:
        ParityError: it does not pass.
    """
    report.require(name)
    measured = {"policy": islands["policy"], "casts": islands["casts"], **report.summary()}
    return Proof(report, {"fp32_islands": {**islands, "measured": [measured]}, "activations": activations})


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


def describe_step(step: Mapping[str, Any]) -> str:
    """One policy's figures in words, for people."""
    figures, verdict = step["figures"], "passes" if step["passed"] else "fails"
    if figures["max_abs"] is None:
        return f"{step['policy']} {verdict}: not finite"
    level, psnr = figures["max_abs"] * 255, math.inf if figures["psnr"] is None else figures["psnr"]
    return f"{step['policy']} {verdict}: {level:.3g} of an 8-bit level, {psnr:.1f} dB"
