"""An ONNX file in ONNX Runtime, on the requested provider and on no other."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from aether_deploy.arrays import Array, Shape
from aether_deploy.errors import AetherDeployError, OutOfMemoryError, RunnerError
from aether_deploy.extras import install_provider, is_installed
from aether_deploy.memory_limit import memory_limit
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.runners.devices import CPU, PROVIDERS, Device, Provider
from aether_deploy.runners.memory_errors import memory_errors
from aether_deploy.runners.onnx_reading import OnnxModel, network_of, read_onnx
from aether_deploy.runners.protocol import Runner, measured_scale
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["GraphSession", "OnnxRunner", "onnxruntime_errors", "open_session", "preload_libraries", "require_provider"]

_TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

_SPARE = 512 << 20
# 8192x8192: as an image of floats 0.8 GB, and a network takes a hundred times as much.
_MOST_PIXELS = 1 << 26
_SPARE_OF_GPU = 16 << 30
_BYTES_PER_THREAD = 16 << 20
# small x2 takes 6 KB for each pixel of its input, large x8 about 50.
_BYTES_PER_PIXEL = 128 << 10


class OnnxRunner(Runner):
    """An ONNX file in ONNX Runtime.

    Args:
        path: the file.
        device: of one execution provider, which must really load: ONNX Runtime falls back to the CPU silently.
        threads: of the CPU provider; by default ONNX Runtime's own choice, one per core.
        model: the file, if it has been read already, or a graph made from it.
        optimized: file for the graph that ONNX Runtime really runs.
        as_written: run each operator of the file as it stands, none fused or replaced.
    Raises:
        RunnerError: the file does not load, is not image to image, or the provider is missing; see `read_onnx`.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: Device = CPU,
        threads: int | None = None,
        model: OnnxModel | None = None,
        optimized: Path | None = None,
        as_written: bool = False,
    ) -> None:
        self._errors = onnxruntime_errors()
        read = model or read_onnx(path)
        self.metadata: dict[str, str] = {item.key: item.value for item in read.proto.metadata_props}
        self.precision = _precision_of(self.metadata, path)
        provider = PROVIDERS[device.name].name.removesuffix("ExecutionProvider")
        self.name = f"ONNX Runtime {self.precision} {provider}{f' {device.index}' if device.index else ''}"
        row = PRECISIONS[self.precision]
        # It takes 8-bit floats for integers, and puts an operator there that has none.
        as_written = as_written or (bool(row.quantizes) and not row.in_onnxruntime)
        self.device = str(device)
        with memory_limit(_allowance(read, device)):
            try:
                self._session = open_session(read.data, _options(threads, optimized, as_written=as_written), device)
            except self._errors as error:
                reason, remedy = in_one_line(error), "export it again"
                if not row.in_onnxruntime and device != CPU:
                    remedy = f"it may lack operators for {self.precision} there: choose --device cpu, or export in fp16"
                raise RunnerError(f"{path}: ONNX Runtime cannot load it ({reason}); {remedy}") from error
            shape = self._read_ends(path)
            try:
                self.spec = network_of(self.metadata)
                if self.spec is not None and self.static is None:
                    shape = (*shape[:2], *self.spec.sizes.fit(*shape[2:]))
                self.scale = measured_scale(self.run, shape)
            except OutOfMemoryError as error:
                raise RunnerError(f"{path}: needs too much memory for {shape}; export it again") from error
            except AetherDeployError as error:
                raise RunnerError(f"{path}: {error}") from error
        if self.spec is not None and (self.spec.scale, self.spec.in_chans) != (self.scale, self.in_chans):
            raise RunnerError(
                f"{path}: x{self.scale} with {self.in_chans} channels, but its metadata says x{self.spec.scale} with "
                f"{self.spec.in_chans}; export it again"
            )

    def _read_ends(self, path: Path) -> Shape:
        """Reads the file's input and output; returns the smallest shape to try."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        images = [output for output in outputs if len(output.shape) == 4]
        if len(inputs) != 1 or len(images) != 1 or len(inputs[0].shape) != 4 or images[0] is not outputs[0]:
            raise RunnerError(f"{path}: {len(inputs)} inputs and {len(images)} outputs; expected one NCHW image each")
        dims, kind = inputs[0].shape, inputs[0].type
        if kind not in _TYPES:
            raise RunnerError(f"{path}: its input is {kind}; expected {' or '.join(_TYPES)}")
        n, c, h, w = (dim if isinstance(dim, int) else small for dim, small in zip(dims, (1, 0, 16, 16), strict=True))
        if n * h * w > _MOST_PIXELS:
            raise RunnerError(f"{path}: its input is {dims}, expected at most {_MOST_PIXELS} pixels; export it smaller")
        if min(n, c, h, w) < 1:
            raise RunnerError(f"{path}: its input is {dims}; expected (N, C, H, W), C a number; export it again")
        self._input, self._dtype = inputs[0].name, _TYPES[kind]
        self.in_chans = c
        self.static = (n, c, h, w) if all(isinstance(dim, int) for dim in dims) else None
        self.smallest = self.static
        return n, c, h, w

    def run(self, lr: Array) -> Array:
        """See `Runner`; input and output are float32 whatever types the file has.

        Raises:
            OutOfMemoryError: a smaller input may run.
            RunnerError: ONNX Runtime refused the input.
        """
        return np.asarray(self.outputs(lr)[0], dtype=np.float32)

    def outputs(self, lr: Array) -> list[Array]:
        """Every output of the graph, the image first."""
        try:
            with memory_errors(lr.shape, *self._errors):
                found: list[Array] = self._session.run(None, {self._input: lr.astype(self._dtype, copy=False)})
        except self._errors as error:
            raise RunnerError(f"input {lr.shape} was refused: {in_one_line(error)}") from error
        return found

    def close(self) -> None:
        """Frees the session and its memory."""
        self._session = None


class GraphSession:
    """A graph of any inputs and outputs in ONNX Runtime.

    Args:
        model: the graph; at most the first of its inputs may be in half precision.
        device: see `OnnxRunner`.
        as_written: see `OnnxRunner`.
    Raises:
        RunnerError: ONNX Runtime cannot load it, or the provider is missing.
    """

    def __init__(self, model: ir.Model, *, device: Device = CPU, as_written: bool = False) -> None:
        self._errors = onnxruntime_errors()
        try:
            data = OnnxModel.of(model).data
            self._session = open_session(data, _options(None, None, as_written=as_written), device)
        except self._errors as error:
            raise RunnerError(f"ONNX Runtime cannot load the graph ({in_one_line(error)})") from error
        self._kinds = {item.name: _TYPES.get(item.type, np.float32) for item in self._session.get_inputs()}
        self._names = [item.name for item in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output -> its values in float32, for the inputs that the graph has; what it has not is ignored.

        Raises:
            RunnerError: an input is missing, or ONNX Runtime refused it.
        """
        try:
            taken = {name: feeds[name].astype(kind, copy=False) for name, kind in self._kinds.items()}
            found = self._session.run(None, taken)
        except KeyError as error:
            raise RunnerError(f"the graph wants an input {error}") from error
        except self._errors as error:
            raise RunnerError(f"the graph cannot be run: {in_one_line(error)}") from error
        return {name: np.asarray(value, np.float32) for name, value in zip(self._names, found, strict=True)}


