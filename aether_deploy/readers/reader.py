"""The readers, a row each; what one does is a function in a module beside this."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aether_deploy.arrays import Array
from aether_deploy.errors import AetherDeployError

__all__ = ["READERS", "MissingError", "Read", "Reader", "RefusedError", "read_of"]

# (file, (1, C, H, W) float32) -> (1, C, scale*H, scale*W), or None for a reader that only looks at the file.
Read = Callable[[Path, Array], Array | None]


class MissingError(AetherDeployError):
    """The reader is not installed here, or has nothing to look at."""


class RefusedError(AetherDeployError):
    """The reader does not take the file."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A row of the table.

    Attributes:
        name: for people.
        kinds: of files that are given to it, as in manifests.
        module: in this folder, or anywhere by its full name.
        function: in that module, a `Read`.
        package: what to install; "" if it is always there.
    """

    name: str
    kinds: tuple[str, ...]
    module: str
    function: str
    package: str = ""

    @property
    def read(self) -> Read:
        """The imported function."""
        return read_of(self.module, self.function)


def read_of(module: str, function: str) -> Read:
    """The function of a row."""
    full = module if "." in module else f"aether_deploy.readers.{module}"
    return cast("Read", getattr(importlib.import_module(full), function))


READERS = tuple(
    Reader(*row)
    for row in (
        ("ONNX Runtime", ("onnx",), "libraries", "onnxruntime"),
        ("OpenVINO", ("onnx",), "libraries", "openvino", "openvino"),
        ("onnxruntime-web in Node", ("onnx",), "libraries", "node", "node and npm"),
        ("TensorRT-RTX, its parser", ("onnx",), "libraries", "tensorrt_rtx", "tensorrt-rtx-cu13"),
        ("vs-mlrt, ONNX Runtime", ("onnx",), "vapoursynth_plugins", "ort", "vapoursynth-mlrt-ort"),
        ("vs-mlrt, OpenVINO", ("onnx",), "vapoursynth_plugins", "ov", "vapoursynth-mlrt-ov"),
        ("vs-mlrt, ncnn", ("onnx",), "vapoursynth_plugins", "ncnn", "vapoursynth-mlrt-ncnn"),
        ("chaiNNer, its rules", ("onnx",), "rules", "chainner"),
        ("Triton, its configuration", ("onnx", "engine"), "rules", "triton", "tritonclient grpcio"),
        ("ncnn", ("ncnn",), "libraries", "ncnn", "ncnn"),
        ("ncnn, Vulkan", ("ncnn",), "libraries", "ncnn_vulkan", "ncnn"),
    )
)
