"""The devices that can be chosen, in a module of their own so that listing them imports nothing."""

from __future__ import annotations

__all__ = ["AUTO", "DEVICES", "PROVIDERS"]

DEVICES = ("auto", "cpu", "cuda", "tensorrt")

# Device -> ONNX Runtime's execution provider.
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}

# What `auto` tries, in order. TensorRT only runs on request: its provider builds an engine for every new shape.
AUTO = ("cuda", "cpu")
