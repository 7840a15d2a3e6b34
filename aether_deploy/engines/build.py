"""ONNX -> TensorRT engine, for GPUs that need not be in this machine; built in a process of its own.

from aether_deploy.engines.build import BuildRequest, build_engine

build_engine(Path("2x_Name_fp16_op20.onnx"), Path("out.engine"), BuildRequest("tensorrt-rtx", profiles, capabilities))
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aether_deploy.engines.header import EngineHeader, read_header
from aether_deploy.engines.log import OUT_OF_MEMORY, explain, last_errors
from aether_deploy.engines.memory import describe_bytes
from aether_deploy.engines.process import FLAVOURS, EngineProcess, RefusedError
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.targets import ComputeCapability, check_rtx
from aether_deploy.errors import EngineError
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant

__all__ = ["BuildRequest", "BuildResult", "build_engine", "translated"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """How to build an engine.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        profiles: at least one.
        capabilities: the GPUs that an RTX engine is for; a plan is for the GPU in this machine.
        variant: the form of the ONNX file, which determines the precision; a network without it is refused.
        workspace: limit of activation memory in bytes; None for all the memory there is.
        estimates: (opt, max) bytes of activation memory that each profile's shapes are expected to need.
    """

    flavour: str
    profiles: tuple[Profile, ...]
    capabilities: tuple[ComputeCapability, ...] = ()
    variant: Variant = field(default_factory=Variant)
    workspace: int | None = None
    estimates: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built.

    Attributes:
        network: inputs, outputs, layers, tensor types and typing, read back from the parsed network.
        header: of the file.
        seconds: that the build took.
        version: of TensorRT.
    """

    network: dict[str, Any]
    header: EngineHeader
    seconds: float
    version: str


def build_engine(
    onnx: Path, engine: Path, request: BuildRequest, *, name: str | None = None, log: Path | None = None
) -> BuildResult:
    """Builds an engine, and reads back what can be read without a GPU: the network, header, size and targets.

    Args:
        onnx: a proved file.
        engine: the file to write, a temporary one of the caller's.
        request: shapes, GPUs, precision and memory.
        name: of the engine in messages, where `engine` is temporary.
        log: the file for TensorRT's log if the build fails; `<engine>.log` by default.
    Raises:
        EngineError: the request was refused, the build failed, or the result is not what was requested.
    """
    name = name or engine.name
    log = log or engine.with_name(f"{engine.name}.log")
    if not request.profiles:
        raise EngineError(f"{name}: no profile; without one TensorRT would build for 1x1 pixels only")
    if request.flavour == "tensorrt-rtx":
        check_rtx(request.capabilities, ffn=request.variant.ffn)
    # One process per build: after a failed build, the next in the same process has been seen to fail too.
    with EngineProcess(request.flavour) as process:
        version = str(process.ask("about")[0]["version"])
        with translated(name, log=log, request=request):
            answer, _ = process.ask("build", progress=_report, **_as_json(onnx, engine, request))
    header = read_header(engine, name=name)
    _check_built(name, request, answer["network"], header, version)
    return BuildResult(answer["network"], header, answer["seconds"], version)


@contextlib.contextmanager
def translated(what: str, *, log: Path | None = None, request: BuildRequest | None = None) -> Iterator[None]:
    """Turns a refusal by TensorRT into one line: what it means, its last errors, and where its log is.

    Args:
        what: the engine's name.
        log: the file for TensorRT's whole log; None writes none.
        request: of a build, for advice on memory.
    Raises:
        EngineError: for each `RefusedError`.
    """
    try:
        yield
    except RefusedError as refusal:
        text = f"{refusal.log}\n{refusal}"
        meaning = explain(text) or str(refusal).splitlines()[0]
        if meaning == OUT_OF_MEMORY and request is not None:
            meaning = _out_of_memory(request)
        said = "; ".join(last_errors(refusal.log, count=2))
        parts = [f"{what}: {meaning}"]
        if said:
            parts.append(f" (TensorRT: {said})")
        if log is not None:
            log.write_text(refusal.log, encoding="utf-8")
            parts.append(f"; the whole log is {log}")
        raise EngineError("".join(parts)) from refusal


def _as_json(onnx: Path, engine: Path, request: BuildRequest) -> dict[str, Any]:
    rtx = request.flavour == "tensorrt-rtx"
    return {
        "onnx": str(onnx.resolve()),
        "engine": str(engine.resolve()),
        "profiles": [profile.as_dict() for profile in request.profiles],
        "capabilities": [[item.major, item.minor] for item in request.capabilities] if rtx else [],
        "workspace": request.workspace,
    }


def _report(phase: str, fraction: float) -> None:
    logger.info("building: %s", phase, extra={"fraction": fraction})


def _out_of_memory(request: BuildRequest) -> str:
    largest = max(request.profiles, key=lambda profile: math.prod(profile.max))
    shape = "x".join(map(str, largest.max))
    estimate = max((at_max for _, at_max in request.estimates), default=0)
    had = f"--workspace allows {describe_bytes(request.workspace)}" if request.workspace else "the machine has less"
    need = f"about {describe_bytes(estimate)}" if estimate else "more memory"
    return (
        f"out of memory: {shape} needs {need}, {had}; lower --max-shape and let upscale --tile do larger frames, "
        "raise --workspace, or take --precision fp16"
    )


def _check_built(name: str, request: BuildRequest, network: dict[str, Any], header: EngineHeader, version: str) -> None:
    """Compares the result with the request; TensorRT fails silently in several ways."""
    variant = request.variant
    expected = PRECISIONS[variant.io].tensorrt
    channels = request.profiles[0].opt[1]
    for end, tensors in (("input", network["inputs"]), ("output", network["outputs"])):
        tensor = tensors[0]
        if (tensor["name"], tensor["dtype"], tensor["shape"][1]) != (end, expected, channels):
            raise EngineError(
                f"{name}: its {end} is {tensor['name']} {tensor['dtype']} {tensor['shape']}, expected {end} {expected} "
                f"with {channels} channels; export the ONNX file again"
            )
    if not network["strongly_typed"]:
        raise EngineError(f"{name}: the network is weakly typed, so its precision would be TensorRT's choice")
    if not network["types"].get(variant.row.tensorrt):
        raise EngineError(
            f"{name}: no tensor of the network is {variant.precision}; give the ONNX file of "
            f"--precision {variant.precision}"
        )
    wanted = tuple(sorted(request.capabilities))
    title = FLAVOURS[request.flavour].title
    if header.version and header.version != version:
        raise EngineError(f"{name}: its header says {header.version}, but {title} {version} built it")
    if request.flavour == "tensorrt-rtx" and header.capabilities != wanted:
        seen = ", ".join(map(str, header.capabilities))
        raise EngineError(f"{name}: its header says {seen}, expected {', '.join(map(str, wanted))}")
