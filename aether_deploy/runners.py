"""One small protocol over everything that can run the network: `run(lr) -> sr`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import RunnerError
from aether_deploy.images import parity_photos
from aether_deploy.parity import Reference, capture, parity_cases

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.checkpoint import Checkpoint

__all__ = ["OnnxRunner", "Runner", "TorchRunner", "capture_reference", "open_runner"]

Array = NDArray[np.floating[Any]]


class Runner(Protocol):
    """Something that upscales.

    Attributes:
        name: of the runtime and precision, for people.
        in_chans: C, channels of input and output.
        scale: output pixels for each input pixel, along one side.
        precision: the row of the tolerance table that it is judged by.
        static: the only (N, C, H, W) that it takes; None if any.
    """

    name: str
    in_chans: int
    scale: int
    precision: str
    static: tuple[int, int, int, int] | None

    def run(self, lr: Array) -> Array:
        """(N, C, H, W) float32 RGB in [0, 1] -> (N, C, scale*H, scale*W), not clamped."""
        ...


class TorchRunner:
    """A network in eager PyTorch on the CPU.

    Args:
        network: in eval mode; is not changed.
        in_chans, scale: as the network's.
        double: run in float64, on a copy.
    """

    def __init__(self, network: nn.Module, *, in_chans: int, scale: int, double: bool = False) -> None:
        import copy

        self.in_chans = in_chans
        self.scale = scale
        self.precision = "fp64" if double else "fp32"
        self.static: tuple[int, int, int, int] | None = None
        self.name = "torch float64" if double else "torch float32"
        self._network = copy.deepcopy(network).double() if double else network

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, double: bool = False) -> TorchRunner:
        """The network exactly as the checkpoint has it, fused or not."""
        spec = checkpoint.spec
        return cls(checkpoint.build(), in_chans=spec.in_chans, scale=spec.scale, double=double)

    def run(self, lr: Array) -> Array:
        """See `Runner`; the output has the precision of the network."""
        import torch

        # no_grad, not inference_mode: outputs of the latter break an export that follows.
        with torch.no_grad():
            dtype = next(self._network.parameters()).dtype
            output: Array = self._network(torch.from_numpy(np.ascontiguousarray(lr)).to(dtype)).numpy()
        return output


class OnnxRunner:
    """An ONNX file in ONNX Runtime.

    Args:
        path: the file.
        provider: the execution provider, which must really load: ONNX Runtime falls back to the CPU silently.
    Raises:
        RunnerError: the file does not load, or the provider is not there.
    """

    def __init__(self, path: Path, *, provider: str = "CPUExecutionProvider") -> None:
        import onnxruntime as ort

        self._errors = _onnxruntime_errors()
        if provider not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise RunnerError(f"{provider} is not in this ONNX Runtime; available: {available}")
        options = ort.SessionOptions()
        options.log_severity_level = 3
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
        self.name = f"ONNX Runtime {provider.removesuffix('ExecutionProvider')}"
        shape = inputs[0].shape
        self.in_chans = int(shape[1])
        self.static = tuple(shape) if all(isinstance(dim, int) for dim in shape) else None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.precision = self.metadata.get("aether_deploy.precision", "fp32")
        self.scale = self._measured_scale()

    def run(self, lr: Array) -> Array:
        """See `Runner`; float32 at both ends whatever the file's own types are."""
        try:
            output = self._session.run(None, {self._input: lr.astype(self._dtype)})[0]
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


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
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


def open_runner(path: Path) -> Runner:
    """A checkpoint in PyTorch or an ONNX file in ONNX Runtime, by its suffix; bf16 as `half_executor` runs it.

    Raises:
        RunnerError: a suffix that nothing here runs.
        CheckpointError: a checkpoint that cannot be read.
    """
    from aether_deploy.checkpoint import SUFFIXES, load_checkpoint
    from aether_deploy.half_executor import HalfRunner, half_precision_of

    if path.suffix == ".onnx":
        if not path.is_file():
            raise RunnerError(f"{path}: not there; check the path")
        # ONNX Runtime's CPU provider has no bf16 convolution.
        return HalfRunner(path) if half_precision_of(path) == "bf16" else OnnxRunner(path)
    if path.suffix in SUFFIXES or path.is_dir():
        return TorchRunner.from_checkpoint(load_checkpoint(path))
    raise RunnerError(f"{path}: no runner for {path.suffix or 'this'}; expected {', '.join(SUFFIXES)} or .onnx")
