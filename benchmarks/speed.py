"""The tables of benchmarks/README.md: `benchmark` on each network, its JSON kept, and a plot.

    python -m benchmarks.speed --network aether_small --shape 1x3x128x128 --shape 1x3x256x256
    python -m benchmarks.speed --network aether_small --device cuda --shape 1x3x720x1280 --shape 1x3x1080x1920
    python -m benchmarks.speed --plot                  # draws what has been measured so far

Prints a Markdown table and writes benchmarks/results/speed_<network>.json, with the device in its name unless it is the
CPU, and `shared` with --beside. The plot needs matplotlib.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aether_deploy.arrays import Shape
from aether_deploy.cli.options import ShapeType
from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--network", type=click.Choice(NETWORKS), default="sample")
@click.option("--shape", "shapes", type=ShapeType(), multiple=True, default=["1x3x128x128", "1x3x256x256"])
@click.option("--rounds", type=int, default=7)
@click.option("--device", default="cpu")
@click.option("--beside", type=int, default=0, help="Busy processes on the same cores, as on a shared machine.")
@click.option("--plot", is_flag=True, help="Draw the existing results, and measure nothing.")
def main(network: str, shapes: tuple[Shape, ...], rounds: int, device: str, beside: int, plot: bool) -> None:
    """Measures one network, or draws the plot."""
    if plot:
        draw()
        return
    with tempfile.TemporaryDirectory() as folder, _busy(beside):
        path = checkpoint_file(network, Path(folder))
        # As a command: the processes that it starts import what its main module imports, which is next to nothing there
        # but PyTorch here, and that would count in the memory of each.
        words = [word for shape in shapes for word in ("--shape", "x".join(map(str, shape)))]
        words += ["--rounds", str(rounds), "--device", device, "--json"]
        command = [sys.executable, "-m", "aether_deploy.benchmark", str(path), *words]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = {"machine": describe_machine(), "network": network, "beside": beside, **json.loads(ran.stdout)}
    RESULTS.mkdir(exist_ok=True)
    name = "_".join([network, *([device] if device != "cpu" else []), *(["shared"] if beside else [])])
    (RESULTS / f"speed_{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(found))


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keeps `count` processes computing while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def as_markdown(found: dict[str, Any]) -> str:
    """A table for each input size."""
    lines = []
    for result in found["results"]:
        shape = "x".join(map(str, result["shape"]))
        beside = f", beside {found['beside']} busy processes" if found.get("beside") else ""
        lines += [f"**{found['network']}, {shape}{beside}** (matrix product: {found['peak_gflops']:.0f} GFLOP/s)", ""]
        lines += [
            "| | ms | ± | times eager | GFLOP/s | of peak | of roofline | MiB | max abs |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in result["contenders"]:
            cells = (
                row["name"],
                f"{row['median_s'] * 1e3:.1f}",
                f"{row['spread']:.0%}",
                f"{row['ratio']:.2f}",
                f"{row['gflops']:.0f}",
                f"{row['share_of_peak']:.0%}",
                f"{row['share_of_roofline']:.0%}",
                f"{row['peak_rss_mib']:.0f}",
                f"{row['max_abs']:.0e}",
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def draw() -> None:
    """Draws benchmarks/results/speed.png: the speed relative to eager PyTorch, for each network and size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("speed_*.json"))]
    panels = [(item, result) for item in found for result in item["results"]]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    size = (4.2 * columns, 3.2 * lines)
    figure, axes = pyplot.subplots(lines, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (item, result) in zip(axes.flat, panels, strict=False):
        rows = result["contenders"][::-1]
        colours = [_colour(row) for row in rows]
        axis.barh([row["name"] for row in rows], [row["ratio"] for row in rows], color=colours)
        shared = ", shared cores" if item.get("beside") else ""
        axis.set_title(f"{item['network']}, {result['shape'][3]}x{result['shape'][2]}{shared}")
        axis.set_xlabel("times eager, unfused")
        axis.axvline(1, color="black", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(RESULTS / "speed.png", dpi=110)


def _colour(row: dict[str, Any]) -> str:
    if row["peer"]:
        return "tab:orange"
    return "tab:blue" if "ours" in row["name"] else "tab:gray"


if __name__ == "__main__":
    main()
