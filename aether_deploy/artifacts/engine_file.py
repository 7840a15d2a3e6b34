"""Checkpoint -> proved ONNX -> engine, both published together or not at all."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aether_deploy.engines.build import BuildResult, build_engine
from aether_deploy.engines.execution import prove_engine, runs_here
from aether_deploy.engines.gpus import Driver, read_driver
from aether_deploy.engines.header import SUFFIX
from aether_deploy.engines.memory import describe_bytes
from aether_deploy.engines.plan import EnginePlan
from aether_deploy.engines.process import FLAVOURS
from aether_deploy.files import staging
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import Manifest

if TYPE_CHECKING:
    from aether_deploy.artifacts.model import Artifact, Source, Target
    from aether_deploy.proof.verdict import ParityReport

__all__ = ["engine_name", "export_engine"]

logger = logging.getLogger(__name__)


def export_engine(source: Source, target: Target, export_onnx: Callable[[Source, Target], Artifact]) -> Artifact:
    """Makes the ONNX file, proves it, builds, reads back, and runs the engine if the GPU for it is here.

    The ONNX file stays beside the engine: an engine lives as long as its TensorRT version and its GPU, the
    file it comes from builds the next one.

    Args:
        source: see there.
        target: the engine's; its `engine` and `onnx` are given.
        export_onnx: writes and proves the ONNX file of a target.
    Raises:
        EngineError: the build or the engine fails; no file is left but TensorRT's log.
        ParityError: the ONNX file or the engine is not the network as it was trained.
    """
    from aether_deploy.artifacts.model import Artifact, Target

    plan, onnx, name = target.engine, target.onnx, target.path.name
    assert plan is not None and onnx is not None
    driver = read_driver()
    with staging(target.path.parent) as folder:
        known = source.proved.get(plan.variant)
        proved = known or export_onnx(source, Target("onnx", plan.variant, folder / onnx.name, target.options))
        engine = folder / name
        logger.info("building %s, about %s of activations", name, _largest(plan))
        log = target.path.with_name(f"{name}.log")
        built = build_engine(proved.path, engine, plan.request, log=log)
        described = manifest.describe_artifact(engine, "engine")
        written = _manifest(source, plan, proved, built, described)
        written.write(engine)
        report = proved.report
        if runs_here(plan.request, driver):
            report, measured = prove_engine(engine, plan.request, source.checkpoint, source.reference, name=name)
            report.require(name)
            written = _executed(written, report, measured, driver)
            written.write(engine)
        # The ONNX file, unless it is there already, both manifests, and the cache of kernels that a run left.
        for file in sorted(folder.iterdir()):
            file.replace(target.path.with_name(file.name))
        log.unlink(missing_ok=True)
    source.proved.setdefault(plan.variant, dataclasses.replace(proved, path=onnx))
    return Artifact(target, target.path, report, written)


def _largest(plan: EnginePlan) -> str:
    most = {which: max(item[which] for item in plan.memory) for which in ("opt", "max")}
    return " and ".join(f"{describe_bytes(count)} at {which}" for which, count in most.items())


def _manifest(
    source: Source, plan: EnginePlan, proved: Artifact, built: BuildResult, artifact: dict[str, Any]
) -> Manifest:
    """Of an engine that was not run: it says so, and what is proved is the ONNX file."""
    request = plan.request
    onnx = proved.manifest
    profiles = [
        {**profile.as_dict(), "activation_bytes": memory}
        for profile, memory in zip(request.profiles, plan.memory, strict=True)
    ]
    return Manifest(
        artifact=artifact,
        source=onnx.source,
        network=onnx.network,
        parity=None,
        precision=onnx.precision,
        io=onnx.io,
        ffn=onnx.ffn,
        opset=onnx.opset,
        shapes=request.profiles[0].as_dict(),
        fp32_islands=onnx.fp32_islands,
        engine={
            "flavour": request.flavour,
            "version": built.version,
            "compute_capabilities": [str(item) for item in request.capabilities],
            "profiles": profiles,
            "workspace": request.workspace,
            "build_seconds": built.seconds,
            "network": built.network,
            "header": built.header.as_dict(),
            "onnx": {**onnx.artifact, "parity": onnx.parity},
            "executed": False,
        },
        tools={**onnx.tools, **manifest.tool_versions("polygraphy"), FLAVOURS[request.flavour].module: built.version},
        created=manifest.utc_now(),
    )


def _executed(written: Manifest, report: ParityReport, measured: dict[str, Any], driver: Driver) -> Manifest:
    gpu = driver.current
    assert gpu is not None
    ran_on = {"gpu": gpu.name, "compute_capability": str(gpu.capability), "cuda": driver.cuda}
    engine = {**written.engine, "executed": True, "device": ran_on, **measured}
    return dataclasses.replace(written, parity=report.as_dict(), engine=engine)


def engine_name(stem: str, plan: EnginePlan) -> str:
    """`2x_Name_fp16_trtrtx1.7_sm86+sm89.engine`; what differs from the default follows."""
    return f"{stem}_{plan.variant.precision}_{plan.tag}{plan.variant.tags}{SUFFIX}"
