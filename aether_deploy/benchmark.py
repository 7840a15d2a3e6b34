"""`python -m aether_deploy.benchmark`: one network, run in every way, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli
from aether_deploy.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from aether_deploy.arrays import Shape


__all__ = [
    "command",
]


@click.command(
    cls=cli.Command,
    example="benchmark 2x_Name.pth --shape 1x3x64x64",
    name="benchmark",
    context_settings={"show_default": True},
)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--shape", "shapes", type=cli.ShapeType(), multiple=True, default=["1x3x128x128", "1x3x256x256"], help="Repeatable."
)
@click.option("--rounds", type=click.IntRange(2), default=7, help="Each runs every contender once.")
@click.option("--warmup", type=click.IntRange(1), default=2, help="Runs of each before the first round.")
@click.option("--threads", type=click.IntRange(1), help="For each; all usable cores by default.", show_default=False)
@click.option("--peers/--no-peers", default=True, help="Also time the graphs that other projects would export.")
@cli.device_option
@cli.json_option
def command(
    models: tuple[Path, ...],
    shapes: tuple[Shape, ...],
    rounds: int,
    warmup: int,
    threads: int | None,
    peers: bool,
    device: str,
    as_json: bool,
) -> None:
    """Time MODELS on the same inputs, side by side.

    A trained checkpoint is timed in PyTorch (unfused, fused, compiled), as our ONNX file, in OpenVINO if it is
    installed, and as other projects would export it; an .onnx file only as it is.
    """
    from aether_deploy.timing.measure import usable_cores
    from aether_deploy.timing.side_by_side import benchmark

    with cli.progress("benchmark"):
        threads = threads or usable_cores()
        found = benchmark(models, shapes, device=device, threads=threads, rounds=rounds, warmup=warmup, peers=peers)
    out = cli.console(stderr=as_json)
    for result in found["results"]:
        out.print(_table(result))
    half = f", {found['peak_half_gflops']:.0f} in fp16" if found["peak_half_gflops"] else ""
    gauge = f"matrix product {found['peak_gflops']:.0f} GFLOP/s{half}, copy {found['bandwidth_gb']:.0f} GB/s"
    out.print(f"in the same run: {gauge}, on {threads} threads")
    if as_json:
        cli.print_json(found)
    cli.next_command("python", "-m", "aether_deploy.upscale", models[0], "PHOTO.png", as_json=as_json)


def _table(result: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    title = f"{printable(result['model'])}, {'x'.join(map(str, result['shape']))}"
    # Without lines in between, so that it fits into 80 columns.
    table = Table(Column("", overflow="fold"), title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in ("ms", "±", "times", "GFLOP/s", "peak", "roof", "MiB", "max abs"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in result["contenders"]:
        table.add_row(
            row["name"],
            f"{row['median_s'] * 1e3:.1f}",
            f"{row['spread']:.0%}",
            f"{row['ratio']:.2f}",
            f"{row['gflops']:.0f}" if row["gflops"] else "",
            f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else "",
            f"{row['share_of_roofline']:.0%}" if row["share_of_roofline"] else "",
            f"{row['peak_rss_mib']:.0f}",
            f"{row['max_abs']:.0e}",
        )
    return table


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.benchmark")
