"""The memory that an engine's activations need, bisected without a GPU, beside the estimate of `activation_bytes`.

A build fails if its workspace is smaller than the largest shape needs, so the smallest workspace that builds is that
need. TensorRT-RTX only; each row takes about half a minute.

    python -m benchmarks.engine_memory [--json]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir

from aether_deploy.engines.build import BuildRequest, build_engine
from aether_deploy.engines.memory import GIB, MIB, activation_bytes
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.targets import SM75, parse_gpus
from aether_deploy.errors import EngineError
from aether_deploy.network.aether import read_spec
from aether_deploy.network.definition import arch
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant

SHAPE = (1, 3, 256, 256)
PRECISION = 0.005

# The presets with fewer blocks, which does not change the need, and networks of similar D, blocks per stage, ratio and
# kernel.
NETWORKS: tuple[dict[str, Any], ...] = (
    {"embed_dim": 32, "depths": (2, 2), "scale": 2},
    {"embed_dim": 96, "depths": (4, 4, 4, 4), "scale": 2},
    {"embed_dim": 128, "depths": (6, 6), "scale": 2},
    {"embed_dim": 180, "depths": (2, 2), "mlp_ratio": 2.5, "lk_kernel": 13, "scale": 2},
    {"embed_dim": 256, "depths": (1,), "scale": 2},
    {"embed_dim": 96, "depths": (1, 1), "scale": 1},
    {"embed_dim": 96, "depths": (1, 1), "scale": 3},
    {"embed_dim": 96, "depths": (1, 1), "scale": 4},
    {"embed_dim": 180, "depths": (1, 1), "mlp_ratio": 2.5, "lk_kernel": 13, "scale": 4},
    {"embed_dim": 96, "depths": (1, 1), "scale": 8},
)
FORMS = (("fp32", "sm86"), ("fp16", "sm86"), ("fp32", "sm75"), ("fp16", "sm75"))


def rows() -> Iterator[dict[str, Any]]:
    """A row for each network, precision and target."""
    with tempfile.TemporaryDirectory() as folder:
        for options in NETWORKS:
            network = arch.AetherNet(fused_init=True, **options).eval()
            spec = read_spec(network.state_dict())
            for precision, gpu in FORMS:
                variant = Variant(precision, ffn="conv1x1" if gpu == "sm75" else "linear")
                ir.save(onnx_model(network, spec, variant), Path(folder) / "x.onnx")
                need = _bisect(Path(folder), variant, gpu)
                estimate = activation_bytes(spec, precision, SHAPE, turing=gpu == str(SM75))
                pixels = SHAPE[2] * SHAPE[3]
                yield {
                    "embed_dim": spec.embed_dim,
                    "hidden": spec.hidden,
                    "scale": spec.scale,
                    "precision": precision,
                    "gpu": gpu,
                    "bytes_a_pixel": round(need / pixels),
                    "estimate": round(estimate / pixels),
                    "ratio": round(estimate / need, 2),
                }


def _bisect(folder: Path, variant: Variant, gpu: str) -> int:
    low, high = MIB, 8 * GIB
    profile = Profile((1, 3, 32, 32), SHAPE, SHAPE)
    while high - low > PRECISION * low:
        middle = int((low * high) ** 0.5)
        request = BuildRequest("tensorrt-rtx", (profile,), parse_gpus([gpu]), variant, workspace=middle)
        try:
            build_engine(folder / "x.onnx", folder / "x.engine", request)
            high = middle
        except EngineError as error:
            if "out of memory" not in str(error):
                raise
            low = middle
    return high


def main() -> None:
    """Prints each row as soon as it is measured."""
    for row in rows():
        if "--json" in sys.argv[1:]:
            print(json.dumps(row), flush=True)
        else:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
