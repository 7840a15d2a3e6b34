"""The devices that can be chosen, in a module of their own so that listing them imports nothing."""

from __future__ import annotations

from dataclasses import dataclass

from aether_deploy.errors import RunnerError

__all__ = ["CPU", "DEVICES", "PROVIDERS", "Device", "Provider", "device_of"]


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider of ONNX Runtime.

    Attributes:
        name: ONNX Runtime's.
        package: to install; it must hold the provider itself, or a plug-in that ONNX Runtime loads.
        nvidia: whether it needs NVIDIA's driver.
    """

    name: str
    package: str
    nvidia: bool = False

    @property
    def plugin(self) -> str:
        """The Python module of a plug-in package; "" if ONNX Runtime itself is built with the provider."""
        return self.package.replace("-", "_") if self.package.startswith("onnxruntime-ep-") else ""


# Device -> ONNX Runtime's execution provider.
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", nvidia=True),
    "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu", nvidia=True),
    "tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider", "onnxruntime-ep-nv-tensorrt-rtx", nvidia=True),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-ep-openvino"),
    "webgpu": Provider("WebGpuExecutionProvider", "onnxruntime-ep-webgpu"),
    "migraphx": Provider("MIGraphXExecutionProvider", "onnxruntime-ep-migraphx"),
    "directml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
}

# `auto` is CUDA, then the CPU; TensorRT only runs on request, since its provider builds an engine for every new shape.
# `vulkan` is for ncnn's files.
DEVICES = ("auto", *PROVIDERS, "vulkan")


@dataclass(frozen=True, slots=True)
class Device:
    """A device by name and number; as text `cuda:1`, or `cuda` for the first.

    Attributes:
        name: one of `DEVICES`.
        index: which of several, from 0.
    """

    name: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.index}" if self.index else self.name

    @property
    def nvidia(self) -> bool:
        """Whether it is a GPU of NVIDIA's."""
        return self.name in PROVIDERS and PROVIDERS[self.name].nvidia


CPU = Device("cpu")


def device_of(text: str | None) -> Device:
    """`cuda:1` -> a device; None is the CPU.

    Raises:
        RunnerError: an unknown name, or a number where there is none to give.
    """
    name, colon, number = (text or "cpu").lower().partition(":")
    fits = not colon or (number.isdecimal() and len(number) < 4 and name not in ("auto", "cpu"))
    if name not in DEVICES or not fits:
        raise RunnerError(f"device {text!r}; expected {', '.join(DEVICES)}, or one with its number as in cuda:1")
    return Device(name, int(number or 0))
