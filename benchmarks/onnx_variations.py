"""What makes our ONNX faster on the CPU, and what does not: sessions and graphs, interleaved, on one photo.

    python -m benchmarks.onnx_variations --network aether_small --size 128

Times are CPU seconds of the process, all threads together, the least of all rounds: on a shared machine these vary less
than wall-clock time. Prints a Markdown table and writes benchmarks/results/onnx_variations_<network>.json.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic

from aether_deploy.graphs.channels_last_sum import ChannelsLastSum
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.passes import applied
from aether_deploy.graphs.shuffle_last import ShuffleLast
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.forms import fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.timing.side_by_side import photo_input
from benchmarks.graph_variants import flat_ffn, merged_ffn, norm_of_reductions, tanh_gelu
from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file

RESULTS = Path(__file__).parent / "results"
Session = Callable[[ort.SessionOptions], None]
OURS = "ours"
# The graph that variations start from if they change layers that folding removes.
UNFOLDED = "norms not folded (¹)"


def variations(checkpoint_path: Path, folder: Path) -> dict[str, tuple[Path, Session]]:
    """Name -> (file, function that sets the session's options)."""
    checkpoint = load_checkpoint(checkpoint_path)
    network, spec = fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused()
    exported, ours = export_onnx(network, spec), fp32_model(network, spec, Variant())
    unfolded = applied(exported, ShuffleLast(), ChannelsLastSum())
    graphs = {
        OURS: ours,
        "as PyTorch exports it": exported,
        "only the shuffle moved": applied(exported, ShuffleLast()),
        UNFOLDED: unfolded,
        "only the sum in NHWC": applied(exported, ChannelsLastSum()),
        "GELU as five operators (opset 17)": fp32_model(network, spec, Variant(opset=17)),
        "GELU by tanh": tanh_gelu(ours),
        "FFN as 1x1 convolutions": fp32_model(network, spec, Variant(ffn="conv1x1")),
        "¹ FFN as Gemm on pixels x channels": flat_ffn(unfolded),
        "¹ LayerNormalization as reductions": norm_of_reductions(unfolded),
    }
    paths = {name: folder / f"{number}.onnx" for number, name in enumerate(graphs)}
    for name, graph in graphs.items():
        save_onnx(graph, paths[name])
    source, merged, ahead, int8 = paths[OURS], *(folder / f"{name}.onnx" for name in ("merged", "ahead", "int8"))
    merged_ffn(paths[UNFOLDED], merged)
    saving = _options(as_ours)
    saving.optimized_model_filepath = str(ahead)
    ort.InferenceSession(source, saving, providers=["CPUExecutionProvider"])
    quantize_dynamic(source, int8, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    level = ort.GraphOptimizationLevel
    found: dict[str, tuple[Path, Session]] = {name: (path, as_ours) for name, path in paths.items()}
    return {
        **found,
        "¹ FFN: gate and main in one MatMul": (merged, as_ours),
        "MatMul in int8, dynamic": (int8, as_ours),
        "session defaults (memory pattern, spinning)": (source, lambda options: None),
        "waiting threads spin": (source, _spinning),
        "blocks that shrink (dynamic_block_base 4)": (source, _dynamic_blocks),
        "no arena": (source, lambda o: _set(o, enable_cpu_mem_arena=False)),
        "operators in parallel": (source, lambda o: _set(o, execution_mode=ort.ExecutionMode.ORT_PARALLEL)),
        "optimization: extended": (source, lambda o: _set(o, graph_optimization_level=level.ORT_ENABLE_EXTENDED)),
        "optimized ahead, saved": (ahead, lambda o: _set(o, graph_optimization_level=level.ORT_DISABLE_ALL)),
    }


def as_ours(options: ort.SessionOptions) -> None:
    """Sets the options as `OnnxRunner` does."""
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def _spinning(options: ort.SessionOptions) -> None:
    options.enable_mem_pattern = False


def _dynamic_blocks(options: ort.SessionOptions) -> None:
    as_ours(options)
    options.add_session_config_entry("session.dynamic_block_base", "4")


def _set(options: ort.SessionOptions, **values: Any) -> None:
    as_ours(options)
    for name, value in values.items():
        setattr(options, name, value)


def _options(session: Session, threads: int = 2) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session(options)
    return options


@click.command()
@click.option("--network", type=click.Choice(NETWORKS), default="aether_small")
@click.option("--size", type=int, default=128)
@click.option("--rounds", type=int, default=9)
@click.option("--threads", type=int, default=2)
def main(network: str, size: int, rounds: int, threads: int) -> None:
    """Times every variation, and compares its output with ours."""
    lr = photo_input((1, 3, size, size))
    with tempfile.TemporaryDirectory() as name:
        found = variations(checkpoint_file(network, Path(name)), Path(name))
        sessions = {
            key: ort.InferenceSession(path, _options(set_up, threads), providers=["CPUExecutionProvider"])
            for key, (path, set_up) in found.items()
        }
    outputs = {key: session.run(None, {"input": lr})[0] for key, session in sessions.items()}
    cpu: dict[str, list[float]] = {key: [] for key in sessions}
    clock: dict[str, list[float]] = {key: [] for key in sessions}
    for _ in range(rounds):
        for key, session in sessions.items():
            # The previous session's spinning must not be counted here.
            time.sleep(0.05)
            began, began_cpu = time.perf_counter(), time.process_time()
            session.run(None, {"input": lr})
            cpu[key].append(time.process_time() - began_cpu)
            clock[key].append(time.perf_counter() - began)
    rows: list[dict[str, Any]] = [
        {
            "variation": key,
            "cpu_s": min(cpu[key]),
            "speed": min(cpu[OURS]) / min(cpu[key]),
            "paired_speed": statistics.median(o / t for o, t in zip(clock[OURS], clock[key], strict=True)),
            "max_abs": float(np.abs(outputs[key] - outputs[OURS]).max()),
        }
        for key in sessions
    ]
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": describe_machine(), "network": network, "size": size, "rounds": rounds, "rows": rows}
    target = RESULTS / f"onnx_variations_{network}.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    limit = TOLERANCES["fp32"].max_abs
    print("| variation | CPU s | speed (CPU) | speed (clock, paired) | max abs against ours |\n|---|---|---|---|---|")
    for row in rows:
        verdict = "" if row["max_abs"] <= limit else " ✗"
        print(
            f"| {row['variation']} | {row['cpu_s']:.3f} | {row['speed']:.2f} | {row['paired_speed']:.2f} "
            f"| {row['max_abs']:.0e}{verdict} |"
        )


if __name__ == "__main__":
    main()
