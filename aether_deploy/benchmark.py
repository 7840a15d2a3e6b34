"""`python -m aether_deploy.benchmark`: one network, every way to run it, side by side."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli
from aether_deploy.export import ShapeType

if TYPE_CHECKING:
    from rich.table import Table

    from aether_deploy.spec import NetworkSpec
    from aether_deploy.timing.gauges import Machine
    from aether_deploy.timing.measure import Timing

__all__ = ["benchmark", "command", "photo_input"]


@click.command(cls=cli.Command, name="benchmark", context_settings={"show_default": True})
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--shape", "shapes", type=ShapeType(), multiple=True, default=["1x3x128x128", "1x3x256x256"], help="Repeatable."
)
@click.option("--rounds", type=click.IntRange(2), default=7, help="Each runs every contender once.")
@click.option("--warmup", type=click.IntRange(1), default=2, help="Runs of each before the first round.")
@click.option("--threads", type=click.IntRange(1), help="Of each; the usable cores by default.", show_default=False)
@click.option("--peers/--no-peers", default=True, help="The graphs that other projects would make, too.")
@cli.device_option
@cli.json_option
def command(
    models: tuple[Path, ...],
    shapes: tuple[tuple[int, int, int, int], ...],
    rounds: int,
    warmup: int,
    threads: int | None,
    peers: bool,
    device: str,
    as_json: bool,
) -> None:
    """Times MODELS on the same inputs in one run: interleaved rounds, a process for each contender.

    A trained checkpoint is timed in PyTorch (unfused, fused, compiled), as our ONNX file, in OpenVINO where that is
    installed, and as other projects would export it; an .onnx file as it is.
    """
    from aether_deploy.timing.measure import usable_cores

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


def benchmark(
    models: tuple[Path, ...],
    shapes: tuple[tuple[int, int, int, int], ...],
    *,
    device: str,
    threads: int,
    rounds: int,
    warmup: int = 2,
    peers: bool = True,
) -> dict[str, Any]:
    """Measures, and gives plain values for JSON: seconds, bytes, GFLOP/s.

    Args:
        models: checkpoints or ONNX files of one network; the first contender of the first is the baseline.
        shapes: (N, C, H, W) of the inputs, photo content.
        device, threads, rounds, warmup: see `measure`.
        peers: see `prepare`.
    Raises:
        AetherDeployError: a model that cannot be read, exported or run.
    """
    from aether_deploy.manifest import tool_versions, utc_now, verify_artifact
    from aether_deploy.onnx_runner import require_provider
    from aether_deploy.runners import PROVIDERS
    from aether_deploy.timing.contenders import Contender, prepare
    from aether_deploy.timing.gauges import gauged, gauges
    from aether_deploy.timing.measure import measure
    from aether_deploy.torch_runner import torch_device

    half = device in ("cuda", "tensorrt")
    if half:
        # Before anything is exported for it.
        torch_device(device)
        require_provider(PROVIDERS[device])
    with tempfile.TemporaryDirectory() as folder:
        contenders: list[Contender] = []
        for number, model in enumerate(models):
            verify_artifact(model)
            place = Path(folder) / str(number)
            place.mkdir()
            contenders += prepare(model, place, half=half, peers=peers)
        beside = gauges(device, half=half)
        run = functools.partial(measure, device=device, threads=threads, rounds=rounds, warmup=warmup)
        timed = [(shape, run([*contenders, *beside], photo_input(shape))) for shape in shapes]
    count = len(contenders)
    machine = gauged([timing for _, timings in timed for timing in timings[count:]], device)
    spec = _spec(models[0])
    return {
        "tools": tool_versions("torch", "onnxruntime", "openvino", "numpy"),
        "measured": utc_now(),
        "device": device,
        "threads": threads,
        "rounds": rounds,
        "peak_gflops": machine.flops / 1e9,
        "peak_half_gflops": machine.half_flops and machine.half_flops / 1e9,
        "bandwidth_gb": machine.bandwidth / 1e9,
        "results": [
            {
                "model": models[0].name,
                "shape": list(shape),
                "contenders": [_row(timing, timings[0], machine, spec, shape) for timing in timings[:count]],
            }
            for shape, timings in timed
        ],
    }


def photo_input(shape: tuple[int, int, int, int]) -> Any:
    """Photo content of any size, mirrored as often as it takes."""
    from aether_deploy.parity_cases import fitted
    from aether_deploy.pictures.images import PHOTOS, list_images, read_image

    n, _, height, width = shape
    return fitted(read_image(list_images(PHOTOS)[0]), n, height, width)


def _spec(model: Path) -> NetworkSpec | None:
    """Of the fused network, so that fusing shows as speed and not as work; None if not known."""
    from aether_deploy.runners import open_runner

    spec = open_runner(model).spec
    return spec.as_fused() if spec else None


def _row(
    timing: Timing, baseline: Timing, machine: Machine, spec: NetworkSpec | None, shape: tuple[int, int, int, int]
) -> dict[str, Any]:
    from aether_deploy.timing.operations import bytes_moved, flops

    contender = timing.contender
    row = {
        "name": contender.name,
        "peer": contender.peer,
        "median_s": timing.median,
        "spread": timing.spread,
        "seconds": list(timing.seconds),
        "first_s": timing.first,
        "ratio": timing.ratio(baseline),
        "gflops": None,
        "share_of_peak": None,
        "share_of_roofline": None,
        "peak_rss_mib": timing.peak_rss / 2**20,
        "max_abs": timing.max_abs,
    }
    if spec:
        operations, moved = flops(spec, shape), bytes_moved(spec, shape, width_of_value=2 if contender.half else 4)
        peak = machine.roofline(operations, 0, half=contender.half)
        row["gflops"] = operations / timing.median / 1e9
        row["share_of_peak"] = peak / timing.median
        row["share_of_roofline"] = machine.roofline(operations, moved, half=contender.half) / timing.median
    return row


def _table(result: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    title = f"{result['model']}, {'x'.join(map(str, result['shape']))}"
    # Without lines between, so that all of it fits 80 columns.
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
