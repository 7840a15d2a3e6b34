"""One network, run in every way, side by side; plain values for JSON."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.arrays import Shape
from aether_deploy.extras import ONNXRUNTIMES
from aether_deploy.files import scratch

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.timing.contender import Timing
    from aether_deploy.timing.gauges import Machine

__all__ = ["benchmark", "photo_input"]


def benchmark(
    models: tuple[Path, ...],
    shapes: tuple[Shape, ...],
    *,
    device: str,
    threads: int,
    rounds: int,
    warmup: int = 2,
    peers: bool = True,
) -> dict[str, Any]:
    """Measures, and returns plain values for JSON, whose keys name their units.

    Args:
        models: checkpoints or ONNX files of one network; the first contender of the first is the baseline.
        shapes: (N, C, H, W) of the inputs, which show a photo.
        device, threads, rounds, warmup: see `measure`.
        peers: see `prepare`.
    Raises:
        AetherDeployError: a model that cannot be read, exported or run.
    """
    from aether_deploy.artifacts.opening import known_file, open_known
    from aether_deploy.proof.manifest import tool_versions, utc_now
    from aether_deploy.runners.devices import PROVIDERS, device_of
    from aether_deploy.runners.onnx_runtime import require_provider
    from aether_deploy.runners.pytorch import torch_device
    from aether_deploy.timing.contender import Contender
    from aether_deploy.timing.contenders import prepare
    from aether_deploy.timing.gauges import gauged, gauges
    from aether_deploy.timing.measure import measure

    chosen = device_of(device)
    half = chosen.nvidia
    if half:
        # Fails before anything is exported for the device.
        torch_device(device)
        require_provider(PROVIDERS[chosen.name])
    files = [known_file(model) for model in models]
    with scratch("benchmark") as folder:
        contenders: list[Contender] = []
        for number, file in enumerate(files):
            place = folder / str(number)
            place.mkdir()
            contenders += prepare(file.path, place, half=half, peers=peers)
        beside = gauges(device, half=half)
        run = functools.partial(measure, device=device, threads=threads, rounds=rounds, warmup=warmup)
        timed = [(shape, run([*contenders, *beside], photo_input(shape))) for shape in shapes]
    count = len(contenders)
    machine = gauged([timing for _, timings in timed for timing in timings[count:]], device)
    with open_known(files[0]) as runner:
        # The fused network's, so that fusing counts as speed and not as work; None if unknown.
        spec = runner.spec.as_fused() if runner.spec else None
    return {
        "tools": tool_versions("torch", *ONNXRUNTIMES, "openvino", "numpy"),
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


def photo_input(shape: Shape) -> Any:
    """A packaged photo as (N, 3, H, W) float32 in [0, 1], cropped, or mirrored as often as needed."""
    from aether_deploy.pictures.images import list_images, read_image
    from aether_deploy.pictures.sizes import fitted
    from aether_deploy.samples import PHOTOS

    n, _, height, width = shape
    return fitted(read_image(list_images(PHOTOS)[0]), n, height, width)


def _row(timing: Timing, baseline: Timing, machine: Machine, spec: NetworkSpec | None, shape: Shape) -> dict[str, Any]:
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
        operations, moved = spec.flops(shape), spec.bytes_moved(shape, width_of_value=2 if contender.half else 4)
        peak = machine.roofline(operations, 0, half=contender.half)
        row["gflops"] = operations / timing.median / 1e9
        row["share_of_peak"] = peak / timing.median
        row["share_of_roofline"] = machine.roofline(operations, moved, half=contender.half) / timing.median
    return row
