"""The machine that a measurement was made on; without it a number says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from aether_deploy.extras import ONNXRUNTIMES
from aether_deploy.proof.manifest import tool_versions, utc_now


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, GPU, versions and the time; no host name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "tools": tool_versions("torch", "onnx", *ONNXRUNTIMES, "numpy"),
        "measured": utc_now(),
    }
