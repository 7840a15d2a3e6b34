"""The devices that can be asked for; apart, so that naming them waits for nothing."""

from __future__ import annotations

__all__ = ["AUTO", "DEVICES", "PROVIDERS"]

DEVICES = ("auto", "cpu", "cuda", "tensorrt")

# Device -> ONNX Runtime's execution provider.
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}

# What `auto` tries, in order. TensorRT is by request only: its provider builds an engine for every new shape.
AUTO = ("cuda", "cpu")
