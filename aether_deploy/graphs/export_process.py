"""PyTorch's exporter in a process of its own: what crashes there (SIGSEGV was seen) ends that process and not ours.

Run as `python -m aether_deploy.graphs.export_process FOLDER`; the last line of its errors is the reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from aether_deploy.arrays import Shape
from aether_deploy.errors import AetherDeployError, ExportError
from aether_deploy.files import scratch
from aether_deploy.text import in_one_line, printable

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.family import NetworkSpec

__all__ = ["exported_apart"]

_REQUEST, _WEIGHTS, _MODEL = "request.json", "weights.safetensors", "model.onnx"


def exported_apart(network: nn.Module, spec: NetworkSpec, *, opset: int, static: Shape | None) -> ir.Model:
    """What `torch_export.traced` gives, from a process of its own.

    Args:
        network: the spec's, with its weights.
        spec, opset, static: see `export_onnx`.
    Raises:
        ExportError: the exporter refused the network or crashed.
    """
    from safetensors.torch import save

    with scratch("export") as folder:
        state_dict = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
        (folder / _WEIGHTS).write_bytes(save(state_dict))
        request = {"network": spec.as_dict(), "opset": opset, "static": static}
        (folder / _REQUEST).write_text(json.dumps(request))
        command = [sys.executable, "-m", __name__, str(folder)]
        # It ends when its input does, so that it does not outlive a process that was killed.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            try:
                lines = process.stderr.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
                code = process.wait()
            finally:
                process.kill()
        if code == 0:
            return ir.from_proto(ir.to_proto(ir.load(folder / _MODEL)))
    way = "" if static else "; try a fixed size, --static 1x3x256x256"
    if code < 0:
        name = signal.Signals(-code).name
        raise ExportError(f"PyTorch's exporter crashed ({name}) on {spec.variant}{way}")
    raise ExportError(f"PyTorch's exporter refuses {spec.variant} ({printable(lines[-1], longest=300)}){way}")


def _main(folder: Path) -> None:
    from safetensors.torch import load_file

    from aether_deploy.graphs.torch_export import traced
    from aether_deploy.network.families import spec_from_dict

    request = json.loads((folder / _REQUEST).read_text())
    spec = spec_from_dict(request["network"])
    network = spec.build()
    network.load_state_dict(load_file(folder / _WEIGHTS))
    static = tuple(request["static"]) if request["static"] else None
    ir.save(traced(network, spec, opset=request["opset"], static=static), folder / _MODEL)


def _end_with_input() -> None:
    # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        _main(Path(sys.argv[1]))
    except AetherDeployError as error:
        sys.exit(str(error))
    # Of any type: the exporter's own, of which the cause says most.
    except Exception as error:  # noqa: BLE001
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        sys.exit(f"{type(cause).__name__}: {in_one_line(cause)}")
