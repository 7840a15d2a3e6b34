"""What the pipeline costs: seconds per step, errors, and peak memory, with each network in a process of its own.

    python -m benchmarks.pipeline                   # the sample, and small, medium and large with random weights
    python -m benchmarks.pipeline --precision fp16

Prints a Markdown table and writes benchmarks/results/pipeline_<precision>.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--network", "networks", type=click.Choice(NETWORKS), multiple=True, default=NETWORKS)
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "fp16"]))
@click.option("--child", is_flag=True, hidden=True)
def main(networks: tuple[str, ...], precision: str, child: bool) -> None:
    """Measures fusing, exporting and proving each network."""
    if child:
        print(json.dumps(measure(networks[0], precision)))
        return
    rows = []
    for network in networks:
        print(f"measuring {network} ...", file=sys.stderr)
        words = ["--child", "--network", network, "--precision", precision]
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.pipeline", *words], stdout=subprocess.PIPE, text=True, check=True
        )
        rows.append(json.loads(ran.stdout))
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": describe_machine(), "precision": precision, "rows": rows}
    (RESULTS / f"pipeline_{precision}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(rows, precision))


def measure(network: str, precision: str) -> dict[str, Any]:
    """The steps of `fuse` and `export`, one after another, as in the commands."""
    from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.artifacts.pipeline import export_model
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.precisions.variant import variants
    from aether_deploy.proof.reference import Trained

    seconds: dict[str, float] = {}

    def timed[T](step: str, call: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = call()
        seconds[step] = time.perf_counter() - started
        return result

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = load_checkpoint(checkpoint_file(network, folder))
        trained = Trained(checkpoint)
        timed("reference", lambda: trained.reference)
        fused = timed("fuse", lambda: fuse_checkpoint(checkpoint, folder / "fused.pth", trained=trained))
        options = ExportOptions(variants=variants((precision,)), output=folder)
        (artifact,) = timed("export", lambda: export_model(checkpoint, options, trained=trained))
        assert fused.exact is not None
        assert fused.report is not None
        return {
            "network": network,
            "parameters": sum(value.numel() for value in checkpoint.state_dict.values()),
            "seconds": seconds,
            "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "fuse_float64": fused.exact.overall.max_abs,
            "fuse_float32": fused.report.overall.max_abs,
            "onnx": artifact.report.overall.max_abs,
            "onnx_psnr": artifact.report.overall.psnr,
            "onnx_mb": artifact.path.stat().st_size / 1e6,
        }


def as_markdown(rows: list[dict[str, Any]], precision: str) -> str:
    """The table of the README."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "network": lambda row: str(row["network"]),
        "parameters": lambda row: f"{row['parameters']:,}",
        "fused, float64": lambda row: f"{row['fuse_float64']:.1e}",
        "fused, float32": lambda row: f"{row['fuse_float32']:.1e}",
        f"ONNX {precision}": lambda row: f"{row['onnx']:.1e}",
        "reference, s": lambda row: f"{row['seconds']['reference']:.1f}",
        "fuse, s": lambda row: f"{row['seconds']['fuse']:.1f}",
        "export, s": lambda row: f"{row['seconds']['export']:.1f}",
        "peak memory, GiB": lambda row: f"{row['peak_rss_gib']:.2f}",
    }
    lines = [columns, ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
