"""`python -m aether_deploy.release`: a trained checkpoint -> a folder to publish."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.artifacts.formats import FORMATS
from aether_deploy.cli import engine_options
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.proof.words import in_levels
from aether_deploy.text import printable

__all__ = ["command"]


@click.command(
    cls=cli.Command,
    example='release 2x_Name.pth --author "Ann Example" --license CC-BY-4.0 -o release',
    name="release",
    context_settings={"show_default": True},
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--author", "authors", multiple=True, required=True, help="Your name; repeatable.", show_default=False)
@click.option(
    "--license", "licence", required=True, metavar="SPDX", help="Such as CC-BY-4.0 or MIT.", show_default=False
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to make.",
    show_default=False,
)
@click.option(
    "--name", default="", help="Of the model, without scale; the checkpoint's by default.", show_default=False
)
@click.option("--description", default="", help="Markdown: what the model is for.", show_default=False)
@click.option("--tag", "tags", multiple=True, default=["general-upscaler"], help="Of OpenModelDB; repeatable.")
@click.option("--base-model", default="", help="What it was trained from: its id on Hugging Face.", show_default=False)
@click.option("--url-base", default="", help="The address at which the folder will be found.", show_default=False)
@click.option(
    "--precision",
    "precisions",
    type=cli.Choice(list(PRECISIONS)),
    multiple=True,
    help="Of the ONNX files; repeatable; by default fp32 and fp16, and int8 where it passes.",
    show_default=False,
)
@click.option(
    "--engine",
    "engines",
    type=cli.Choice([row.name for row in FORMATS.values() if row.module == "engine_file"]),
    multiple=True,
    help="Engines to build as well; repeatable.",
    show_default=False,
)
@engine_options.engine_options(cli.ShapeType())
@cli.checkpoint_options
@cli.images_option
@click.option("--overwrite", is_flag=True, help="Replace an older release.")
@cli.config_option
@cli.json_option
def command(
    checkpoint: Path,
    authors: tuple[str, ...],
    licence: str,
    output: Path,
    name: str,
    description: str,
    tags: tuple[str, ...],
    base_model: str,
    url_base: str,
    precisions: tuple[str, ...],
    engines: tuple[str, ...],
    min_shapes: tuple[tuple[int, int, int, int], ...],
    opt_shapes: tuple[tuple[int, int, int, int], ...],
    max_shapes: tuple[tuple[int, int, int, int], ...],
    gpus: tuple[str, ...],
    workspace: int | None,
    param_key: str,
    opt: Path | None,
    img_range: float | None,
    images: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a folder to publish from CHECKPOINT, with cards, pictures and hashes.

    In it: the fused checkpoint (.pth and .safetensors), ONNX files, engines if asked for, a manifest beside each, a
    README.md for Hugging Face, an entry for OpenModelDB, pictures before and after, the report, and SHA256SUMS.
    """
    from aether_deploy.publishing.details import Details

    details = Details(authors, licence, name, description, tags, base_model, url_base)
    with cli.progress("release"):
        from aether_deploy.engines.plan import EngineOptions
        from aether_deploy.network.checkpoint import load_checkpoint
        from aether_deploy.publishing.release_folder import (
            optional_exports,
            release_checkpoint,
            release_exports,
            require_place,
        )

        require_place(output, overwrite=overwrite)
        exports = release_exports(
            precisions or ("fp32", "fp16"),
            engines,
            EngineOptions(min_shapes, opt_shapes, max_shapes, gpus, workspace),
        )
        loaded = load_checkpoint(checkpoint, param_key=param_key, img_range=img_range, options=opt)
        optional = [] if precisions else optional_exports()
        made = release_checkpoint(
            loaded, output, details, exports=exports, optional=optional, images=images, overwrite=overwrite
        )

    out = cli.console(stderr=as_json)
    for manifest in made.manifests:
        artifact, parity = manifest.artifact, manifest.proof[1]
        proved = "" if parity is None else f", at most {in_levels(parity['figures']['max_abs'])} off"
        out.print(cli.mark(True), f"{artifact['file']} ({artifact['bytes'] / 1e6:.1f} MB){proved}")
    out.print(
        f"wrote   {made.folder}: {len(made.files)} files, README.md for Hugging Face and OpenModelDB's entry among them"
    )
    if not url_base:
        out.print("note    OpenModelDB's entry needs addresses: add --url-base once you know where the files will be")
    if as_json:
        cli.print_json(
            {
                "folder": str(made.folder),
                "files": [printable(name) for name in made.files],
                "artifacts": [{**manifest.artifact, "parity": manifest.proof[1]} for manifest in made.manifests],
            }
        )
    cli.next_command("python", "-m", "aether_deploy.verify", made.folder, "--parity", as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.release")