def _options(threads: int | None, optimized: Path | None, *, as_written: bool) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    # What goes wrong is raised; ONNX Runtime would print it as well.
    options.log_severity_level = 4
    # Memory patterns are for fixed shapes; without them small x2 takes 380 instead of 573 MB at 256x256, as fast.
    options.enable_mem_pattern = False
    # Waiting threads sleep: 1.1 to 1.4 times faster than spinning if anything else runs on these cores, such as our
    # own reading and writing (benchmarks/README.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return options


def _precision_of(metadata: Mapping[str, str], path: Path) -> str:
    precision = metadata.get("aether_deploy.precision", "fp32")
    if precision not in PRECISIONS:
        raise RunnerError(f"{path}: precision {precision[:40]!a} in its metadata; known: {', '.join(PRECISIONS)}")
    return precision


def _allowance(model: OnnxModel, device: Device) -> int:
    """Bytes that opening a file and running it once may take.

    Anything more is a graph that makes large constants out of few bytes. What GPU libraries map is theirs.
    """
    ends = model.proto.graph.input[:1]
    dims = [dim.dim_value for value in ends for dim in value.type.tensor_type.shape.dim]
    pixels = math.prod(dims[:1] + dims[2:]) if min(dims, default=0) > 0 else 0
    # With all the memory that there is, ONNX Runtime still says so when it ends; the system would kill the process.
    image = min(pixels * _BYTES_PER_PIXEL, int(psutil.virtual_memory().available)) if pixels <= _MOST_PIXELS else 0
    threads = (os.cpu_count() or 1) * _BYTES_PER_THREAD
    return 8 * len(model.data) + image + threads + (_SPARE if device == CPU else _SPARE_OF_GPU)


