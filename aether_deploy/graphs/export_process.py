"""PyTorch's exporter in a process of its own: what crashes there (SIGSEGV was seen) ends that process and not ours.

Run as `python -m aether_deploy.graphs.export_process REQUEST.json`; the last line of its errors is the reason.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
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
        ended = subprocess.run(
            [sys.executable, "-m", __name__, str(folder)],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if ended.returncode == 0:
            return ir.from_proto(ir.to_proto(ir.load(folder / _MODEL)))
    way = "" if static else "; try a fixed size, --static 1x3x256x256"
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise ExportError(f"PyTorch's exporter crashed ({name}) on {spec.variant}{way}")
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
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


if __name__ == "__main__":
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
