"""`python -m aether_deploy.fuse`: a trained checkpoint -> its fused form, proved."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.files import require_free

__all__ = ["command"]


@click.command(
    cls=cli.Command,
    example="fuse 2x_Name.pth -o 2x_Name_fused.pth",
    name="fuse",
    context_settings={"show_default": True},
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Fused file; beside the input by default.",
    show_default=False,
)
@cli.checkpoint_options
@cli.images_option
@cli.config_option
@cli.overwrite_option
@cli.verbose_option
@cli.json_option
def command(
    checkpoint: Path,
    output: Path | None,
    param_key: str,
    opt: Path | None,
    img_range: float | None,
    images: Path | None,
    overwrite: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Fuse CHECKPOINT: what together is one convolution becomes one.

    The written file is reloaded and compared with the network as it was trained. AetherNet's loads in neosr with
    `fused_init = true`. Another network's is a .safetensors file that aether-deploy loads; for all other programs its
    fused form is the ONNX file that `export` writes.
    """
    cli.require_readable(checkpoint, opt, images)
    with cli.progress("fuse"):
        from aether_deploy.artifacts.checkpoint_file import default_output, fuse_checkpoint
        from aether_deploy.network.checkpoint import load_checkpoint
        from aether_deploy.network.families import family_of

        loaded = load_checkpoint(checkpoint, param_key=param_key, img_range=img_range, options=opt)
        output = output or default_output(loaded)
        output = output / default_output(loaded).name if output.is_dir() else output
        # Onto itself it is refused, or nothing is to be done: see `fuse_checkpoint`.
        same = output.resolve() == loaded.path.resolve()
        require_free(output, [], overwrite=overwrite or same)
        result = fuse_checkpoint(loaded, output, images=images)

    out = cli.console(stderr=as_json)
    out.print(f"read    {loaded.path} ({loaded.param_key}, {loaded.dtype}): {loaded.spec.describe()}")
    if result.already_fused:
        out.print(f"wrote   {result.output}: it is fused already, or has nothing to fuse: this is an identical copy")
    elif result.report and result.exact:
        if verbose:
            cli.show_cases(result.report, out, title="fused, reloaded from disk, against the unfused network")
            out.print(f"exact   in float64 max abs error {result.exact.overall.max_abs:.1e}")
        out.print(f"wrote   {result.output} ({result.bytes / 1e6:.1f} MB) and its manifest")
        if not family_of(loaded.spec).shown_by_weights:
            out.print(f"note    no other program has a fused {loaded.spec.variant}: for those, export it to ONNX")
        cli.show_verdict(result.report, out)
    if as_json:
        cli.print_json(
            {
                "output": str(result.output),
                "source": {"file": str(loaded.path), "sha256": loaded.sha256, "param_key": loaded.param_key},
                "network": loaded.spec.as_fused().as_dict(),
                "already_fused": result.already_fused,
                "parity": result.report.as_dict() if result.report else None,
                "parity_float64": result.exact.as_dict() if result.exact else None,
            }
        )
    cli.next_command("python", "-m", "aether_deploy.export", result.output, as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.fuse")
