"""Checkpoint -> proved artifacts, one for each format and precision; the reference is captured once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy import manifest
from aether_deploy.engines.export import engine_name, export_engine
from aether_deploy.engines.plan import EngineOptions, EnginePlan, plan_engine
from aether_deploy.engines.process import FLAVOURS, tensorrt_version
from aether_deploy.errors import ExportError
from aether_deploy.files import replacing
from aether_deploy.fuse import fuse_aether
from aether_deploy.graph_types import HALF
from aether_deploy.manifest import Manifest
from aether_deploy.onnx_export import dynamic_shapes, static_shapes
from aether_deploy.onnx_proof import write_proved
from aether_deploy.parity import ParityReport, Reference
from aether_deploy.torch_runner import capture_reference
from aether_deploy.variants import Variant, default_opset, fp32_model

if TYPE_CHECKING:
    from aether_deploy.checkpoint import Checkpoint
    from aether_deploy.spec import NetworkSpec
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
        opset: of ONNX, 17 to 23; 20 by default, 22 for bf16, which needs it.
        static: fixed (N, C, H, W) of the input; dynamic otherwise.
        output: folder; beside the checkpoint by default.
        name: of the files, without scale and tags; the checkpoint's by default.
        images: photos to prove parity on; the packaged ones by default.
        io: fp32 or fp16, the type at both ends of half-precision files.
        islands: what stays in fp32 in half-precision files; see `precision.POLICIES`, or auto.
        ffn: linear, or conv1x1.
        engine: targets, profiles and memory of engines.
    """

    formats: tuple[str, ...] = ("onnx",)
    precisions: tuple[str, ...] = ("fp32",)
    opset: int | None = None
    static: Shape | None = None
    output: Path | None = None
    name: str | None = None
    images: Path | None = None
    io: str = "fp32"
    islands: str = "default"
    ffn: str = "linear"
    engine: EngineOptions = field(default_factory=EngineOptions)

    def variant(self, precision: str) -> Variant:
        """The ONNX form of one precision; a file in fp32 has fp32 ends and no islands.

        Raises:
            ExportError: a value that there is not.
        """
        opset = default_opset(precision) if self.opset is None else self.opset
        if precision not in HALF:
            return Variant(precision, ffn=self.ffn, opset=opset, static=self.static)
        return Variant(precision, self.io, self.islands, self.ffn, opset, self.static)


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact to be made.

    Attributes:
        format: a key of `FORMATS`.
        variant: the ONNX form that it is or is built from.
        path: of the file.
        options: that asked for it.
        engine: how an engine is built.
        onnx: the ONNX file that an engine is built from.
    """

    format: str
    variant: Variant
    path: Path
    options: ExportOptions
    engine: EnginePlan | None = None
    onnx: Path | None = None

    @property
    def precision(self) -> str:
        """The row of the tolerance table that it is judged by."""
        return self.variant.precision


@dataclass(frozen=True, slots=True)
class Source:
    """What every target is made from: the fused network, and what the trained one gave.

    `proved` collects the ONNX files that are written, so that no target makes one again.
    """

    checkpoint: Checkpoint
    network: AetherNet
    reference: Reference
    proved: dict[Variant, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was reloaded and proved, its report, and the manifest beside it."""

    target: Target
    path: Path
    report: ParityReport
    manifest: Manifest


def plan(checkpoint: Checkpoint, options: ExportOptions) -> tuple[Target, ...]:
    """The artifacts that `export_model` would make, in order.

    Raises:
        ExportError: a shape, name or flag that cannot be.
        EngineError: an engine that cannot be built here; see `plan_engine`.
    """
    folder = options.output or checkpoint.path.parent
    name = options.name or checkpoint.name
    if Path(name).name != name:
        raise ExportError(f"name {name!r}; expected a file name without folders")
    if not set(options.precisions) & set(HALF) and (options.io, options.islands) != ("fp32", "default"):
        raise ExportError("--io and --islands are for half precision; add --precision fp16 or bf16, or leave them out")
    if options.engine.given and not set(options.formats) & set(FLAVOURS):
        flags = ", ".join(options.engine.given)
        raise ExportError(f"{flags}: for engines only; add --format tensorrt-rtx or tensorrt, or leave it out")
    stem = folder / f"{checkpoint.spec.scale}x_{name}"
    return tuple(
        target for kind in dict.fromkeys(options.formats) for target in _targets(kind, checkpoint.spec, stem, options)
    )


def _targets(kind: str, spec: NetworkSpec, stem: Path, options: ExportOptions) -> Iterator[Target]:
    """One for each precision."""
    version = tensorrt_version(kind) if kind in FLAVOURS else ""
    for variant in map(options.variant, dict.fromkeys(options.precisions)):
        if kind not in FLAVOURS:
            yield Target(kind, variant, _onnx_path(stem, variant), options)
            continue
        engine = plan_engine(kind, spec, variant, options.engine, version=version)
        onnx = _onnx_path(stem, engine.variant)
        yield Target(kind, engine.variant, stem.with_name(engine_name(stem.name, engine)), options, engine, onnx)


def _onnx_path(stem: Path, variant: Variant) -> Path:
    return stem.with_name(f"{stem.name}_{variant.precision}_op{variant.opset}{variant.tags}.onnx")


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


def _engine(source: Source, target: Target) -> Artifact:
    return export_engine(source, target, _onnx)


# Adding a format: one exporter and one line.
FORMATS: dict[str, Callable[[Source, Target], Artifact]] = {"onnx": _onnx_once, **dict.fromkeys(FLAVOURS, _engine)}


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
