"""`python -m aether_deploy.locate`: the first layer in which two files of one network differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aether_deploy import cli
from aether_deploy.files import require_free

if TYPE_CHECKING:
    from rich.table import Table

    from aether_deploy.locating.location import LayerError

__all__ = ["command"]

# Layers that are shown without --verbose, those that cause most.
_SHOWN = 12
_BAR = 6


@click.command(cls=cli.Command, example="locate 2x_Name.pth out/2x_Name_fp16_op20.onnx", name="locate")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--device",
    type=cli.DEVICE,
    help="Where B runs; by default the CPU, where half precision is executed as its types say.",
)
@click.option(
    "--reduce",
    "reduced",
    type=click.Path(path_type=Path),
    metavar="OUT.onnx",
    help="Write the smallest graph that shows the difference, and OUT.npz with its inputs and what is expected.",
)
@click.option("--no-shares", is_flag=True, help="Only the first difference, which is faster.")
@cli.images_option
@cli.trust_option
@cli.overwrite_option
@cli.verbose_option
@cli.json_option
def command(
    a: Path,
    b: Path,
    device: str | None,
    reduced: Path | None,
    no_shares: bool,
    images: Path | None,
    trust: bool,
    overwrite: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Find the first layer in which B is not A, and what each layer errs.

    A and B are checkpoints or ONNX files of one network. Each layer of B is run from the exact values that A has there,
    so that its error is its own; --verbose shows all of them. Its share is what it alone causes in the picture.
    """
    cli.require_readable(a, b, images)
    if reduced is not None:
        for target in (reduced, reduced.with_suffix(".npz")):
            require_free(target, [a, b], overwrite=overwrite)
    cli.without_tf32()
    with cli.progress("locate"):
        from aether_deploy.artifacts.locating_files import locate_files

        found = locate_files(a, b, device=device, images=images, trust=trust, shares=not no_shares, reduced=reduced)
    out, location, part = cli.console(stderr=as_json), found.location, found.reduced
    out.print(f"A {a}")
    out.print(f"B {b} ({location.runs_as}), on {' and '.join(location.inputs)}")
    rows = list(location.layers) if verbose else [row for row in location.most(_SHOWN) if row.alone]
    if rows:
        out.print(_table(rows))
    out.print(location.verdict)
    if part is not None:
        out.print(f"wrote   {part.graph} ({part.nodes} operators) and {part.inputs}: {part.error:.1e} off there")
    if as_json:
        written = None if part is None else {"graph": str(part.graph), "inputs": str(part.inputs), "nodes": part.nodes}
        cli.print_json({"a": str(a), "b": str(b), **location.as_dict(), "reduced": written})
    if location.first is None:
        cli.next_command("python", "-m", "aether_deploy.parity", a, b, as_json=as_json)
    elif reduced is None:
        words = ["--device", device] if device else []
        cli.next_command("python", "-m", "aether_deploy.locate", a, b, *words, "--reduce", "part.onnx", as_json=as_json)
    else:
        cli.next_command("python", "-m", "aether_deploy.inspect", reduced, as_json=as_json)


def _table(rows: list[LayerError]) -> Table:
    from rich.table import Column, Table

    largest = max((row.share or 0.0) for row in rows) or 1.0
    shares = any(row.share is not None for row in rows)
    # Names may be folded in a narrow terminal, figures may not.
    columns = [Column("layer", overflow="fold"), Column("operator", overflow="fold")]
    columns += [Column(name, no_wrap=True, min_width=7) for name in ("alone", "so far")]
    columns += [Column("share", no_wrap=True, min_width=5), Column("", no_wrap=True, min_width=_BAR)] if shares else []
    table = Table(*columns)
    for row in rows:
        bar = "█" * round(_BAR * (row.share or 0.0) / largest)
        share = (f"{row.share:.1%}", bar) if row.share is not None else ()
        table.add_row(row.layer, row.op, f"{row.alone:.1e}", f"{row.so_far:.1e}", *share)
    return table


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.locate")
