"""ONNX -> TensorRT engine, for GPUs that may not even be here; built in a process of its own.

from aether_deploy.engines.build import BuildRequest, build_engine

build_engine(Path("2x_Name_fp16_op20.onnx"), Path("out.engine"), BuildRequest("tensorrt-rtx", profiles, capabilities))
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aether_deploy.engines.header import EngineHeader, read_header
from aether_deploy.engines.log import OUT_OF_MEMORY, explain, last_errors
from aether_deploy.engines.memory import describe_bytes
from aether_deploy.engines.process import FLAVOURS, EngineProcess, RefusedError
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.targets import ComputeCapability, check_rtx
from aether_deploy.errors import EngineError

__all__ = ["BuildRequest", "BuildResult", "build_engine", "translated"]

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": "FLOAT", "fp16": "HALF"}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """How to build.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        profiles: at least one.
        capabilities: the GPUs that an RTX engine is for; a plan is for the GPU that is here.
        precision: of the ONNX, which decides it; fp16 is refused unless it is in the network.
        io: fp32 or fp16, the types at both ends of the ONNX.
        ffn: the FFN's form in the ONNX.
        workspace: the most bytes of activation memory, None for all that there is.
        estimates: bytes that each profile's opt and max shape are expected to need.
    """

    flavour: str
    profiles: tuple[Profile, ...]
    capabilities: tuple[ComputeCapability, ...] = ()
    precision: str = "fp32"
    io: str = "fp32"
    ffn: str = "linear"
    workspace: int | None = None
    estimates: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built.

    Attributes:
        network: ends, layers, types of all tensors and typing, read back from the parsed network.
        header: of the file.
        seconds: of the build.
        version: of TensorRT.
    """

    network: dict[str, Any]
    header: EngineHeader
    seconds: float
    version: str


def build_engine(
    onnx: Path, engine: Path, request: BuildRequest, *, name: str | None = None, log: Path | None = None
) -> BuildResult:
    """Builds, and reads back what can be read without a GPU: the network, the header, size and targets.

    Args:
        onnx: a proved file.
        engine: to write; the caller's temporary file.
        request: see there.
        name: of the engine in messages, where `engine` is temporary.
        log: where TensorRT's log goes if the build fails; `<engine>.log` by default.
    Raises:
        EngineError: refused before or by the build.
    """
    name = name or engine.name
    log = log or engine.with_name(f"{engine.name}.log")
    if not request.profiles:
        raise EngineError(f"{name}: no profile; without one TensorRT would build for 1x1 pixels only")
    if request.flavour == "tensorrt-rtx":
        check_rtx(request.capabilities, ffn=request.ffn)
    # A process for each build: after a failed one, another in the same process has been seen to fail too.
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
        log: where TensorRT's whole log is then written.
        request: of a build, for the advice on memory.
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
    """Compares what was built with what was asked for; TensorRT fails silently in several ways."""
    expected = _DTYPES[request.io if request.precision != "fp32" else "fp32"]
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
    if request.precision == "fp16" and not network["types"].get("HALF"):
        raise EngineError(f"{name}: no tensor of the network is fp16; give the ONNX file of --precision fp16")
    wanted = tuple(sorted(request.capabilities))
    title = FLAVOURS[request.flavour].title
    if header.version and header.version != version:
        raise EngineError(f"{name}: its header says {header.version}, but {title} {version} built it")
    if request.flavour == "tensorrt-rtx" and header.capabilities != wanted:
        seen = ", ".join(map(str, header.capabilities))
        raise EngineError(f"{name}: its header says {seen}, asked for was {', '.join(map(str, wanted))}")
