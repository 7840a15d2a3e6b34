"""`python -m aether_deploy.export`: a checkpoint -> files that run anywhere, each proved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aether_deploy import cli
from aether_deploy.artifacts.formats import EXPORTS, FORMATS
from aether_deploy.cli import engine_options
from aether_deploy.files import require_free
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.precisions.choices import AUTO, FFN_FORMS, IO, POLICIES
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import variants
from aether_deploy.proof.manifest import read_manifest

if TYPE_CHECKING:
    from rich.console import Console

    from aether_deploy.arrays import Shape
    from aether_deploy.artifacts.model import Artifact, ExportPlan
    from aether_deploy.proof.manifest import Manifest

__all__ = ["command"]


@click.command(
    cls=cli.Command,
    example="export 2x_Name.pth --precision fp32 --precision fp16 -o out",
    name="export",
    context_settings={"show_default": True},
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=cli.Choice(EXPORTS),
    multiple=True,
    default=["onnx"],
    help="Repeatable.",
)
@click.option(
    "--precision",
    "precisions",
    type=cli.Choice(list(PRECISIONS)),
    multiple=True,
    default=["fp32"],
    help="Repeatable.",
)
@click.option("--io", type=cli.Choice(list(IO)), default="fp32", help="Input and output of half-precision files.")
@click.option(
    "--islands",
    type=cli.Choice([*POLICIES, AUTO]),
    default="default",
    help="What stays fp32 in half-precision files; default is norms and tail, auto the first choice that passes.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Low-resolution photos to find the ranges of 8 bits on, none of them in --images; packaged ones by default.",
    show_default=False,
)
@click.option(
    "--quality",
    type=float,
    metavar="DB",
    help="Least PSNR of 8 bits to the trained network on photos; the precision's own by default.",
    show_default=False,
)
@click.option(
    "--max-lost",
    type=float,
    metavar="DB",
    help="Most PSNR that 8 bits may lose against ground truth, photos shrunk by bicubic; 0.01 by default.",
    show_default=False,
)
@click.option("--ffn", type=cli.Choice(FFN_FORMS), default="linear", help="The FFN's layers; SM75 needs conv1x1.")
@click.option(
    "--opset",
    type=click.IntRange(OPSETS.start, OPSETS.stop - 1),
    help="ONNX opset; below 20, GELU becomes five operators. 20 by default, 22 for bf16.",
    show_default=False,
)
@click.option(
    "--static",
    type=cli.ShapeType(),
    help="A fixed input shape, such as 1x3x256x256; dynamic by default.",
    show_default=False,
)
@click.option(
    "--pad",
    is_flag=True,
    help="Let the file take every size of a network that asks for certain ones: it mirrors and crops inside.",
)
@engine_options.engine_options(cli.ShapeType())
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder; beside MODEL by default.",
    show_default=False,
)
@click.option("--name", help="Of the files, without scale and tags; that of MODEL by default.", show_default=False)
@cli.checkpoint_options
@cli.images_option
@cli.config_option
@cli.overwrite_option
@cli.verbose_option
@click.option("--dry-run", is_flag=True, help="Read MODEL, say what would be made, and stop.")
@cli.json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    io: str,
    islands: str,
    calibration: Path | None,
    quality: float | None,
    max_lost: float | None,
    ffn: str,
    opset: int | None,
    static: Shape | None,
    pad: bool,
    min_shapes: tuple[Shape, ...],
    opt_shapes: tuple[Shape, ...],
    max_shapes: tuple[Shape, ...],
    gpus: tuple[str, ...],
    workspace: int | None,
    output: Path | None,
    name: str | None,
    param_key: str,
    opt: Path | None,
    img_range: float | None,
    images: Path | None,
    overwrite: bool,
    verbose: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Export MODEL, a checkpoint as neosr trained it or a fused one, to files that run anywhere.

    A trained checkpoint is fused on the way. Each file is reloaded from disk and compared with the network as it was
    trained; one that differs is deleted. The ONNX file that an engine was built from is kept beside it; without a GPU
    for the engine, that file is what was proved.
    """
    cli.require_readable(model, opt, images, calibration)
    with cli.progress("export"):
        # What can be wrong without the network is found before torch is imported, which takes seconds.
        from aether_deploy.artifacts.model import ExportOptions
        from aether_deploy.engines.plan import EngineOptions
        from aether_deploy.engines.targets import check_names

        check_names(gpus)
        options = ExportOptions(
            formats=formats,
            variants=variants(precisions, io=io, islands=islands, ffn=ffn, opset=opset or 0, static=static, pad=pad),
            output=output,
            name=name,
            images=images,
            engine=EngineOptions(min_shapes, opt_shapes, max_shapes, gpus, workspace),
            calibration=calibration,
            quality=quality,
            max_lost=max_lost,
        )
        from aether_deploy.artifacts.pipeline import export_model, plan_export
        from aether_deploy.network.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(model, param_key=param_key, img_range=img_range, options=opt)
        planned = plan_export(checkpoint, options)
        _require_free(planned, overwrite=overwrite or dry_run)
        artifacts = [] if dry_run else export_model(planned)

    targets, out = planned.targets, cli.console(stderr=as_json)
    out.print(f"read    {checkpoint.path} ({checkpoint.param_key}): {checkpoint.spec.describe()}")
    if checkpoint.spec.fused:
        out.print("note    fused already: proved against these weights; the unfused ones are not at hand")
    for note in dict.fromkeys(note for target in targets if target.engine for note in target.engine.notes):
        out.print(f"note    {note}")
    for target in targets if dry_run else ():
        out.print(f"would write {target.path}")
        if target.engine:
            engine_options.show_plan(target.engine, out)
    for artifact in artifacts:
        _show_artifact(artifact, out, verbose=verbose)
    if as_json:
        cli.print_json(
            {
                "source": {
                    "file": str(checkpoint.path),
                    "sha256": checkpoint.sha256,
                    "param_key": checkpoint.param_key,
                },
                "planned": [str(target.path) for target in targets],
                "artifacts": [
                    {
                        "file": str(a.path),
                        "precision": a.target.variant.precision,
                        "parity": a.manifest.parity,
                        "fp32_islands": a.manifest.fp32_islands,
                        "weights": a.manifest.weights,
                        "activations": a.manifest.activations,
                        "quantization": a.manifest.quantization,
                        "engine": a.manifest.engine.as_dict() if a.manifest.engine else {},
                    }
                    for a in artifacts
                ],
            }
        )
    if dry_run:
        cli.same_command(ctx, without="--dry-run", as_json=as_json)
    else:
        path = targets[0].path
        usual = ("python", "-m", "aether_deploy.upscale", str(path), "PHOTO.png")
        words = FORMATS[targets[0].format].use or usual
        cli.next_command(*(word.replace("{folder}", str(path.parent)) for word in words), as_json=as_json)


