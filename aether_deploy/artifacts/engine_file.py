"""The TensorRT engine as a format: built from a proved ONNX file, read back, and published with it or not at all."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts import onnx_file
from aether_deploy.artifacts.formats import FORMATS, Finding, Format, KnownFile
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.artifacts.opening import known_file
from aether_deploy.engines.build import BuildResult, build_engine
from aether_deploy.engines.execution import prove_engine, runs_here
from aether_deploy.engines.gpus import Driver, read_driver
from aether_deploy.engines.header import read_header
from aether_deploy.engines.memory import describe_bytes
from aether_deploy.engines.plan import EnginePlan, plan_engine
from aether_deploy.engines.process import FLAVOURS, tensorrt_version
from aether_deploy.errors import EngineError, RunnerError
from aether_deploy.files import publish, staging
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import EngineRecord, Manifest
from aether_deploy.proof.verdict import verify
from aether_deploy.runners.devices import Device, device_of

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.precisions.variant import Variant
    from aether_deploy.proof.reference import Trained
    from aether_deploy.runners.protocol import Runner

__all__ = ["describe", "export", "findings", "open_file", "plan", "prove"]

logger = logging.getLogger(__name__)


def plan(row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
    """`2x_Name_fp16_trtrtx1.7_sm86+sm89.engine`, then what differs from the defaults; see `FormatModule.plan`."""
    engine = plan_engine(row.name, spec, variant, options.engine, version=tensorrt_version(row.name))
    onnx = onnx_file.plan(FORMATS["onnx"], spec, engine.variant, options, stem)
    name = f"{stem.name}_{engine.variant.precision}_{engine.tag}{engine.variant.tags}{row.suffixes[0]}"
    return Target(row.name, engine.variant, stem.with_name(name), engine, onnx)


def export(source: Source, target: Target) -> Artifact:
    """Makes and proves the ONNX file, builds the engine, reads it back, and runs it if its GPU is in this machine.

    The ONNX file stays beside the engine: an engine lasts as long as its TensorRT version and its GPU; the file that it
    was built from builds the next one.

    Raises:
        EngineError: the build or the engine fails; only TensorRT's log is left.
        ParityError: the ONNX file or the engine is not the network as it was trained.
    """
    plan, name = target.engine, target.path.name
    assert plan is not None and target.onnx is not None
    driver = read_driver()
    with staging(target.path.parent) as folder:
        proved = source.proved.get(plan.variant) or onnx_file.write_onnx(source, target.onnx, folder)
        onnx = proved.path if plan.variant in source.proved else folder / proved.path.name
        engine = folder / name
        logger.info("building %s, about %s of activations", name, _largest(plan))
        log = target.path.with_name(f"{name}.log")
        built = build_engine(onnx, engine, plan.request, log=log)
        written = _manifest(plan, proved, built, manifest.describe_artifact(engine, "engine"))
        written.write(engine)
        report = proved.report
        if runs_here(plan.request, driver):
            report, measured = prove_engine(
                engine, written, plan.request, source.checkpoint, source.reference, name=name
            )
            report.require(name)
            written = _executed(written, report.as_dict(), measured, driver)
            written.write(engine)
        publish(folder, target.path.parent)
        log.unlink(missing_ok=True)
    source.proved.setdefault(plan.variant, proved)
    return Artifact(target, target.path, report, written)


def _largest(plan: EnginePlan) -> str:
    most = {which: max(item[which] for item in plan.memory) for which in ("opt", "max")}
    return " and ".join(f"{describe_bytes(count)} at {which}" for which, count in most.items())


def _manifest(plan: EnginePlan, proved: Artifact, built: BuildResult, artifact: dict[str, Any]) -> Manifest:
    """The manifest of an engine that was not run; it says so, and that the proof is the ONNX file's."""
    request, onnx = plan.request, proved.manifest
    profiles = [
        {**profile.as_dict(), "activation_bytes": memory}
        for profile, memory in zip(request.profiles, plan.memory, strict=True)
    ]
    return dataclasses.replace(
        onnx,
        artifact=artifact,
        parity=None,
        shapes=request.profiles[0].as_dict(),
        weights={},
        activations={},
        engine=EngineRecord(
            flavour=request.flavour,
            version=built.version,
            compute_capabilities=[str(item) for item in request.capabilities],
            profiles=profiles,
            workspace=request.workspace,
            build_seconds=built.seconds,
            network=built.network,
            header=built.header.as_dict(),
            onnx={**onnx.artifact, "parity": onnx.parity},
        ),
        tools={**onnx.tools, **manifest.tool_versions("polygraphy"), FLAVOURS[request.flavour].module: built.version},
        created=manifest.utc_now(),
    )


