"""One small protocol over everything that can run the network: `run(lr) -> sr`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import RunnerError
from aether_deploy.onnx_runner import OnnxRunner
from aether_deploy.torch_runner import TorchRunner, torch_device

if TYPE_CHECKING:
    from aether_deploy.spec import NetworkSpec

__all__ = ["DEVICES", "PROVIDERS", "Runner", "open_runner"]

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]


DEVICES = ("auto", "cpu", "cuda", "tensorrt")

# What `auto` tries, in order. TensorRT is by request only: its provider builds an engine for every new shape.
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}
_AUTO = ("cuda", "cpu")


class Runner(Protocol):
    """Something that upscales.

    Attributes:
        name: of the runtime, precision and device that really run, for people.
        in_chans: C, channels of input and output.
        scale: output pixels for each input pixel, along one side.
        precision: the row of the tolerance table that it is judged by.
        static: the only (N, C, H, W) that it takes; None if any.
        spec: the network; None where the file does not say.
        device: `cpu` or `cuda`, whose memory it needs.
    """

    name: str
    in_chans: int
    scale: int
    precision: str
    static: tuple[int, int, int, int] | None
    spec: NetworkSpec | None
    device: str

    def run(self, lr: Array) -> Array:
        """(N, C, H, W) float32 RGB in [0, 1] -> (N, C, scale*H, scale*W), not clamped.

        Raises:
            OutOfMemoryError: a smaller input may run.
        """
        ...


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
    from aether_deploy.checkpoint import SUFFIXES
    from aether_deploy.engines.file import SUFFIX as ENGINE_SUFFIX

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
        from aether_deploy.half_executor import HalfRunner, half_precision_of

        # The CPU provider has no bf16 convolution; asked only now, since this imports torch.
        if half_precision_of(path) != "bf16":
            raise
        return HalfRunner(path)


def _open_checkpoint(path: Path, device: str, threads: int | None) -> TorchRunner:
    import torch

    from aether_deploy.checkpoint import load_checkpoint

    if device == "tensorrt":
        raise RunnerError(f"{path}: a checkpoint runs in PyTorch, on cpu or cuda; export it for TensorRT")
    device = torch_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRunner.from_checkpoint(load_checkpoint(path), device=device)
