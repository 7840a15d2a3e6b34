"""What the benchmark compares: a network in PyTorch, as our ONNX files, in OpenVINO, and as others export it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.arrays import Array
from aether_deploy.artifacts.formats import format_of
from aether_deploy.errors import RunnerError
from aether_deploy.runners.pytorch import torch_device
from aether_deploy.timing.contender import BASELINE, Contender, Run

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["open_contender", "prepare"]

logger = logging.getLogger(__name__)


def prepare(model: Path, folder: Path, *, half: bool = False, peers: bool = True) -> list[Contender]:
    """The contenders for a model: all forms of a checkpoint, written into a folder; an exported file only by itself.

    Args:
        model: a checkpoint or an exported file.
        folder: for the files that are made.
        half: add fp16, in PyTorch and as our ONNX; for a GPU, since on the CPU it would be computed in fp32.
        peers: add the graphs of other projects.
    Raises:
        CheckpointError, ExportError, ParityError: see `load_checkpoint` and `export_model`.
    """
    row = format_of(model)
    if row is not None and row.kind != "checkpoint":
        return [Contender(model.name, "file", model)]
    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.artifacts.pipeline import export_model
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.network.families import family_of
    from aether_deploy.network.fusion import fuse_network
    from aether_deploy.precisions.variant import variants

    checkpoint = load_checkpoint(model)
    wanted = variants(("fp32", "fp16") if half else ("fp32",))
    made = export_model(checkpoint, ExportOptions(variants=wanted, output=folder, name="ours"))
    found = [] if checkpoint.spec.fused else [Contender(BASELINE, "torch", model)]
    found += [
        Contender("torch eager, fused", "torch fused", model),
        Contender("torch.compile, fused", "torch compiled", model),
    ]
    if half:
        found += [
            Contender("torch fp16, fused", "torch half", model, half=True),
            Contender("torch fp16, NHWC", "torch half channels_last", model, half=True),
            Contender("torch.compile fp16", "torch half compiled", model, half=True),
        ]
    for artifact in made:
        variant = artifact.target.variant
        found.append(Contender(f"ours, ONNX {variant.precision}", "file", artifact.path, half=bool(variant.row.half)))
    if importlib.util.find_spec("openvino"):
        found.append(Contender("ours, in OpenVINO", "openvino", made[0].path))
    if peers:
        logger.info("exporting as the peers do")
        if not checkpoint.spec.fused:
            path = folder / "peer_unfused.onnx"
            if family_of(checkpoint.spec).operators is not None:
                name, path = "peer: unfused (neosr)", _peer_unfused(checkpoint, path)
            else:
                # PyTorch's newer exporter could take this process down with it: see `export_process`.
                name, path = "peer: traced, unfused", _peer_torchscript(checkpoint.build(), path)
            found.append(Contender(name, "onnx plain", path, peer=True))
        path = _peer_torchscript(fuse_network(checkpoint.build(), checkpoint.spec), folder / "peer_torchscript.onnx")
        found.append(Contender("peer: traced, opset17", "onnx plain", path, peer=True))
    return found


def open_contender(contender: Contender, device: str, threads: int) -> Run:
    """Opens a contender for timing, in the process that will run it.

    On a GPU a run includes copying the image there and the result back, as for every caller of `Runner.run`.

    Raises:
        RunnerError: the device is not available, or the kind is unknown.
    """
    from aether_deploy.artifacts.opening import open_runner
    from aether_deploy.timing.gauges import GAUGES, open_gauge

    match contender.kind:
        case "file":
            return open_runner(contender.path, device=device, threads=threads, trust=True).run
        case "torch":
            return open_runner(contender.path, device=torch_device(device), threads=threads, trust=True).run
        case "torch fused" | "torch compiled" | "torch half" | "torch half channels_last" | "torch half compiled":
            return _torch(contender, device, threads)
        case "onnx plain":
            return _onnx_plain(contender.path, device, threads)
        case "openvino":
            return _openvino(contender.path, threads)
    if contender.kind in GAUGES:
        return open_gauge(contender.kind, device, threads)
    raise RunnerError(f"no contender of kind {contender.kind!r}")


def _torch(contender: Contender, device: str, threads: int) -> Run:
    import torch

    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.network.fusion import fuse_network

    torch.set_num_threads(threads)
    device, words = torch_device(device), contender.kind.split()
    dtype = torch.float16 if "half" in words else torch.float32
    layout = torch.channels_last if "channels_last" in words else torch.contiguous_format
    checkpoint = load_checkpoint(contender.path)
    network: Any = fuse_network(checkpoint.build(), checkpoint.spec).to(device, dtype)
    network = network.to(memory_format=layout)
    if "compiled" in words:
        # Its C++ builder warns about missing CUDA, even where none was requested.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        network = torch.compile(network, dynamic=False)

    def run(lr: Array) -> Array:
        with torch.no_grad():
            image = torch.from_numpy(lr).to(device, dtype, memory_format=layout)
            output: Array = network(image).float().cpu().numpy()
        return output

    return run


def _onnx_plain(path: Path, device: str, threads: int) -> Run:
    """A session with its defaults, as other projects run theirs; only the number of threads is set."""
    import onnxruntime as ort

    from aether_deploy.runners.devices import device_of
    from aether_deploy.runners.onnx_runtime import open_session

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = open_session(path, options, device_of("cpu" if device == "auto" else device))
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


def _peer_unfused(checkpoint: Checkpoint, path: Path) -> Path:
    """PyTorch's exporter with its defaults: `dynamic_axes` for height and width, nothing folded or fused."""
    import torch

    from aether_deploy.graphs.torch_export import quiet_exporters

    with torch.no_grad(), quiet_exporters():
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
    """The tracing exporter at opset 17, the newest that most converters in the field support."""
    import torch

    from aether_deploy.graphs.torch_export import quiet_exporters

    axes = {0: "batch", 2: "height", 3: "width"}
    with torch.no_grad(), quiet_exporters():
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
