"""What 8 bits cost and gain on a checkpoint, beside ONNX Runtime's own quantizer: error, loss, speed and size.

    python -m benchmarks.eight_bits                       # the packaged sample
    python -m benchmarks.eight_bits net_g_latest.pth --images my_photos --calibration other_photos

Each row is a file, reloaded from disk, run in integers and as it is written. Speed is that of ONNX Runtime's CPU
provider on a photo, fp32 and the row in turns in one process; the median ratio. Prints a Markdown table and writes
benchmarks/results/eight_bits_<checkpoint>.json, with _vnni in its name on a processor that has such instructions.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from aether_deploy.arrays import Array, mean_squared_error, psnr
from aether_deploy.artifacts import eight_bits
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.graphs import eight_bit_numbers
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.graphs.quantized_layers import QuantizedLayers, linear_inputs
from aether_deploy.network.checkpoint import Checkpoint, load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.forms import fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.calibration import Calibration, GroundTruth, calibration_inputs, ground_truths
from aether_deploy.proof.reference import capture_reference
from aether_deploy.proof.verdict import Reference
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.samples import SAMPLE
from aether_deploy.timing.measure import usable_cores
from aether_deploy.timing.side_by_side import photo_input
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"

Make = Callable[[Path], None]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), default=SAMPLE)
@click.option("--images", type=click.Path(path_type=Path), help="Photos that judge, the packaged ones by default.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Photos that calibrate; others than --images.")
@click.option("--size", type=int, default=256, help="Of the photo that is timed.")
@click.option("--rounds", type=int, default=9)
def main(checkpoint: Path, images: Path | None, calibration: Path | None, size: int, rounds: int) -> None:
    """Measures each way to 8 bits on CHECKPOINT."""
    loaded = load_checkpoint(checkpoint)
    spec = loaded.spec.as_fused()
    network = fuse_network(loaded.build(), loaded.spec)
    graph = fp32_model(network, spec, Variant("int8"))
    reference = capture_reference(loaded, images)
    truths = ground_truths(images, calibration, scale=spec.scale, in_chans=spec.in_chans)
    pictures = calibration_inputs(calibration, in_chans=spec.in_chans)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "fp32.onnx"
        save_onnx(fp32_model(network, spec, Variant()), exact)
        plain = Path(folder) / "unfolded.onnx"
        save_onnx(graph, plain)
        lr = photo_input((1, spec.in_chans, size, size))
        options = ExportOptions(output=Path(folder) / "ours", images=images, calibration=calibration)
        found: list[tuple[str, Make]] = [("fp32", lambda path: save_onnx(ir.load(exact), path))]
        for name, make in [*found, *ways(loaded, options, graph, pictures, plain)]:
            print(f"measuring {name} ...", file=sys.stderr)
            path = Path(folder) / "model.onnx"
            make(path)
            measured = figures(path, exact, reference, truths)
            rows.append({"way": name, **measured, "speed": speed(path, exact, lr, rounds)})
    RESULTS.mkdir(exist_ok=True)
    vnni = "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    results = {
        "machine": describe_machine(),
        "integer_adds": "32 bits" if vnni else "16 bits",
        "checkpoint": loaded.path.name,
        "sha256": loaded.sha256,
        "size": size,
        "threads": usable_cores(),
        "rows": rows,
    }
    (RESULTS / f"eight_bits_{loaded.path.stem}{'_vnni' if vnni else ''}.json").write_text(
        json.dumps(results, indent=2) + "\n", encoding="utf-8"
    )
    print(as_markdown(rows))


def ways(
    loaded: Checkpoint, options: ExportOptions, graph: ir.Model, pictures: Calibration, plain: Path
) -> Iterator[tuple[str, Make]]:
    """(name, what writes the file) of each way."""
    images = pictures.images
    every = linear_inputs(graph)

    def level(precision: str) -> Make:
        def make(path: Path) -> None:
            (made,) = export_model(loaded, dataclasses.replace(options, variants=(Variant(precision),)))
            made.path.replace(path)

        return make

    def all_of(*, pairs: bool) -> Make:
        def make(path: Path) -> None:
            with mock.patch.object(eight_bit_numbers, "_PAIR_STEPS", eight_bit_numbers._PAIR_STEPS if pairs else 10**6):
                save_onnx(QuantizedLayers(eight_bits._observe(graph, every, images))(graph).model, path)

        return make

    yield "int8", level("int8")
    yield "int8-fast", level("int8-fast")
    yield "every linear layer", all_of(pairs=True)
    yield "every linear layer, neighbours of any size", all_of(pairs=False)
    for kind in (QuantType.QUInt8, QuantType.QInt8):
        yield f"ONNX Runtime's quantizer, {kind.name}", lambda path, kind=kind: theirs(plain, path, images, kind)  # type: ignore[misc]


class Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Pictures as ONNX Runtime's quantizer takes them."""

    def __init__(self, images: list[Array]) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        """The next one, or None."""
        image = next(self._left, None)
        return None if image is None else {"input": image}


