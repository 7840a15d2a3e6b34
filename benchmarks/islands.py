"""What each islands policy costs and gains on a checkpoint: error, size, casts, headroom.

    python -m benchmarks.islands                       # the packaged sample
    python -m benchmarks.islands net_g_latest.pth --images my_photos

Each row is a file, reloaded from disk and run with every result rounded as its types say; nothing is rejected. Prints a
Markdown table and writes benchmarks/results/islands.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.choices import POLICIES
from aether_deploy.precisions.forms import conversions, fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.reference import capture_reference
from aether_deploy.proof.verdict import Reference, verify
from aether_deploy.runners.rounded import RoundedRunner
from aether_deploy.samples import SAMPLE
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"

VARIANTS = (
    Variant("fp32"),
    *(Variant("fp16", islands=policy) for policy in POLICIES),
    Variant("fp16", io="fp16"),
    Variant("fp16", ffn="conv1x1"),
    *(Variant("bf16", islands=policy) for policy in ("none", "default")),
)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), default=SAMPLE)
@click.option("--images", type=click.Path(path_type=Path), help="Photos, the packaged ones by default.")
def main(checkpoint: Path, images: Path | None) -> None:
    """Measures every policy on CHECKPOINT."""
    loaded = load_checkpoint(checkpoint)
    spec, network = loaded.spec.as_fused(), fuse_network(loaded.build(), loaded.spec)
    reference = capture_reference(loaded, images)
    photos = {name for name, _ in parity_photos(images)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            print(f"measuring {describe(variant)} ...", file=sys.stderr)
            model, casts = fp32_model(network, spec, variant), 0
            if variant.row.rounds:
                conversion = next(conversions(model, spec, variant))
                model, casts = conversion.model, conversion.casts
            path = Path(folder) / "model.onnx"
            save_onnx(model, path)
            rows.append(measure(variant, path, casts, reference, photos))
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": describe_machine(), "checkpoint": loaded.path.name, "sha256": loaded.sha256, "rows": rows}
    (RESULTS / "islands.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(rows))


def measure(variant: Variant, path: Path, casts: int, reference: Reference, photos: set[str]) -> dict[str, Any]:
    """The figures of one file: on photos, and the worst over all cases."""
    with RoundedRunner(path, ranges=True) as runner:
        report = verify(reference, runner.run, variant.precision)
    on_photos = [result.figures for result in report.results if result.case.rpartition(" ")[0] in photos]
    ranges = runner.headroom() if variant.row.rounds else {}
    return {
        "variant": describe(variant),
        "photos_max_abs": max(figures.max_abs for figures in on_photos),
        "photos_psnr": min(figures.psnr for figures in on_photos),
        "all_max_abs": report.overall.max_abs,
        "all_psnr": report.overall.psnr,
        "passed": report.passed,
        "bytes": path.stat().st_size,
        "casts": casts,
        "largest_activation": ranges.get("largest"),
        "headroom": ranges.get("headroom"),
    }


def describe(variant: Variant) -> str:
    """Precision, islands, and what differs from the defaults."""
    islands = f", islands {variant.islands}" if variant.row.rounds else ""
    ends = ", fp16 ends" if variant.io == "fp16" else ""
    ffn = ", FFN as 1x1 convolutions" if variant.ffn == "conv1x1" else ""
    return f"{variant.precision}{islands}{ends}{ffn}"


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the README; errors in 8-bit levels."""
    header = ["", "photos: worst level", "PSNR, dB", "all cases: worst level", "PSNR, dB", "KB", "of fp32", "casts"]
    full = rows[0]["bytes"]
    cells = [
        [
            str(row["variant"]),
            f"{row['photos_max_abs'] * 255:.3f}",
            f"{row['photos_psnr']:.1f}",
            f"{row['all_max_abs'] * 255:.3f}",
            f"{row['all_psnr']:.1f}",
            f"{row['bytes'] / 1e3:.0f}",
            f"{row['bytes'] / full:.0%}",
            str(row["casts"]),
        ]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells])


if __name__ == "__main__":
    main()
