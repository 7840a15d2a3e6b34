"""One small protocol over everything that can run the network: `run(lr) -> sr`."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import OutOfMemoryError, RunnerError
from aether_deploy.parity import Reference, capture
from aether_deploy.parity_cases import parity_cases
from aether_deploy.pictures.images import parity_photos

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.checkpoint import Checkpoint
    from aether_deploy.spec import NetworkSpec

__all__ = ["DEVICES", "PROVIDERS", "OnnxRunner", "Runner", "TorchRunner", "capture_reference", "open_runner"]

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]


DEVICES = ("auto", "cpu", "cuda", "tensorrt")

# What `auto` tries, in order. TensorRT is by request only: its provider builds an engine for every new shape.
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}
_AUTO = ("cuda", "cpu")

# How the runtimes say that memory ran out; they have no exception of their own for it (torch on the CPU, and
# ONNX Runtime everywhere).
_OUT_OF_MEMORY = re.compile(r"failed to allocate|can't allocate|bad_?alloc|not enough memory|out of memory", re.I)


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


class TorchRunner:
    """A network in eager PyTorch.

    Args:
        network: in eval mode; is not changed.
        in_chans, scale, spec: as the network's.
        double: run in float64, on a copy.
        device: `cpu` or `cuda`; on the latter it runs as a copy.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        in_chans: int,
        scale: int,
        spec: NetworkSpec | None = None,
        double: bool = False,
        device: str = "cpu",
    ) -> None:
        import copy

        self.in_chans = in_chans
        self.scale = scale
        self.spec = spec
        self.precision = "fp64" if double else "fp32"
        self.static: tuple[int, int, int, int] | None = None
        self.name = f"torch {'float64' if double else 'float32'} {device.upper()}"
        self.device = device
        if double or device != "cpu":
            network = copy.deepcopy(network).to(device)
        self._network = network.double() if double else network

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, double: bool = False, device: str = "cpu") -> TorchRunner:
        """The network exactly as the checkpoint has it, fused or not."""
        spec = checkpoint.spec
        return cls(
            checkpoint.build(), in_chans=spec.in_chans, scale=spec.scale, spec=spec, double=double, device=device
        )

    def run(self, lr: Array) -> Array:
        """See `Runner`; the output has the precision of the network."""
        import torch

        # no_grad, not inference_mode: outputs of the latter break an export that follows.
        with torch.no_grad(), _memory_errors(lr.shape, RuntimeError, MemoryError):
            dtype = next(self._network.parameters()).dtype
            image = torch.from_numpy(np.ascontiguousarray(lr)).to(self.device, dtype)
            output: Array = self._network(image).cpu().numpy()
        return output


class OnnxRunner:
    """An ONNX file in ONNX Runtime.

    Args:
        path: the file.
        provider: the execution provider, which must really load: ONNX Runtime falls back to the CPU silently.
        threads: of the CPU provider; ONNX Runtime's own choice, one a core, by default.
    Raises:
        RunnerError: the file does not load, or the provider is not there.
    """

    def __init__(self, path: Path, *, provider: str = "CPUExecutionProvider", threads: int | None = None) -> None:
        import onnxruntime as ort

        self._errors = onnxruntime_errors()
        if provider not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise RunnerError(f"{provider} is not in this ONNX Runtime; available: {available}")
        if provider != "CPUExecutionProvider":
            # Finds the CUDA libraries that PyTorch's wheels brought.
            ort.preload_dlls()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Patterns are for fixed shapes; without them small x2 needs 380 MB instead of 573 at 256x256, in the same time.
        options.enable_mem_pattern = False
        # Waiting threads sleep: 1.1 to 1.4 times faster than spinning where anything else runs on these cores, such as
        # our own reading and writing (benchmarks/README.md).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(path, options, providers=[provider])
        except self._errors as error:
            reason = str(error).splitlines()[0]
            raise RunnerError(f"{path}: ONNX Runtime cannot load it ({reason}); export it again") from error
        if self._session.get_providers()[0] != provider:
            raise RunnerError(f"{provider} did not load, ONNX Runtime fell back to {self._session.get_providers()[0]}")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
            raise RunnerError(f"{path}: {len(inputs)} inputs and {len(outputs)} outputs; expected one NCHW image each")
        self._input = inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        shape = inputs[0].shape
        self.in_chans = int(shape[1])
        self.static = tuple(shape) if all(isinstance(dim, int) for dim in shape) else None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.precision = self.metadata.get("aether_deploy.precision", "fp32")
        self.name = f"ONNX Runtime {self.precision} {provider.removesuffix('ExecutionProvider')}"
        self.spec = _spec_of(self.metadata)
        self.device = "cpu" if provider == "CPUExecutionProvider" else "cuda"
        self.scale = self._measured_scale()

    def run(self, lr: Array) -> Array:
        """See `Runner`; float32 at both ends whatever the file's own types are."""
        try:
            with _memory_errors(lr.shape, *self._errors, MemoryError):
                output = self._session.run(None, {self._input: lr.astype(self._dtype, copy=False)})[0]
        except self._errors as error:
            raise RunnerError(f"input {lr.shape} was refused: {str(error).splitlines()[0]}") from error
        result: Array = np.asarray(output, dtype=np.float32)
        return result

    def _measured_scale(self) -> int:
        shape = [
            dim if isinstance(dim, int) else small
            for dim, small in zip(self._session.get_inputs()[0].shape, (1, 3, 16, 16), strict=True)
        ]
        output = self.run(np.zeros(shape, np.float32))
        return int(output.shape[2] // shape[2])


@contextlib.contextmanager
def _memory_errors(shape: tuple[int, ...], *errors: type[Exception]) -> Iterator[None]:
    """Turns the errors that say so into OutOfMemoryError; others pass."""
    try:
        yield
    except errors as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise OutOfMemoryError(
            f"out of memory for an input of {'x'.join(map(str, shape))}; give a smaller tile"
        ) from error


def _spec_of(metadata: dict[str, str]) -> NetworkSpec | None:
    """What an ONNX file says of its network, where it is one of ours."""
    from aether_deploy.spec import NetworkSpec

    written = metadata.get("aether_deploy.network")
    return NetworkSpec.from_dict(json.loads(written)) if written else None


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = vars(state).values()
    return tuple(item for item in found if isinstance(item, type) and issubclass(item, Exception))


def capture_reference(
    checkpoint: Checkpoint,
    images: Path | None = None,
    *,
    double: bool = False,
    static: tuple[int, int, int, int] | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> Reference:
    """What the network gives as it was trained, from weights read off the disk, before anything is done to it.

    Args:
        checkpoint: unfused, or fused where nothing else is left.
        images: photos for the cases, the packaged ones by default.
        double: in float64, on two small cases (it takes ten times as long as float32).
        static, shapes: see `parity_cases`.
    """
    runner = TorchRunner.from_checkpoint(checkpoint, double=double)
    if not double:
        cases = parity_cases(parity_photos(images), in_chans=checkpoint.spec.in_chans, static=static, shapes=shapes)
        return capture(runner.run, cases)
    (name, photo), *_ = parity_photos(images)
    small = parity_cases([(name, photo[:, :, :32, :48])], in_chans=checkpoint.spec.in_chans)
    return capture(runner.run, [case for case in small if case.lr.shape[2:] in ((32, 48), (37, 53))])


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
    if device == "cuda" and not torch.cuda.is_available():
        raise RunnerError("this PyTorch sees no CUDA device, available: cpu; choose --device cpu, or see to the driver")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRunner.from_checkpoint(load_checkpoint(path), device=device)
