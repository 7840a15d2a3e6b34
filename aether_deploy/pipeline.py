"""Checkpoint -> proved artifacts, one for each format and precision; the reference is captured once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from aether_deploy import manifest
from aether_deploy.errors import ExportError
from aether_deploy.files import replacing
from aether_deploy.fuse import fuse_aether
from aether_deploy.onnx_export import DEFAULT_OPSET, dynamic_shapes, export_onnx, save_onnx, static_shapes
from aether_deploy.parity import ParityReport, Reference, verify
from aether_deploy.runners import OnnxRunner, capture_reference

if TYPE_CHECKING:
    from aether_deploy.checkpoint import Checkpoint
    from neosr.archs.aether_arch import AetherNet

__all__ = ["FORMATS", "Artifact", "ExportOptions", "Target", "export_model", "plan"]

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a checkpoint.

    Attributes:
        formats: keys of `FORMATS`.
        precisions: rows of the tolerance table.
        opset: of ONNX, 17 to 23.
        static: fixed (N, C, H, W) of the input; dynamic otherwise.
        output: folder; beside the checkpoint by default.
        name: of the files, without scale and tags; the checkpoint's by default.
        images: photos to prove parity on; the packaged ones by default.
    """

    formats: tuple[str, ...] = ("onnx",)
    precisions: tuple[str, ...] = ("fp32",)
    opset: int = DEFAULT_OPSET
    static: Shape | None = None
    output: Path | None = None
    name: str | None = None
    images: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact to be made."""

    format: str
    precision: str
    path: Path
    options: ExportOptions


@dataclass(frozen=True, slots=True)
class Source:
    """What every target is made from: the fused network, and what the trained one gave."""

    checkpoint: Checkpoint
    network: AetherNet
    reference: Reference


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was reloaded and proved, and its report."""

    target: Target
    path: Path
    report: ParityReport


def plan(checkpoint: Checkpoint, options: ExportOptions) -> tuple[Target, ...]:
    """The artifacts that `export_model` would make, in order.

    Raises:
        ExportError: a shape or name that cannot be.
    """
    folder = options.output or checkpoint.path.parent
    name = options.name or checkpoint.name
    if Path(name).name != name:
        raise ExportError(f"name {name!r}; expected a file name without folders")
    fixed = f"_{'x'.join(map(str, options.static))}" if options.static else ""
    stem = f"{checkpoint.spec.scale}x_{name}"
    return tuple(
        Target(kind, precision, folder / f"{stem}_{precision}_op{options.opset}{fixed}.onnx", options)
        for kind in dict.fromkeys(options.formats)
        for precision in dict.fromkeys(options.precisions)
    )


def export_model(checkpoint: Checkpoint, options: ExportOptions) -> list[Artifact]:
    """Captures the reference, fuses, and makes every target; each is reloaded from disk and proved.

    Raises:
        ParityError: an artifact is not the network as it was trained; that file is not left behind.
        ExportError: see `plan` and `export_onnx`.
    """
    targets = plan(checkpoint, options)
    reference = capture_reference(checkpoint, options.images, static=options.static)
    source = Source(checkpoint, fuse_aether(checkpoint.build()), reference)
    return [FORMATS[target.format](source, target) for target in targets]


def _onnx(source: Source, target: Target) -> Artifact:
    spec = source.checkpoint.spec.as_fused()
    options = target.options
    logger.info("exporting %s", target.path.name)
    model = export_onnx(
        source.network, spec, opset=options.opset, static=options.static, metadata=_metadata(source, target)
    )
    with replacing(target.path) as temporary:
        save_onnx(model, temporary)
        check_onnx(temporary, target.path.name)
        report = verify(source.reference, OnnxRunner(temporary).run, target.precision, what=target.path.name)
        report.require(target.path.name)
        artifact = manifest.describe_artifact(temporary, "onnx", name=target.path.name)
    manifest.Manifest(
        artifact=artifact,
        source=manifest.describe_source(source.checkpoint),
        network=spec.as_dict(),
        parity=report.as_dict(),
        precision=target.precision,
        opset=options.opset,
        shapes=dict(static_shapes(options.static, spec.scale) if options.static else dynamic_shapes(spec.in_chans)),
        tools=manifest.tool_versions("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy"),
        created=manifest.utc_now(),
    ).write(target.path)
    return Artifact(target, target.path, report)


# Adding a format: one exporter and one line.
FORMATS: dict[str, Callable[[Source, Target], Artifact]] = {"onnx": _onnx}


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


def _metadata(source: Source, target: Target) -> dict[str, str]:
    """The essentials of the manifest; only what is the same for two exports, so that the files are too."""
    described = manifest.describe_source(source.checkpoint)
    values = {
        "precision": target.precision,
        "io": "fp32",
        "scale": str(source.checkpoint.spec.scale),
        "network": json.dumps(source.checkpoint.spec.as_fused().as_dict()),
        **{f"source.{key}": str(value) for key, value in described.items()},
        **{f"tool.{key}": value for key, value in manifest.tool_versions("torch").items()},
    }
    return {f"aether_deploy.{key}": value for key, value in sorted(values.items())}
