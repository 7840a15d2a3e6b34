"""`python -m aether_deploy.upscale`: a picture through any artifact of the pipeline."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli


@click.command(cls=cli.Command, name="upscale")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("picture", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Picture to write; beside INPUT, with the scale in its name, by default.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
@cli.json_option
def command(model: Path, picture: Path, output: Path | None, overwrite: bool, as_json: bool) -> None:
    """Upscales INPUT, a picture, with MODEL: a checkpoint or an .onnx file."""
    with cli.progress("upscale"):
        from aether_deploy.errors import ImageError
        from aether_deploy.images import read_image, write_image
        from aether_deploy.manifest import verify_artifact
        from aether_deploy.runners import open_runner

        runner = open_runner(model)
        verify_artifact(model)
        image = read_image(picture)
        target = output or picture.with_name(f"{picture.stem}_{runner.scale}x.png")
        if target.exists() and not overwrite:
            raise ImageError(f"{target} is there already; add --overwrite or choose another --output")
        write_image(target, runner.run(image))
    out = cli.console(stderr=as_json)
    height, width = image.shape[2:]
    out.print(f"wrote {target} ({width}x{height} -> {width * runner.scale}x{height * runner.scale}, {runner.name})")
    if as_json:
        cli.print_json({"output": str(target), "scale": runner.scale, "runner": runner.name})


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.upscale")
