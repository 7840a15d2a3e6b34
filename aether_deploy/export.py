"""`python -m aether_deploy.export`: a checkpoint -> files that run anywhere, each proved."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli


class ShapeType(click.ParamType[tuple[int, int, int, int]]):
    """`1x3x256x256` -> (1, 3, 256, 256)."""

    name = "NxCxHxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Fails as a usage error unless there are four whole numbers of at least 1."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 4 or not all(part.isdecimal() and int(part) >= 1 for part in parts):
            self.fail(f"{value!r}; expected four whole numbers of at least 1, as in 1x3x256x256", param, ctx)
        n, c, h, w = (int(part) for part in parts)
        return n, c, h, w


@click.command(cls=cli.Command, name="export", context_settings={"show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--format", "formats", type=click.Choice(["onnx"]), multiple=True, default=["onnx"], help="Repeatable.")
@click.option(
    "--precision", "precisions", type=click.Choice(["fp32"]), multiple=True, default=["fp32"], help="Repeatable."
)
@click.option("--opset", type=click.IntRange(17, 23), default=20, help="Of ONNX; below 20 GELU becomes five operators.")
@click.option(
    "--static", type=ShapeType(), help="A fixed input shape, as in 1x3x256x256; dynamic by default.", show_default=False
)
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
@click.option("--dry-run", is_flag=True, help="Read MODEL, say what would be made, and stop.")
@cli.json_option
def command(
    model: Path,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    opset: int,
    static: tuple[int, int, int, int] | None,
    output: Path | None,
    name: str | None,
    param_key: str,
    opt: Path | None,
    img_range: float | None,
    images: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Exports MODEL, a checkpoint as neosr trained it (fused on the way) or a fused one.

    Each file is reloaded from disk and compared with the network as it was trained; one that differs
    is not left behind.
    """
    with cli.progress("export"):
        from aether_deploy import pipeline
        from aether_deploy.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(model, param_key=param_key, img_range=img_range, options=opt)
        options = pipeline.ExportOptions(
            formats=formats,
            precisions=precisions,
            opset=opset,
            static=static,
            output=output,
            name=name,
            images=images,
        )
        targets = pipeline.plan(checkpoint, options)
        artifacts = [] if dry_run else pipeline.export_model(checkpoint, options)

    out = cli.console(stderr=as_json)
    out.print(f"read    {checkpoint.path} ({checkpoint.param_key}): {checkpoint.spec.describe()}")
    if checkpoint.spec.fused:
        out.print("note    fused already: proved against these weights; the unfused ones are not at hand")
    for target in targets if dry_run else ():
        out.print(f"would write {target.path}")
    for artifact in artifacts:
        cli.show_report(artifact.report, out, title=f"{artifact.path.name}, reloaded, against the network as trained")
        out.print(f"wrote   {artifact.path} ({artifact.path.stat().st_size / 1e6:.1f} MB) and its manifest")
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
                    {"file": str(a.path), "precision": a.target.precision, "parity": a.report.as_dict()}
                    for a in artifacts
                ],
            }
        )
    cli.next_command("python", "-m", "aether_deploy.upscale", targets[0].path, "PHOTO.png", as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.export")
