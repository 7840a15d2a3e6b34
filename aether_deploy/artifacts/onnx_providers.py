"""ONNX Runtime's execution providers, each tried."""

from __future__ import annotations

import logging

from aether_deploy.artifacts.formats import Finding
from aether_deploy.engines.gpus import read_driver
from aether_deploy.extras import clashing_onnxruntimes, onnxruntime_gpu, repair_onnxruntime
from aether_deploy.runners.onnx_runtime import onnxruntime_errors, preload_libraries

__all__ = ["examine_providers"]

logger = logging.getLogger(__name__)

# Execution providers of ONNX Runtime that run on a GPU -> the package that has them.
_PROVIDER_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "NvTensorRTRTXExecutionProvider": "onnxruntime-trt-rtx",
    "DmlExecutionProvider": "onnxruntime-directml",
}


def examine_providers() -> list[Finding]:
    """Tries one operator on each execution provider, since ONNX Runtime falls back to the CPU without an error."""
    import onnxruntime as ort

    logger.info("ONNX Runtime")
    driver = read_driver()
    if driver.gpus:
        preload_libraries()
    available = ort.get_available_providers()
    # Azure's calls a web service; CUDA's is the one that most people look for.
    wanted = dict.fromkeys([*available, "CUDAExecutionProvider"])
    wanted.pop("AzureExecutionProvider", None)
    found = []
    if clashing_onnxruntimes():
        detail = "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files"
        found.append(Finding("provider", "ONNX Runtime", False, detail, repair_onnxruntime()))
    for provider in wanted:
        package = _PROVIDER_PACKAGES.get(provider, "onnxruntime")
        if provider not in available:
            detail = "not in the installed ONNX Runtime"
            remedy = onnxruntime_gpu() if package == "onnxruntime-gpu" else f"pip install {package}"
            found.append(Finding("provider", provider, False, detail, remedy))
            continue
        missing = driver.problem if package == "onnxruntime-gpu" else ""
        problem = missing or _try_provider(provider)
        remedy = onnxruntime_gpu() if problem and not missing and package == "onnxruntime-gpu" else ""
        found.append(Finding("provider", provider, not problem, problem or "runs an operator", remedy))
    return found


def _try_provider(provider: str) -> str:
    """Why a provider does not run; "" if it does."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

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