def theirs(plain: Path, path: Path, images: list[Array], kind: QuantType) -> None:
    """ONNX Runtime's quantizer, told to do the same: linear layers, each output its own scale, the same pictures."""

    quantize_static(
        plain,
        path,
        Pictures(images),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=kind,
        weight_type=QuantType.QInt8,
    )


def figures(path: Path, exact: Path, reference: Reference, truths: list[GroundTruth]) -> dict[str, Any]:
    """Errors of a file, in 8-bit levels and dB, against the trained network, itself in floats, and ground truth."""
    with OnnxRunner(path) as integers, OnnxRunner(path, as_written=True) as floats, OnnxRunner(exact) as before:
        errors, apart = [], []
        for case, expected in zip(reference.cases, reference.outputs, strict=True):
            actual = integers.run(case.lr)
            apart.append(float(np.abs(actual - floats.run(case.lr)).max()) * 255)
            off = np.abs(actual - expected)
            errors.append((case.drawn, float(off.max()) * 255, psnr(mean_squared_error(expected, actual))))
        lost = [
            psnr(mean_squared_error(truth.hr, before.run(truth.lr).clip(0, 1)))
            - psnr(mean_squared_error(truth.hr, integers.run(truth.lr).clip(0, 1)))
            for truth in truths
        ]
    return {
        "photos_level": max(level for drawn, level, _ in errors if not drawn),
        "photos_psnr": min(value for drawn, _, value in errors if not drawn),
        "all_level": max(level for _, level, _ in errors),
        "all_psnr": min(value for *_, value in errors),
        "integers_off_floats": max(apart),
        "lost_db": max(lost),
        "bytes": path.stat().st_size,
    }


def speed(path: Path, exact: Path, lr: Array, rounds: int) -> float:
    """Time of fp32 divided by that of the file, each run in turns; the median."""
    threads = usable_cores()
    with OnnxRunner(exact, threads=threads) as before, OnnxRunner(path, threads=threads) as after:
        ratios = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            before.run(lr)
            between = time.perf_counter()
            after.run(lr)
            ratios.append((between - started) / (time.perf_counter() - between))
    return statistics.median(ratios[1:])


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the README."""
    errors = ["photos: worst level", "PSNR, dB", "all: worst level", "PSNR, dB", "integers off floats", "lost, dB"]
    header = ["", *errors, "KB", "speed"]
    cells = [
        [
            str(row["way"]),
            f"{row['photos_level']:.2f}",
            f"{row['photos_psnr']:.1f}",
            f"{row['all_level']:.2f}",
            f"{row['all_psnr']:.1f}",
            f"{row['integers_off_floats']:.2f}",
            f"{row['lost_db']:.4f}",
            f"{row['bytes'] / 1e3:.0f}",
            f"{row['speed']:.2f}",
        ]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells])


if __name__ == "__main__":
    main()
