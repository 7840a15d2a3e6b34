"""Checkpoint -> proved artifacts, one for each format and precision; the reference is captured once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.artifacts.engine_file import engine_name, export_engine
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.artifacts.onnx_file import _onnx, _onnx_once
from aether_deploy.engines.plan import plan_engine
from aether_deploy.engines.process import FLAVOURS, tensorrt_version
from aether_deploy.errors import ExportError
from aether_deploy.graphs.forms import Variant
from aether_deploy.graphs.types import HALF
from aether_deploy.network.fusion import fuse_aether
from aether_deploy.proof.reference import capture_reference

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.network.spec import NetworkSpec

__all__ = ["FORMATS", "export_model", "plan"]

logger = logging.getLogger(__name__)


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


def _engine(source: Source, target: Target) -> Artifact:
    return export_engine(source, target, _onnx)


# Adding a format: one exporter and one line.
FORMATS: dict[str, Callable[[Source, Target], Artifact]] = {"onnx": _onnx_once, **dict.fromkeys(FLAVOURS, _engine)}
