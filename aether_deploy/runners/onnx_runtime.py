"""An ONNX file in ONNX Runtime, on the requested provider and on no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.errors import RunnerError
from aether_deploy.runners.memory_errors import memory_errors
from aether_deploy.runners.protocol import Runner, measured_scale

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec

__all__ = ["OnnxRunner", "onnxruntime_errors", "open_session", "require_provider"]


class OnnxRunner(Runner):
    """An ONNX file in ONNX Runtime.

    Args:
        path: the file.
        provider: the execution provider, which must really load: ONNX Runtime falls back to the CPU silently.
        threads: of the CPU provider; by default ONNX Runtime's own choice, one per core.
        model: a serialized graph made from the file, to run instead of it.
        optimized: file for the graph that ONNX Runtime really runs.
    Raises:
        RunnerError: the file does not load, is not image to image, or the provider is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = "CPUExecutionProvider",
        threads: int | None = None,
        model: bytes | None = None,
        optimized: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        self._errors = onnxruntime_errors()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Memory patterns are for fixed shapes; without them small x2 takes 380 instead of 573 MB at 256x256, as fast.
        options.enable_mem_pattern = False
        # Waiting threads sleep: 1.1 to 1.4 times faster than spinning if anything else runs on these cores, such as our
        # own reading and writing (benchmarks/README.md).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        try:
            self._session = open_session(path if model is None else model, options, provider)
        except self._errors as error:
            reason = str(error).splitlines()[0]
            raise RunnerError(f"{path}: ONNX Runtime cannot load it ({reason}); export it again") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        images = [output for output in outputs if len(output.shape) == 4]
        if len(inputs) != 1 or len(images) != 1 or len(inputs[0].shape) != 4:
            raise RunnerError(f"{path}: {len(inputs)} inputs and {len(images)} outputs; expected one NCHW image each")
        self._input = inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        shape = inputs[0].shape
        self.in_chans = int(shape[1])
        self.static = tuple(shape) if all(isinstance(dim, int) for dim in shape) else None
        self.smallest = self.static
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.precision = self.metadata.get("aether_deploy.precision", "fp32")
        self.name = f"ONNX Runtime {self.precision} {provider.removesuffix('ExecutionProvider')}"
        self.spec = _spec_of(self.metadata)
        self.device = "cpu" if provider == "CPUExecutionProvider" else "cuda"
        n, c, h, w = (dim if isinstance(dim, int) else small for dim, small in zip(shape, (1, 3, 16, 16), strict=True))
        self.scale = measured_scale(self.run, (n, c, h, w))

    def run(self, lr: Array) -> Array:
        """See `Runner`; input and output are float32 whatever types the file has.

        Raises:
            OutOfMemoryError: a smaller input may run.
            RunnerError: ONNX Runtime refused the input.
        """
        return np.asarray(self._outputs(lr)[0], dtype=np.float32)

    def _outputs(self, lr: Array) -> list[Array]:
        """Every output of the graph, the image first."""
        try:
            with memory_errors(lr.shape, *self._errors, MemoryError):
                found: list[Array] = self._session.run(None, {self._input: lr.astype(self._dtype, copy=False)})
        except self._errors as error:
            raise RunnerError(f"input {lr.shape} was refused: {str(error).splitlines()[0]}") from error
        return found

    def close(self) -> None:
        """Frees the session and its memory."""
        self._session = None


def _spec_of(metadata: dict[str, str]) -> NetworkSpec | None:
    """What an ONNX file says about its network; None if it is not one of ours."""
    from aether_deploy.network.families import spec_from_dict

    written = metadata.get("aether_deploy.network")
    return spec_from_dict(json.loads(written)) if written else None


def open_session(model: Path | bytes, options: Any, provider: str) -> Any:
    """An ONNX Runtime session for a file or a serialized graph that really runs on the provider.

    Args:
        model: the file, or the serialized graph.
        options: `SessionOptions`.
        provider: the execution provider.
    Raises:
        RunnerError: the provider is missing, or did not load.
    """
    import onnxruntime as ort

    require_provider(provider)
    if provider != "CPUExecutionProvider":
        # Finds the CUDA libraries from PyTorch's wheels.
        ort.preload_dlls()
    session = ort.InferenceSession(model, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RunnerError(f"{provider} did not load, ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def require_provider(provider: str) -> None:
    """Raises RunnerError if this ONNX Runtime was built without the provider."""
    import onnxruntime as ort

    available = ort.get_available_providers()
    if provider not in available:
        raise RunnerError(f"{provider} is not in this ONNX Runtime; available: {', '.join(available)}")


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = vars(state).values()
    return tuple(item for item in found if isinstance(item, type) and issubclass(item, Exception))
