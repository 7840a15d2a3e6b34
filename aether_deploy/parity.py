"""`python -m aether_deploy.parity`: any two files of one network, compared."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.artifacts.formats import format_of
from aether_deploy.proof.tolerances import TOLERANCES

__all__ = ["command"]


@click.command(cls=cli.Command, example="parity 2x_Name.pth out/2x_Name_fp16_op20.onnx", name="parity")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--gate",
    type=cli.Choice(["auto", *TOLERANCES]),
    default="auto",
    show_default=True,
    help="Row of the tolerance table; auto takes that of the less precise file.",
)
@click.option(
    "--device",
    type=cli.DEVICE,
    help="Where both run; by default the CPU, where half precision is executed as its types say, and for an engine "
    "its own GPU.",
)
@cli.images_option
@cli.trust_option
@cli.verbose_option
@cli.json_option
def command(
    a: Path, b: Path, gate: str, device: str | None, images: Path | None, trust: bool, verbose: bool, as_json: bool
) -> None:
    """Compare two files of one network, of which A is the reference."""
    cli.require_readable(a, b, images)
    cli.without_tf32()
    with cli.progress("parity"):
        from aether_deploy.artifacts.comparing import compare

        compared = compare(a, b, gate=gate, images=images, device=device, trust=trust)
        # A neosr folder has no suffix, and holds a checkpoint.
        shown = all(row is None or row.shows_layers for row in map(format_of, (a, b)))
        hint = "; `aether-deploy locate` with the same files names the layer" if shown else ""
        compared.require(f"{b}, compared with {a},", hint=hint)
    out, report, (first, second) = cli.console(stderr=as_json), compared.report, compared.runners
    out.print(f"A {a} ({first})")
    out.print(f"B {b} ({second})")
    if verbose:
        cli.show_cases(report, out)
    if compared.left_out:
        out.print(f"outside the engine's profiles, so not run: {', '.join(compared.left_out)}")
    cli.show_verdict(report, out)
    if as_json:
        found = {"runners": [first, second], "left_out": list(compared.left_out)}
        cli.print_json({"a": str(a), "b": str(b), **found, **report.as_dict()})
    cli.next_command("python", "-m", "aether_deploy.upscale", b, "PHOTO.png", as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.parity")
