"""Where our ONNX spends its time on the CPU, operator by operator, according to ONNX Runtime's own profiler.

    python -m benchmarks.operators --network aether_small --size 256

Prints a Markdown table and writes benchmarks/results/operators_<network>.json. The operators are those of the graph
that ONNX Runtime makes of ours: ReorderInput and ReorderOutput convert to and from its layout for convolutions.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import onnxruntime as ort

from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.forms import fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.timing.measure import usable_cores
from aether_deploy.timing.side_by_side import photo_input
from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file
from benchmarks.onnx_variations import as_ours

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--network", type=click.Choice(NETWORKS), default="aether_small")
@click.option("--size", type=int, default=256)
@click.option("--rounds", type=int, default=5)
def main(network: str, size: int, rounds: int) -> None:
    """Profiles one network on one photo."""
    with tempfile.TemporaryDirectory() as folder:
        events = profile(checkpoint_file(network, Path(folder)), Path(folder), size, rounds)
    runs = [event for event in events if event["name"] == "model_run"]
    total, start = sum(run["dur"] for run in runs[-rounds:]) / rounds, runs[-rounds]["ts"]
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    for event in events:
        if event["name"].endswith("_kernel_time") and event["ts"] >= start:
            sums = found[_kind(event["args"])]
            for index, value in enumerate((event["dur"], 1, _operations(event["args"]))):
                sums[index] += value / rounds
    rows: list[dict[str, Any]] = [
        {
            "operator": kind,
            "count": round(count),
            "ms": micros / 1e3,
            "share": micros / total,
            "gflops": work / micros / 1e3,
        }
        for kind, (micros, count, work) in sorted(found.items(), key=lambda item: -item[1][0])
    ]
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": describe_machine(), "network": network, "size": size, "ms": total / 1e3, "rows": rows}
    (RESULTS / f"operators_{network}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(rows, total / 1e3))


def profile(checkpoint_path: Path, folder: Path, size: int, rounds: int) -> list[dict[str, Any]]:
    """ONNX Runtime's events from two warm-up runs and `rounds` more."""
    checkpoint = load_checkpoint(checkpoint_path)
    path = folder / "ours.onnx"
    save_onnx(
        fp32_model(fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused(), Variant()), path
    )
    options = ort.SessionOptions()
    as_ours(options)
    options.intra_op_num_threads = usable_cores()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    lr = photo_input((1, 3, size, size))
    for _ in range(2 + rounds):
        session.run(None, {"input": lr})
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def _shapes(arguments: dict[str, Any], end: str) -> list[list[int]]:
    return [next(iter(item.values())) for item in arguments[f"{end}_type_shape"]]


def _kind(arguments: dict[str, Any]) -> str:
    """The operator's type; for convolutions also their kernel, and whether they are depthwise."""
    op: str = arguments["op_name"]
    if op != "Conv":
        return op
    _, weight, *_ = _shapes(arguments, "input")
    return f"Conv {weight[2]}x{weight[3]}, {'depthwise' if weight[1] == 1 else 'dense'}"


def _operations(arguments: dict[str, Any]) -> int:
    """FLOP of a product or a convolution as computed, including padded channels; 0 for other operators."""
    if arguments["op_name"] not in ("MatMul", "Conv"):
        return 0
    inputs, (output,) = _shapes(arguments, "input"), _shapes(arguments, "output")
    # A product's weights were packed ahead and are no longer an input.
    terms = inputs[0][-1] if arguments["op_name"] == "MatMul" else math.prod(inputs[1][1:])
    return 2 * math.prod(output) * terms


def as_markdown(rows: list[dict[str, Any]], total: float) -> str:
    """The table of operators that take more than half a percent."""
    lines = ["| operator | count | ms | share | GFLOP/s |", "|---|---|---|---|---|"]
    for row in rows:
        if row["share"] > 0.005:
            rate = f"{row['gflops']:.0f}" if row["gflops"] else ""
            lines.append(f"| {row['operator']} | {row['count']} | {row['ms']:.1f} | {row['share']:.1%} | {rate} |")
    return "\n".join([*lines, f"| all | {sum(row['count'] for row in rows)} | {total:.1f} | | |"])


if __name__ == "__main__":
    main()
