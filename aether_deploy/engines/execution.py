"""Reloads an engine from disk and runs it on the GPU in this machine, against the network as it was trained."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Array, Shape
from aether_deploy.engines.build import BuildRequest
from aether_deploy.engines.gpus import Driver
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.runner import EngineRunner
from aether_deploy.proof.cases import Case
from aether_deploy.proof.verdict import ParityReport, Reference, capture, verify

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.proof.manifest import Manifest

__all__ = ["prove_engine", "runs_here"]

logger = logging.getLogger(__name__)

# Runs: enough for a p99 at 256x256; a few seconds at 1080p.
LATENCY_RUNS = {"opt": 200, "max": 50}


def runs_here(request: BuildRequest, driver: Driver) -> bool:
    """Whether the engine is for the GPU in this machine."""
    return driver.current is not None and driver.current.capability in request.capabilities


def prove_engine(
    engine: Path, manifest: Manifest, request: BuildRequest, checkpoint: Checkpoint, reference: Reference, *, name: str
) -> tuple[ParityReport, dict[str, Any]]:
    """Runs the reference's cases that fit, and noise at min, opt, max and an odd size; then measures.

    Args:
        engine: the file.
        manifest: of the engine.
        request: that the engine was built from.
        checkpoint: the network as it was trained, for shapes that are not in the reference.
        reference: captured from that network on the CPU.
        name: of the engine, shown with the progress.
    Returns:
        (the report by the gate of the engine's precision, {latency in ms, device_memory in bytes}).
    Raises:
        EngineError: the engine does not load or run.
    """
    with EngineRunner(engine, manifest) as runner:
        wanted = _extended(reference, request, checkpoint)
        report = verify(wanted, runner.run, request.variant.precision, what=name)
        measured = {"latency": _latencies(runner, request), "device_memory": runner.about["device_memory"]}
    return report, measured


def _extended(reference: Reference, request: BuildRequest, checkpoint: Checkpoint) -> Reference:
    """The cases of the reference that the profiles take, and noise at each profile's own shapes."""
    fitting = reference.fitting(lambda shape: any(profile.takes(shape) for profile in request.profiles))
    rng = np.random.default_rng(1)
    shapes = dict.fromkeys(shape for profile in request.profiles for shape in (*profile.shapes, _odd(profile)))
    noises = [Case("noise", rng.random(shape, dtype=np.float32), drawn=True) for shape in shapes]
    added = capture(_on_gpu(checkpoint), noises)
    return dataclasses.replace(
        fitting, cases=(*fitting.cases, *added.cases), outputs=(*fitting.outputs, *added.outputs)
    )


def _odd(profile: Profile) -> Shape:
    """The shape with the odd size 37x53, or the nearest that the profile takes."""
    height, width = (
        min(max(size, low), high) for size, low, high in zip((37, 53), profile.min[2:], profile.max[2:], strict=True)
    )
    return (profile.min[0], profile.min[1], height, width)


def _on_gpu(checkpoint: Checkpoint) -> Callable[[Array], Array]:
    """The unfused network in torch float32 on the GPU, or on the CPU if torch cannot use it; no TF32."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = checkpoint.build().to(device)

    def run(lr: Array) -> Array:
        matmul = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, False
        try:
            with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
                output: Array = network(torch.from_numpy(lr).to(device)).cpu().numpy()
        finally:
            matmul.allow_tf32 = before
        return output

    return run


def _latencies(runner: EngineRunner, request: BuildRequest) -> list[dict[str, Any]]:
    measured = []
    for profile in request.profiles:
        for which, shape in (("opt", profile.opt), ("max", profile.max)):
            logger.info("measuring %s", "x".join(map(str, shape)))
            measured.append({"shape": list(shape), **runner.measure(shape, LATENCY_RUNS[which])})
    return measured
