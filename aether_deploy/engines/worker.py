"""One flavour of TensorRT in a process of its own; `process.EngineProcess` is the other end.

Polygraphy picks `tensorrt` or `tensorrt_rtx` on import, so there is one flavour per process. Requests come on stdin and
answers go to stdout, each a line of JSON, some followed by bytes. Everything else that is printed goes to stderr, which
is the log. The end of stdin cancels what is under way, so nothing outlives the process that asked.

    request   {"do": "about" | "build" | "open" | "run" | "measure", ...}
    answer    {"event": "progress" | "done" | "error" | "missing", ...}
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["MODULES", "main"]

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

# Seconds between two progress reports: a build takes thousands of steps.
PROGRESS_INTERVAL = 0.1


class WorkerError(Exception):
    """A refusal that TensorRT reports only through a return value."""


class Channel:
    """JSON lines, optionally followed by bytes, in both directions."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.requests: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
        self.cancelled = threading.Event()
        self._source, self._sink, self._lock = source, sink, threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, event: str, payload: bytes | memoryview = b"", **values: Any) -> None:
        """Sends one answer; if the reader is gone, cancels."""
        head = json.dumps({"event": event, "nbytes": len(payload), **values}).encode() + b"\n"
        try:
            with self._lock:
                self._sink.write(head)
                self._sink.write(payload)
                self._sink.flush()
        except BrokenPipeError:
            self.cancelled.set()

    def _read(self) -> None:
        while line := self._source.readline():
            request = json.loads(line)
            self.requests.put((request, self._source.read(request.get("nbytes", 0))))
        self.cancelled.set()
        self.requests.put(None)


def main() -> int:
    """Serves one flavour, `sys.argv[1]`, until stdin ends."""
    flavour = sys.argv[1]
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    channel = Channel(sys.stdin.buffer, sink)
    # Polygraphy imports torch, which takes seconds, only to ask whether an array is one of its tensors. None is.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        trt = importlib.import_module(MODULES[flavour])
    except ImportError as error:
        channel.send("missing", message=str(error), installed=not _is_absent(error, MODULES[flavour]))
        return 1
    from polygraphy.exception import PolygraphyException

    _quiet_polygraphy()
    actions = _actions(trt, flavour, channel)
    while (taken := channel.requests.get()) is not None:
        request, payload = taken
        try:
            actions[request["do"]](request, payload)
        except (WorkerError, PolygraphyException) as error:
            channel.send("error", message=str(error), cancelled=channel.cancelled.is_set())
    return 0


def _is_absent(error: ImportError, module: str) -> bool:
    """Whether the package itself is missing, as opposed to a library that it needs."""
    return isinstance(error, ModuleNotFoundError) and error.name == module


def _quiet_polygraphy() -> None:
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.VERBOSE
    G_LOGGER.colors = False


def _actions(trt: Any, flavour: str, channel: Channel) -> dict[str, Callable[[dict[str, Any], bytes], None]]:
    from aether_deploy.engines.session import Session

    sessions: list[Session] = []

    def about(_request: dict[str, Any], _payload: bytes) -> None:
        channel.send("done", version=trt.__version__)

    def build(request: dict[str, Any], _payload: bytes) -> None:
        channel.send("done", **_build(trt, flavour, request, channel))

    def opened(request: dict[str, Any], _payload: bytes) -> None:
        sessions.append(Session(trt, flavour, Path(request["engine"]), request["cache"]))
        channel.send("done", **sessions[-1].about())

    def run(request: dict[str, Any], payload: bytes) -> None:
        output = sessions[-1].run(request["shape"], request["profile"], payload)
        channel.send("done", memoryview(output).cast("B"), shape=list(output.shape))

    def measure(request: dict[str, Any], _payload: bytes) -> None:
        channel.send("done", **sessions[-1].measure(request["shape"], request["profile"], request["runs"]))

    return {"about": about, "build": build, "open": opened, "run": run, "measure": measure}


