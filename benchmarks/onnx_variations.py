"""What makes our ONNX faster on the CPU, and what does not: sessions and graphs, interleaved, on one photo.

    python -m benchmarks.onnx_variations --network aether_small --size 128

Times are CPU seconds of the process, all threads together, the least of all rounds: on a shared machine that moves less
than the clock does. Prints a Markdown table and writes benchmarks/results/onnx_variations_<network>.json.
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
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from aether_deploy.benchmark import photo_input
from aether_deploy.checkpoint import load_checkpoint
from aether_deploy.ffn import with_ffn
from aether_deploy.fuse import fuse_aether
from aether_deploy.onnx_export import export_onnx, save_onnx
from aether_deploy.parity import TOLERANCES
from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file

RESULTS = Path(__file__).parent / "results"
Session = Callable[[ort.SessionOptions], None]


def merged_ffn(source: Path, target: Path) -> None:
    """fc1_gate and fc1_main as one MatMul of twice the width, split afterwards."""
    model = onnx.load(source)
    graph = model.graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            by_input.setdefault(node.input[0], []).append(node)
    for pair in (nodes for nodes in by_input.values() if len(nodes) == 2):
        users = [next(n for n in graph.node if matmul.output[0] in n.input) for matmul in pair]
        biases = [next(weights[name] for name in user.input if name in weights) for user in users]
        stem = pair[0].output[0]
        merged = np.concatenate([weights[matmul.input[1]] for matmul in pair], axis=1)
        halves = np.array([merged.shape[1] // 2] * 2, np.int64)
        for name, value in (("w", merged), ("b", np.concatenate(biases)), ("s", halves)):
            graph.initializer.append(numpy_helper.from_array(value, f"{stem}_{name}"))
        at = next(index for index, node in enumerate(graph.node) if node is pair[0] or node.output[0] == stem)
        nodes = [
            helper.make_node("MatMul", [pair[0].input[0], f"{stem}_w"], [f"{stem}_m"]),
            helper.make_node("Add", [f"{stem}_m", f"{stem}_b"], [f"{stem}_a"]),
            helper.make_node("Split", [f"{stem}_a", f"{stem}_s"], [user.output[0] for user in users], axis=-1),
        ]
        for node in (*pair, *users):
            graph.node.remove(node)
        for node in reversed(nodes):
            graph.node.insert(at, node)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def variations(checkpoint_path: Path, folder: Path) -> dict[str, tuple[Path, Session]]:
    """Name -> file and what to set on the session."""
    checkpoint = load_checkpoint(checkpoint_path)
    network, spec = fuse_aether(checkpoint.build()), checkpoint.spec.as_fused()
    paths = {name: folder / f"{name}.onnx" for name in ("ours", "opset17", "conv", "merged", "ahead", "int8")}
    model = export_onnx(network, spec)
    save_onnx(model, paths["ours"])
    save_onnx(export_onnx(network, spec, opset=17), paths["opset17"])
    save_onnx(with_ffn(export_onnx(network, spec), "conv1x1"), paths["conv"])
    merged_ffn(paths["ours"], paths["merged"])
    ahead = _options(_ours)
    ahead.optimized_model_filepath = str(paths["ahead"])
    ort.InferenceSession(paths["ours"], ahead, providers=["CPUExecutionProvider"])
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(paths["ours"], paths["int8"], op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    level = ort.GraphOptimizationLevel
    return {
        "ours": (paths["ours"], _ours),
        "session defaults (memory pattern, spinning)": (paths["ours"], lambda options: None),
        "no arena": (paths["ours"], lambda options: _set(options, enable_cpu_mem_arena=False)),
        "waiting threads spin": (paths["ours"], _spinning),
        "optimization: basic": (paths["ours"], lambda o: _set(o, graph_optimization_level=level.ORT_ENABLE_BASIC)),
        "optimization: extended": (
            paths["ours"],
            lambda o: _set(o, graph_optimization_level=level.ORT_ENABLE_EXTENDED),
        ),
        "optimized ahead, saved": (paths["ahead"], lambda o: _set(o, graph_optimization_level=level.ORT_DISABLE_ALL)),
        "GELU as five operators (opset 17)": (paths["opset17"], _ours),
        "FFN as 1x1 convolutions": (paths["conv"], _ours),
        "FFN: gate and main in one MatMul": (paths["merged"], _ours),
        "MatMul in int8, dynamic": (paths["int8"], _ours),
    }


def _ours(options: ort.SessionOptions) -> None:
    """As `OnnxRunner` sets it."""
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def _spinning(options: ort.SessionOptions) -> None:
    options.enable_mem_pattern = False


def _set(options: ort.SessionOptions, **values: Any) -> None:
    _ours(options)
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
            # What the session before still spins must not be counted here.
            time.sleep(0.05)
            began, began_cpu = time.perf_counter(), time.process_time()
            session.run(None, {"input": lr})
            cpu[key].append(time.process_time() - began_cpu)
            clock[key].append(time.perf_counter() - began)
    rows: list[dict[str, Any]] = [
        {
            "variation": key,
            "cpu_s": min(cpu[key]),
            "speed": min(cpu["ours"]) / min(cpu[key]),
            "paired_speed": statistics.median(o / t for o, t in zip(clock["ours"], clock[key], strict=True)),
            "max_abs": float(np.abs(outputs[key] - outputs["ours"]).max()),
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
