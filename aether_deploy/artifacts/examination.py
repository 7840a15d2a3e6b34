"""What this machine can do: its driver, and every format in the table."""

from __future__ import annotations

import logging

from aether_deploy.artifacts.formats import FORMATS, Finding
from aether_deploy.engines.gpus import read_driver
from aether_deploy.engines.targets import RTX_CAPABILITIES

__all__ = ["examine"]

logger = logging.getLogger(__name__)


def examine() -> list[Finding]:
    """Tries everything that this machine could use; being installed proves nothing."""
    logger.info("the NVIDIA driver")
    return [*_driver(), *(finding for row in FORMATS.values() for finding in row.maker.findings(row))]


def _driver() -> list[Finding]:
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