def open_session(model: Path | bytes, options: Any, device: Device) -> Any:
    """An ONNX Runtime session for a file or a serialized graph that really runs on the device's provider.

    Args:
        model: the file, or the serialized graph.
        options: `SessionOptions`.
        device: to run on.
    Raises:
        RunnerError: the provider is missing, did not load, or finds no such device.
    """
    import onnxruntime as ort

    provider = PROVIDERS[device.name]
    ort.set_default_logger_severity(options.log_severity_level)
    require_provider(provider)
    if provider.nvidia:
        preload_libraries()
    if provider.plugin:
        found = [item for item in ort.get_ep_devices() if item.ep_name == provider.name]
        if device.index >= len(found):
            raise RunnerError(f"{provider.name} finds {len(found)} devices here, {device} is none; choose --device cpu")
        options.add_provider_for_devices([found[device.index]], {})
        session = ort.InferenceSession(model, options)
    else:
        settings = {} if device == CPU else {"device_id": str(device.index)}
        providers = [(provider.name, settings)]
        try:
            # It would go on with the CPU, now or after a failed run, and say so on stdout.
            session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
        except (ValueError, RuntimeError) as error:
            if device == CPU:
                raise
            raise RunnerError(f"{provider.name} did not load ({in_one_line(error)})") from error
    if session.get_providers()[0] != provider.name:
        raise RunnerError(f"{provider.name} did not load, ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def preload_libraries() -> None:
    """Finds the CUDA libraries in PyTorch's wheels; what ONNX Runtime prints about it does not belong on stdout."""
    import onnxruntime as ort

    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def require_provider(provider: Provider) -> None:
    """Loads a provider's plug-in, once in a process.

    Raises:
        RunnerError: this ONNX Runtime was built without the provider, or there is no plug-in of it.
    """
    import onnxruntime as ort

    if provider.plugin:
        _load_plugin(provider)
        return
    available = ort.get_available_providers()
    if provider.name not in available:
        remedy = install_provider(provider.package)
        raise RunnerError(f"{provider.name} is not in this ONNX Runtime, which has {', '.join(available)}; {remedy}")


@functools.cache
def _load_plugin(provider: Provider) -> None:
    import onnxruntime as ort

    try:
        library = importlib.import_module(provider.plugin).get_library_path()
        ort.register_execution_provider_library(provider.name, str(library))
    except ImportError as error:
        there = "holds no plug-in" if is_installed(provider.package) else "is not installed"
        remedy = install_provider(provider.package)
        raise RunnerError(f"{provider.name}: {provider.package} {there} ({error}); {remedy}") from error
    except onnxruntime_errors() as error:
        raise RunnerError(f"{provider.name}: its plug-in does not load ({in_one_line(error)})") from error


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which share no base but Exception, and C++'s, which it lets through."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = vars(state).values()
    own = (item for item in found if isinstance(item, type) and issubclass(item, Exception))
    return (*own, MemoryError, RuntimeError, ValueError)
