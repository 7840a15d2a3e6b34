"""ONNX Runtime's execution providers, each tried."""

from __future__ import annotations

import logging

from aether_deploy.artifacts.formats import Finding
from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import RunnerError
from aether_deploy.extras import (
    clashing_onnxruntimes,
    install_extra,
    install_provider,
    is_installed,
    repair_onnxruntime,
)
from aether_deploy.runners.devices import PROVIDERS, Device
from aether_deploy.runners.onnx_runtime import onnxruntime_errors, open_session
from aether_deploy.text import in_one_line

__all__ = ["examine_providers"]

logger = logging.getLogger(__name__)


def examine_providers() -> list[Finding]:
    """Tries one operator on each provider that is installed, since ONNX Runtime falls to the CPU without an error.

    CUDA's is the one that most people look for; it is listed in any case.
    """
    import onnxruntime as ort

    logger.info("ONNX Runtime")
    driver = read_driver()
    available = ort.get_available_providers()
    found = []
    if clashing_onnxruntimes():
        detail = "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files"
        found.append(Finding("provider", "ONNX Runtime", False, detail, repair_onnxruntime()))
    for name, provider in PROVIDERS.items():
        installed = is_installed(provider.package) if provider.plugin else provider.name in available
        remedy = install_provider(provider.package)
        if not installed:
            if name == "cuda":
                detail = "not in the installed ONNX Runtime"
                found.append(Finding("provider", provider.name, False, detail, remedy))
            continue
        if name == "tensorrt":  # ONNX Runtime has the provider, and needs TensorRT's own libraries for it
            remedy = install_extra("tensorrt")
        missing = driver.problem if provider.nvidia else ""
        problem = missing or _try(name)
        found.append(
            Finding(
                "provider",
                provider.name,
                not problem,
                problem or f"runs an operator, --device {name}",
                remedy if problem and not missing and provider.nvidia else "",
            )
        )
    return found


def _try(device: str) -> str:
    """Why a device's provider does not run; "" if it does."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        open_session(model.SerializeToString(), options, Device(device))
    except RunnerError as error:
        return str(error)
    except onnxruntime_errors() as error:
        return in_one_line(error)
    return ""
