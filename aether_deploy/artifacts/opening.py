"""One small protocol over everything that can run the network: `run(lr) -> sr`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
from google.protobuf.message import DecodeError

from aether_deploy.errors import RunnerError
from aether_deploy.graphs.types import DTYPES, HALF
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.protocol import PROVIDERS, Runner
from aether_deploy.runners.pytorch import TorchRunner, torch_device
from aether_deploy.runners.rounded import HalfRunner

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

if TYPE_CHECKING:
    pass

__all__ = ["half_precision_of", "open_faithful", "open_runner"]

logger = logging.getLogger(__name__)

_AUTO = ("cuda", "cpu")


def open_runner(path: Path, *, device: str | None = None, threads: int | None = None, trust: bool = False) -> Runner:
    """A checkpoint in PyTorch, an ONNX file in ONNX Runtime, an engine in TensorRT, by its suffix.

    bf16 runs on the CPU as `half_executor` does it.

    Args:
        path: the file; of a checkpoint, neosr's folder too.
        device: of `DEVICES`. `auto` is CUDA where it really loads, else the CPU, which is then logged. None is the
            CPU, but for an engine, which runs on the GPU and refuses `cpu`.
        threads: on the CPU; one a core by default.
        trust: load an engine that no manifest vouches for.
    Raises:
        RunnerError: a suffix that nothing here runs, or a device that is not there or cannot run it.
        CheckpointError: a checkpoint that cannot be read.
        EngineError, ManifestError: an engine that may not or cannot be loaded.
    """
    if path.suffix == ".onnx":
        if not path.is_file():
            raise RunnerError(f"{path}: not there; check the path")
        return _open_onnx(path, device or "cpu", threads)
    from aether_deploy.engines.header import SUFFIX as ENGINE_SUFFIX
    from aether_deploy.network.checkpoint import SUFFIXES

    if path.suffix == ENGINE_SUFFIX:
        if device == "cpu":
            raise RunnerError(
                f"{path}: an engine for --device cpu; it runs only on the GPU that it was built for: leave --device "
                "out, or give the ONNX file that it was built from"
            )
        from aether_deploy.engines.runner import EngineRunner

        return EngineRunner(path, trust=trust)
    if path.suffix in SUFFIXES or path.is_dir():
        return _open_checkpoint(path, device or "cpu", threads)
    raise RunnerError(
        f"{path}: no runner for {path.suffix or 'this'}; expected {', '.join(SUFFIXES)}, .onnx or .engine"
    )


def _open_onnx(path: Path, device: str, threads: int | None) -> Runner:
    import onnxruntime as ort

    if device not in ("auto", "cpu"):
        return OnnxRunner(path, provider=PROVIDERS[device], threads=threads)
    for name in _AUTO[:-1] if device == "auto" else ():
        if PROVIDERS[name] in ort.get_available_providers():
            try:
                return OnnxRunner(path, provider=PROVIDERS[name])
            except RunnerError as error:
                logger.warning("%s; the CPU runs it", error)
    try:
        return OnnxRunner(path, threads=threads)
    except RunnerError:
        from aether_deploy.artifacts.opening import half_precision_of
        from aether_deploy.runners.rounded import HalfRunner

        # The CPU provider has no bf16 convolution; asked only now, since this imports torch.
        if half_precision_of(path) != "bf16":
            raise
        return HalfRunner(path)


def _open_checkpoint(path: Path, device: str, threads: int | None) -> TorchRunner:
    import torch

    from aether_deploy.network.checkpoint import load_checkpoint

    if device == "tensorrt":
        raise RunnerError(f"{path}: a checkpoint runs in PyTorch, on cpu or cuda; export it for TensorRT")
    device = torch_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRunner.from_checkpoint(load_checkpoint(path), device=device)


def open_faithful(path: Path, *, device: str | None = None, trust: bool = False) -> Runner:
    """What a comparison runs: on the CPU `HalfRunner` for a half-precision ONNX file, else as `open_runner`.

    Args:
        path, device, trust: see there.
    Raises:
        RunnerError, CheckpointError: see there.
    """
    from aether_deploy.artifacts.opening import open_runner

    if not half_precision_of(path):
        return open_runner(path, device=device, trust=trust)
    provided = open_runner(path, device=device) if device not in (None, "cpu") else None
    return HalfRunner(path) if provided is None or provided.device == "cpu" else provided


def half_precision_of(path: Path) -> str | None:
    """fp16 or bf16 if that is what an ONNX file stores weights in; None for any other file."""
    if path.suffix != ".onnx":
        return None
    try:
        stored = {value.dtype for value in ir.load(path).graph.initializers.values()}
    except (OSError, ValueError, RuntimeError, DecodeError):
        return None  # open_runner says what is wrong with it
    return next((name for name in HALF if DTYPES[name] in stored), None)
