"""What the benchmark compares: one network in PyTorch, as our ONNX files, in OpenVINO, and as its peers export it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import RunnerError

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.checkpoint import Checkpoint

__all__ = ["BASELINE", "Contender", "open_contender", "prepare"]

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]
Run = Callable[[Array], Array]

BASELINE = "torch eager, unfused"

# The edge of the matrices whose product gives the peak; 64 MB in all, so neither cached whole nor bound by memory.
PEAK_EDGE = 2048


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time. It crosses to a process of its own, so it is plain data.

    Attributes:
        name: for people.
        kind: how `open_contender` opens the file.
        path: a checkpoint or an ONNX file.
        peer: made as another project makes it.
    """

    name: str
    kind: str
    path: Path
    peer: bool = False


def prepare(model: Path, folder: Path, *, half: bool = False, peers: bool = True) -> list[Contender]:
    """Writes what is compared into a folder: of a checkpoint all forms, of an ONNX file itself alone.

    Args:
        model: a checkpoint or an ONNX file.
        folder: for the files that are made.
        half: our fp16 ONNX too; only where the provider computes in fp16 is that a measurement of it.
        peers: the graphs of other projects too.
    Raises:
        RunnerError: another kind of file.
        CheckpointError, ExportError, ParityError: see `export_model`.
    """
    if model.suffix == ".onnx":
        return [Contender(model.name, "onnx", model)]
    from aether_deploy.checkpoint import load_checkpoint
    from aether_deploy.fuse import fuse_aether
    from aether_deploy.pipeline import ExportOptions, export_model

    checkpoint = load_checkpoint(model)
    precisions = ("fp32", "fp16") if half else ("fp32",)
    made = export_model(checkpoint, ExportOptions(precisions=precisions, output=folder, name="ours"))
    found = [] if checkpoint.spec.fused else [Contender(BASELINE, "torch", model)]
    found += [
        Contender("torch eager, fused", "torch fused", model),
        Contender("torch.compile, fused", "torch compiled", model),
        *(Contender(f"ours, ONNX {artifact.target.precision}", "onnx", artifact.path) for artifact in made),
    ]
    if importlib.util.find_spec("openvino"):
        found.append(Contender("ours, in OpenVINO", "openvino", made[0].path))
    if peers:
        logger.info("exporting as the peers do")
        if not checkpoint.spec.fused:
            path = _peer_unfused(checkpoint, folder / "peer_unfused.onnx")
            found.append(Contender("peer: unfused (neosr)", "onnx plain", path, peer=True))
        path = _peer_torchscript(fuse_aether(checkpoint.build()), folder / "peer_torchscript.onnx")
        found.append(Contender("peer: TorchScript op17", "onnx plain", path, peer=True))
    return found


def open_contender(contender: Contender, device: str, threads: int) -> Run:
    """Opens one for timing, in the process that will run it.

    Raises:
        RunnerError: the device is not there, or the kind is not known.
    """
    from aether_deploy.runners import open_runner

    match contender.kind:
        case "onnx" | "torch":
            return open_runner(contender.path, device=device, threads=threads).run
        case "torch fused" | "torch compiled":
            return _torch(contender, device, threads)
        case "onnx plain":
            return _onnx_plain(contender.path, device, threads)
        case "openvino":
            return _openvino(contender.path, threads)
        case "peak":
            return _peak(threads)
    raise RunnerError(f"no contender of kind {contender.kind!r}")


def _torch(contender: Contender, device: str, threads: int) -> Run:
    import torch

    from aether_deploy.checkpoint import load_checkpoint
    from aether_deploy.fuse import fuse_aether
    from aether_deploy.runners import TorchRunner

    torch.set_num_threads(threads)
    checkpoint = load_checkpoint(contender.path)
    network: Any = fuse_aether(checkpoint.build())
    if contender.kind == "torch compiled":
        network = torch.compile(network, dynamic=False)
    device = "cpu" if device == "auto" and not torch.cuda.is_available() else device.replace("auto", "cuda")
    return TorchRunner(network, in_chans=checkpoint.spec.in_chans, scale=checkpoint.spec.scale, device=device).run


def _onnx_plain(path: Path, device: str, threads: int) -> Run:
    """With the session's defaults, as the peers run theirs; only the threads are the same for all."""
    import onnxruntime as ort

    from aether_deploy.runners import PROVIDERS

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    provider = PROVIDERS["cpu" if device == "auto" else device]
    session = ort.InferenceSession(path, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RunnerError(f"{provider} did not load for {path.name}")
    name = session.get_inputs()[0].name

    def run(lr: Array) -> Array:
        output: Array = session.run(None, {name: lr})[0]
        return output

    return run


def _openvino(path: Path, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(lr: Array) -> Array:
        output: Array = compiled(lr)[0]
        return output

    return run


def _peak(threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    left, right = torch.rand(2, PEAK_EDGE, PEAK_EDGE)

    def run(_: Array) -> Array:
        output: Array = (left @ right).numpy()[:1]
        return output

    return run


def _peer_unfused(checkpoint: Checkpoint, path: Path) -> Path:
    """PyTorch's exporter at its defaults, dynamic height and width asked for the old way, nothing folded or fused."""
    import torch

    with torch.no_grad(), _silent():
        torch.onnx.export(
            checkpoint.build(),
            (torch.randn(1, checkpoint.spec.in_chans, 20, 20),),
            path,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {2: "height", 3: "width"}, "output": {2: "height", 3: "width"}},
            do_constant_folding=False,
            verbose=False,
        )
    return path


def _peer_torchscript(network: nn.Module, path: Path) -> Path:
    """The tracing exporter at opset 17, the newest that most converters in the field ask for."""
    import torch

    axes = {0: "batch", 2: "height", 3: "width"}
    with torch.no_grad(), _silent():
        torch.onnx.export(
            network,
            (torch.rand(1, 3, 64, 64),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": axes, "output": axes},
        )
    return path


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporters print and warn about themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