def _require_free(planned: ExportPlan, *, overwrite: bool) -> None:
    """Raises AetherDeployError for a file that would be replaced, but the ONNX file that an engine is built from."""
    for target in planned.targets:
        for path in (target.path, *target.parts):
            require_free(path, [planned.checkpoint.path], overwrite=overwrite)
        if target.onnx is not None:
            known = read_manifest(target.onnx.path)
            same = known is not None and known.source["sha256"] == planned.checkpoint.sha256
            require_free(target.onnx.path, [], overwrite=overwrite or same)


def _show_artifact(artifact: Artifact, out: Console, *, verbose: bool) -> None:
    engine = artifact.manifest.engine
    proved = engine.onnx["file"] if engine and not engine.executed else artifact.path.name
    _show_choice(artifact.manifest, out)
    if verbose:
        cli.show_cases(artifact.report, out, title=f"{proved}, reloaded, against the network as trained")
        _show_half(artifact.manifest, out)
    if engine:
        engine_options.show_engine(artifact.manifest, out)
    out.print(f"wrote   {artifact.path} ({artifact.manifest.artifact['bytes'] / 1e6:.1f} MB) and its manifest")
    cli.show_verdict(artifact.report, out)


def _show_choice(manifest: Manifest, out: Console) -> None:
    """Prints what `--islands auto` tried, and which layers are in 8 bits and what they cost."""
    from aether_deploy.artifacts.onnx_check import describe_step

    if manifest.fp32_islands.get("asked") == "auto" and not manifest.engine:
        for step in manifest.fp32_islands["measured"]:
            out.print(f"auto    {describe_step(step)}")
    if manifest.quantization:
        lost = max((truth["lost"] for truth in manifest.quantization["ground_truth"]), default=None)
        count = sum(manifest.quantization.get("clipped", {}).values())
        clipped = f"; {count} values clipped" if count else ""
        against = "" if lost is None else f"; at most {max(lost, 0):.4f} dB of PSNR against ground truth is lost"
        every = all(row["eight_bits"] for row in manifest.quantization["layers"])
        others = "" if every else ", the others would err too much"
        out.print(f"8 bits  {manifest.fp32_islands['policy']}{others}{against}{clipped}")


def _show_half(manifest: Manifest, out: Console) -> None:
    """Prints the layers in 8 bits, and islands, weights and activations of a half-precision file, a line each."""
    if not manifest.fp32_islands or manifest.engine:
        return
    if manifest.quantization:
        for row in manifest.quantization["layers"]:
            kind, share = "8 bits" if row["eight_bits"] else "not", math.sqrt(row["share"])
            out.print(f"{kind:7} {', '.join(row['layers'])}: alone {share:.2f} of the allowed error")
        if not manifest.variant.row.half:
            return
    islands, weights, activations = manifest.fp32_islands, manifest.weights, manifest.activations
    kept = ", ".join(f"{count} {op}" for op, count in islands["ops"].items()) or "nothing"
    out.print(f"islands {islands['policy'].rpartition('islands ')[2]}: {kept} in fp32, {islands['casts']} casts")
    out.print(
        f"weights {weights['rounded']} rounded to {manifest.variant.precision}: {weights['overflow']} overflow to inf, "
        f"{weights['underflow']} underflow to zero"
    )
    operators = ", ".join(f"{op} {value:.3g}" for op, value in activations["operators"].items() if value is not None)
    out.print(f"range   largest activation of each operator: {operators}")
    largest, limit = activations["largest"], activations["limit"]
    out.print(f"        of all {largest:.3g} ({activations['at']}): {limit / largest:.3g} times below {limit:.6g}")


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.export")
