"""`python -m aether_deploy.doctor`: what this machine can do, and the command for what is missing."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from typing import Any

import click

from aether_deploy import cli

__all__ = ["Finding", "command", "examine"]

logger = logging.getLogger(__name__)

PACKAGES = (
    "aether-deploy",
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "polygraphy",
    "numpy",
)

# Execution providers of ONNX Runtime that run on a GPU, and the package that brings them.
_PROVIDER_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "NvTensorRTRTXExecutionProvider": "onnxruntime-trt-rtx",
    "DmlExecutionProvider": "onnxruntime-directml",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a machine can or cannot do.

    Attributes:
        topic: driver, gpu, flavour, provider, torch.
        name: of the thing.
        works: it was tried and does.
        detail: the version, or why not.
        remedy: a command or an advice; "" where none is needed.
    """

    topic: str
    name: str
    works: bool
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Tries everything that this machine could use; nothing is believed because it is installed."""
    logger.info("the NVIDIA driver")
    return [*_driver(), *_flavours(), *_providers(), _torch()]


def _driver() -> list[Finding]:
    from aether_deploy.engines.gpus import read_driver
    from aether_deploy.engines.targets import RTX_CAPABILITIES

    driver = read_driver()
    if driver.problem:
        return [
            Finding("driver", "NVIDIA driver", False, driver.problem, "engines for other machines build without it")
        ]
    found = [Finding("driver", "NVIDIA driver", True, f"runs CUDA up to {driver.cuda}")]
    for gpu in driver.gpus:
        fits = "--format tensorrt-rtx, tensorrt" if gpu.capability in RTX_CAPABILITIES else "--format tensorrt"
        memory = f"{gpu.memory / 2**30:.0f} GiB"
        found.append(Finding("gpu", gpu.name, True, f"{gpu.capability} ({gpu.capability.dotted}), {memory}, {fits}"))
    return found


def _flavours() -> list[Finding]:
    from aether_deploy.engines.process import FLAVOURS, tensorrt_version
    from aether_deploy.errors import EngineError

    found = []
    for flavour in FLAVOURS.values():
        logger.info(flavour.title)
        try:
            version = tensorrt_version(flavour.name)
        except EngineError as error:
            found.append(Finding("flavour", flavour.title, False, str(error), flavour.install))
            continue
        polygraphy = _version("polygraphy")
        if polygraphy is None:
            found.append(Finding("flavour", flavour.title, False, f"{version}, without polygraphy", flavour.install))
        else:
            found.append(Finding("flavour", flavour.title, True, f"{version}, --format {flavour.name}"))
    return found


def _providers() -> list[Finding]:
    """Execution providers, each asked to run one operator: ONNX Runtime falls to the CPU without an error."""
    import onnxruntime as ort

    logger.info("ONNX Runtime")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    available = ort.get_available_providers()
    # Azure's calls a service; CUDA's is what most people look for.
    wanted = dict.fromkeys([*available, "CUDAExecutionProvider"])
    wanted.pop("AzureExecutionProvider", None)
    found = []
    for provider in wanted:
        package = _PROVIDER_PACKAGES.get(provider, "onnxruntime")
        if provider not in available:
            detail = "not in the installed ONNX Runtime"
            found.append(Finding("provider", provider, False, detail, f"pip install {package}"))
            continue
        problem = _try_provider(provider)
        remedy = (
            f"pip install '{package}[cuda,cudnn]', and a driver" if problem and package == "onnxruntime-gpu" else ""
        )
        found.append(Finding("provider", provider, not problem, problem or "runs an operator", remedy))
    return found


def _try_provider(provider: str) -> str:
    """Why a provider does not run; "" if it does."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    from aether_deploy.runners.onnx_runtime import onnxruntime_errors

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=[provider])
    except onnxruntime_errors() as error:
        return str(error).splitlines()[0]
    ran = session.get_providers()[0]
    return "" if ran == provider else f"does not load: ONNX Runtime fell to {ran} without an error"


def _torch() -> Finding:
    logger.info("PyTorch")
    import torch

    if torch.cuda.is_available():
        return Finding("torch", "PyTorch", True, f"{torch.__version__}, {torch.cuda.get_device_name()}")
    return Finding("torch", "PyTorch", True, f"{torch.__version__}, on the CPU")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command(cls=cli.Command, name="doctor")
@cli.json_option
def command(as_json: bool) -> None:
    """Says what really works here: driver, GPUs, TensorRT, execution providers, versions."""
    with cli.progress("doctor"):
        found = examine()
        versions = {package: version for package in PACKAGES if (version := _version(package))}
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    out = cli.console(stderr=as_json)
    out.print(f"{system}; {', '.join(f'{name} {version}' for name, version in versions.items())}\n", markup=False)
    for finding in found:
        mark = "[green]✓[/green]" if finding.works else "[red]✗[/red]"
        out.print(f"{mark} {finding.name}:", end=" ")
        out.print(finding.detail, markup=False)
        if finding.remedy and finding.remedy not in finding.detail:
            out.print(f"  {finding.remedy}", markup=False)
    if as_json:
        cli.print_json(_as_json(system, versions, found))
    cli.next_command(*_next(found), as_json=as_json)


def _as_json(system: str, versions: dict[str, str], found: list[Finding]) -> dict[str, Any]:
    rows = [{name: getattr(row, name) for name in Finding.__slots__} for row in found]
    return {"system": system, "versions": versions, "findings": rows}


def _next(found: list[Finding]) -> tuple[str, ...]:
    """An export in the best format that works here, or what installs one."""
    works = {finding.name for finding in found if finding.works}
    export = ("python", "-m", "aether_deploy.export", "CHECKPOINT", "--precision", "fp16", "--format")
    if "TensorRT" in works and any(finding.topic == "gpu" for finding in found):
        return (*export, "tensorrt")
    if "TensorRT-RTX" in works:
        return (*export, "tensorrt-rtx")
    return ("pip", "install", "aether-deploy[tensorrt-rtx]")


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.doctor")