def prove(file: KnownFile, trained: Trained) -> Manifest:
    """The engine where its GPU is; else the ONNX file that it was built from. See `FormatModule.prove`."""
    assert file.manifest is not None and file.manifest.engine is not None  # the caller's part
    engine, variant = file.manifest.engine, file.manifest.variant
    gpu = read_driver().current
    if gpu is not None and str(gpu.capability) in engine.compute_capabilities:
        reference = trained.of(variant)
        with open_file(file, device=None, threads=None, trust=False, faithful=False) as runner:
            report = verify(reference.fitting(runner.takes), runner.run, variant.precision, what=file.path.name)
        report.require(file.path.name)
        return dataclasses.replace(file.manifest, parity=report.as_dict())
    onnx = known_file(file.path.with_name(engine.onnx["file"]))
    if onnx.sha256 != engine.onnx["sha256"] or onnx.manifest is None:
        raise EngineError(f"{onnx.path}: not the file that {file.path.name} was built from; export it again")
    proved = onnx_file.prove(onnx, trained)
    return dataclasses.replace(
        file.manifest, engine=dataclasses.replace(engine, onnx={**engine.onnx, "parity": proved.parity})
    )


def _executed(written: Manifest, parity: dict[str, Any], measured: dict[str, Any], driver: Driver) -> Manifest:
    gpu = driver.current
    assert gpu is not None and written.engine is not None
    ran_on = {"gpu": gpu.name, "compute_capability": str(gpu.capability), "cuda": driver.cuda}
    return dataclasses.replace(
        written, parity=parity, engine=dataclasses.replace(written.engine, executed=True, device=ran_on, **measured)
    )


def open_file(file: KnownFile, *, device: str | None, threads: int | None, trust: bool, faithful: bool) -> Runner:
    """Opens the engine on the GPU in this machine.

    Raises:
        RunnerError: anything but a GPU of NVIDIA's is requested.
        EngineError: see `EngineRunner`.
    """
    chosen = device_of(device) if device else Device("auto")
    if not chosen.nvidia and chosen.name != "auto":
        raise RunnerError(
            f"{file.path}: an engine for --device {chosen}; it runs only on the GPU that it was built for: leave "
            "--device out, or give the ONNX file that it was built from"
        )
    from aether_deploy.engines.runner import EngineRunner

    return EngineRunner(file.path, file.manifest, trust=trust, gpu=chosen.index)


def describe(file: KnownFile, *, reading: dict[str, Any]) -> dict[str, Any]:
    """Header, targets and profiles, and whether the engine can be loaded here; works without TensorRT.

    Raises:
        EngineError: the file is not an engine, or is cut off.
    """
    header = read_header(file.path)
    engine = file.manifest.engine if file.manifest else None
    flavour = engine.flavour if engine else "tensorrt-rtx" if header.version else "tensorrt"
    built_by = engine.version if engine else header.version
    try:
        installed = tensorrt_version(flavour)
    except EngineError as error:
        installed = str(error)
    if installed == built_by:
        installed += ", the version that built it"
    found: dict[str, Any] = {
        "flavour": FLAVOURS[flavour].title,
        "version": built_by or "unknown",
        "installed": installed,
        "targets": (engine and engine.compute_capabilities) or list(map(str, header.capabilities)) or "unknown",
        "header": header.as_dict(),
    }
    if file.manifest and engine:
        what, parity = file.manifest.proof
        assert parity is not None  # an engine is built from a proved file
        found |= {
            "network": file.manifest.network,
            "precision": file.manifest.variant.precision,
            "profiles": engine.profiles,
            "executed": engine.executed,
            "built_from": engine.onnx["file"],
            "proved": f"{what}, max abs error {parity['figures']['max_abs']:.1e}",
        }
    return found


def findings(row: Format) -> Sequence[Finding]:
    """Whether this flavour of TensorRT can be imported, and Polygraphy with it."""
    flavour = FLAVOURS[row.name]
    logger.info(flavour.title)
    try:
        version = tensorrt_version(flavour.name)
    except EngineError as error:
        return [Finding("flavour", flavour.title, False, str(error), flavour.install)]
    if "polygraphy" not in manifest.tool_versions("polygraphy"):
        return [Finding("flavour", flavour.title, False, f"{version}, without polygraphy", flavour.install)]
    return [Finding("flavour", flavour.title, True, f"{version}, --format {flavour.name}")]
