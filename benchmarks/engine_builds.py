"""How long TensorRT-RTX engines take to build without a GPU, and how large they are.

    python -m benchmarks.engine_builds

Random weights, each with its default profile; prints a Markdown table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from aether_deploy.engines.build import BuildRequest, build_engine
from aether_deploy.engines.profiles import default_profile
from aether_deploy.engines.targets import SM75, parse_gpus
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.network.aether import read_spec
from aether_deploy.network.definition import arch
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant

NETWORKS = (("aether_small", 2), ("aether_small", 4), ("aether_medium", 2), ("aether_large", 2))
TARGETS = ("sm86,sm89,sm120", "sm75")


def rows() -> Iterator[str]:
    """A line of the table for each network, precision and target."""
    with tempfile.TemporaryDirectory() as folder:
        onnx, engine = Path(folder) / "x.onnx", Path(folder) / "x.engine"
        for name, scale in NETWORKS:
            network = getattr(arch, name)(scale=scale, fused_init=True).eval()
            spec = read_spec(network.state_dict())
            for targets in TARGETS:
                capabilities = parse_gpus([targets])
                turing = SM75 in capabilities
                for precision in ("fp32", "fp16"):
                    variant = Variant(precision, ffn="conv1x1" if turing else "linear")
                    save_onnx(onnx_model(network, spec, variant), onnx)
                    profile = default_profile(spec, precision, turing=turing)
                    request = BuildRequest("tensorrt-rtx", (profile,), capabilities, variant)
                    built = build_engine(onnx, engine, request)
                    size = "x".join(map(str, reversed(profile.max[2:])))
                    figures = f"{size} | {engine.stat().st_size / 1e6:.1f} | {built.seconds:.1f}"
                    yield f"| {name} x{scale} | {precision} | {targets} | {figures} |"


def main() -> None:
    """Prints the table, line by line as it is measured."""
    print("| network | precision | targets | largest frame | engine, MB | build, s |\n|---|---|---|---|---|---|")
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
