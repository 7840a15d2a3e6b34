"""A checkpoint -> proved artifacts, one for each format and variant; the reference is captured once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aether_deploy.artifacts.formats import EXPORTS, FORMATS
from aether_deploy.artifacts.model import Artifact, ExportOptions, ExportPlan, Source
from aether_deploy.errors import ExportError
from aether_deploy.network.checkpoint import Checkpoint, load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import variants
from aether_deploy.proof.exactness import require_exact
from aether_deploy.proof.reference import Trained

__all__ = ["export_model", "plan_export"]


def plan_export(checkpoint: Checkpoint, options: ExportOptions) -> ExportPlan:
    """What `export_model` would make, named and checked, before anything is run.

    Args:
        checkpoint: from `load_checkpoint`.
        options: what to make of it.
    Raises:
        ExportError: an impossible format, shape, name or flag.
        EngineError: an engine that cannot be built here; see `plan_engine`.
    """
    folder = checkpoint.path.parent if options.output is None else Path(options.output)
    name = options.name or checkpoint.name
    if Path(name).name != name:
        raise ExportError(f"name {name!r}; expected a file name without folders")
    try:
        str(folder / name).encode()
    except UnicodeEncodeError as error:
        raise ExportError(
            f"{folder / name}: no UTF-8, which ONNX and ONNX Runtime need; choose another --output or --name"
        ) from error
    unknown = [kind for kind in options.formats if kind not in EXPORTS]
    if unknown or not options.formats or not options.variants:
        raise ExportError(f"format {unknown[0] if unknown else None!r}; expected {', '.join(EXPORTS)}")
    rows = [FORMATS[kind] for kind in dict.fromkeys(options.formats)]
    engines = [row for row in FORMATS.values() if row.kind == "engine"]
    if options.engine.given and not any(row in engines for row in rows):
        flags, names = ", ".join(options.engine.given), " or ".join(row.name for row in reversed(engines))
        raise ExportError(f"{flags}: for engines only; add --format {names}, or leave it out")
    static = options.static
    if static is not None and (static[1] != checkpoint.spec.in_chans or min(static) < 1):
        shape, expected = "x".join(map(str, static)), f"Nx{checkpoint.spec.in_chans}xHxW, all at least 1"
        raise ExportError(f"static shape {shape}; expected {expected}")
    if checkpoint.spec.sizes.any and any(variant.pad for variant in options.variants):
        raise ExportError(f"--pad: {checkpoint.spec.architecture} takes every size as it is; leave it out")
    stem = folder / f"{checkpoint.spec.scale}x_{name}"
    eight = [variant.precision for variant in options.variants if variant.row.quantizes]
    if not eight and (options.calibration, options.quality, options.max_lost) != (None, None, None):
        raise ExportError(
            "--calibration, --quality and --max-lost are for 8 bits; add --precision int8, or leave them out"
        )
    least = max((PRECISIONS[name].tolerance.min_psnr for name in eight), default=0.0)
    if options.quality is not None and not options.quality >= least:
        raise ExportError(f"quality {options.quality} dB; {' and '.join(eight)} need at least {least:g}")
    most = min((PRECISIONS[name].max_lost or 0.0 for name in eight), default=0.0)
    if options.max_lost is not None and not 0 < options.max_lost <= most:
        raise ExportError(f"max-lost {options.max_lost} dB; {' and '.join(eight)} may lose up to {most:g}")
    return ExportPlan(
        checkpoint,
        options,
        tuple(
            row.maker.plan(row, checkpoint.spec, variant, options, stem) for row in rows for variant in options.variants
        ),
    )


def _make(planned: ExportPlan, trained: Trained | None) -> list[Artifact]:
    """Captures the reference, fuses, proves the fused weights in float64, and makes every target."""
    checkpoint, options = planned.checkpoint, planned.options
    trained = trained or Trained(checkpoint, options.images)
    reference = trained.of(options.variants[0])
    network = fuse_network(checkpoint.build(), checkpoint.spec)
    require_exact(trained, network, f"the fused network of {checkpoint.path.name}")
    source = Source(checkpoint, network, reference, options)
    return [FORMATS[target.format].maker.export(source, target) for target in planned.targets]


def export_model(
    checkpoint: Checkpoint | ExportPlan | str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    format: str | Sequence[str] = "onnx",
    precision: str | Sequence[str] = "fp32",
    output: str | os.PathLike[str] | None = None,
    trained: Trained | None = None,
) -> list[Artifact]:
    """Makes proved files from a checkpoint, in the order of formats and precisions.

    Each is written into a hidden folder, reloaded from disk and compared with the network as it was trained; only then
    is it moved into place, with its manifest.

    Args:
        checkpoint: as trained or fused, or its path; or the result of `plan_export`, which includes everything below.
        options: all choices; `format`, `precision` and `output` are then ignored.
        format: one or several of onnx, tensorrt, tensorrt-rtx.
        precision: one or several of fp32, fp16, bf16, int8, int8-fast, int8-fp16, fp8.
        output: folder; by default the checkpoint's.
        trained: the checkpoint's outputs, if other steps need them too; has its own `images`.
    Returns:
        an `Artifact` for each file, with its path, report and manifest.
    Raises:
        CheckpointError: a path that cannot be read as a checkpoint.
        ExportError, EngineError: see `plan_export`.
        ParityError: a file is not the network as it was trained; it is not left behind.
    """
    if isinstance(checkpoint, ExportPlan):
        if options is not None:
            raise ExportError("a plan and options: the plan has its own; give one of both")
        return _make(checkpoint, trained)
    if options is None:
        options = ExportOptions(
            formats=(format,) if isinstance(format, str) else tuple(format),
            variants=variants((precision,) if isinstance(precision, str) else precision),
            output=output,
        )
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    return _make(plan_export(loaded, options), trained)