def _build(trt: Any, flavour: str, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """ONNX -> engine file, through Polygraphy's loaders, with the checks that Polygraphy leaves out."""
    from polygraphy.backend.trt import EngineBytesFromNetwork, PostprocessConfig

    began = time.monotonic()
    builder, network, parser = _network(trt, request)
    described = describe_network(trt, network)
    config = PostprocessConfig(_create_config(trt, flavour, request, channel), _check_config(trt, request))
    plan = EngineBytesFromNetwork((builder, network, parser), config)()
    with Path(request["engine"]).open("wb") as file:
        file.write(plan)
    return {"network": described, "seconds": round(time.monotonic() - began, 3)}


def _network(trt: Any, request: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Parses the ONNX file, strongly typed, and fixes the batch if it is the same in every profile."""
    from polygraphy.backend.trt import NetworkFromOnnxBytes

    # TensorRT 10 is weakly typed unless told otherwise; 11 and RTX are always strongly typed, and may drop the flag.
    strongly_typed = "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__
    builder, network, parser = NetworkFromOnnxBytes(Path(request["onnx"]).read_bytes(), strongly_typed=strongly_typed)()
    if (network.num_inputs, network.num_outputs) != (1, 1):  # parse(b"") returns True
        raise WorkerError(f"the ONNX file gave {network.num_inputs} inputs and {network.num_outputs} outputs, not 1")
    shape = list(network.get_input(0).shape)
    batches = {size[0] for profile in request["profiles"] for size in profile.values()}
    if shape[0] == -1 and len(batches) == 1:
        network.get_input(0).shape = [*batches, *shape[1:]]
    return builder, network, parser


def _create_config(trt: Any, flavour: str, request: dict[str, Any], channel: Channel) -> Any:
    """The loader of the builder's configuration; RTX's also names the GPUs that the engine is for."""
    from polygraphy.backend.trt import CreateConfig, Profile

    profiles = [
        Profile().add("input", **{name: tuple(shape) for name, shape in profile.items()})
        for profile in request["profiles"]
    ]
    common: dict[str, Any] = {"profiles": profiles, "progress_monitor": _monitor(trt, channel)}
    if request["workspace"]:
        common["memory_pool_limits"] = {trt.MemoryPoolType.WORKSPACE: request["workspace"]}
    if flavour == "tensorrt":
        return CreateConfig(**common)
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    return CreateConfigRTX(**common, compute_capabilities=[tuple(pair) for pair in request["capabilities"]])


def _check_config(trt: Any, request: dict[str, Any]) -> Callable[[Any, Any, Any], None]:
    """Checks and sets on the raw configuration what Polygraphy does not."""

    def check(_builder: Any, _network: Any, config: Any) -> None:
        # TF32 is on by default, in RTX too: with its 10 bits of mantissa, the fp32 gate fails.
        config.clear_flag(trt.BuilderFlag.TF32)
        if config.num_optimization_profiles != len(request["profiles"]):
            raise WorkerError(f"{config.num_optimization_profiles} of {len(request['profiles'])} profiles were taken")
        for index, (major, minor) in enumerate(request["capabilities"]):
            if config.get_compute_capability(index).name != f"SM{major}{minor}":
                raise WorkerError(f"compute capability {major}.{minor} was not taken")

    return check


def describe_network(trt: Any, network: Any) -> dict[str, Any]:
    """Inputs, outputs, typing and the types of all layers' outputs, read back from the parsed network."""

    def end(tensor: Any) -> dict[str, Any]:
        return {"name": tensor.name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}

    types: dict[str, int] = {}
    for layer in network:
        for index in range(layer.num_outputs):
            name = layer.get_output(index).dtype.name
            types[name] = types.get(name, 0) + 1
    flags = trt.NetworkDefinitionCreationFlag.__members__
    return {
        "inputs": [end(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [end(network.get_output(index)) for index in range(network.num_outputs)],
        "layers": network.num_layers,
        "types": types,
        "strongly_typed": "STRONGLY_TYPED" not in flags or bool(network.get_flag(flags["STRONGLY_TYPED"])),
    }


def _monitor(trt: Any, channel: Channel) -> Any:
    """A monitor that reports the nested phases as one fraction, 0 to 1, and stops the build once it is cancelled."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._phases: dict[str, tuple[int, int]] = {}
            self._reported, self._fraction = 0.0, 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (0, max(num_steps, 1))
            self._report(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._phases[phase_name] = (step + 1, self._phases.get(phase_name, (0, step + 1))[1])
            self._report(phase_name)
            return not channel.cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _report(self, phase_name: str) -> None:
            now = time.monotonic()
            if now - self._reported < PROGRESS_INTERVAL:
                return
            fraction = 0.0
            for done, steps in reversed(self._phases.values()):
                fraction = min((done + fraction) / steps, 1.0)
            self._reported, self._fraction = now, max(self._fraction, fraction)
            channel.send("progress", phase=phase_name, fraction=self._fraction)

    return Monitor()


if __name__ == "__main__":
    sys.exit(main())
