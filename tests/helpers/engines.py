"""Networks, checkpoints and fakes for the tests of engines."""

from __future__ import annotations

import os
from pathlib import Path

from aether_deploy.engines.gpus import Driver, Gpu
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.targets import ComputeCapability

ROOT = Path(__file__).parents[2]
FAKES = ROOT / "tests" / "fakes"

# Tight: what these tests look at does not depend on the size, and memory and time do.
SMALL_PROFILE = Profile((1, 3, 32, 32), (1, 3, 48, 64), (1, 3, 64, 96))
SMALL_SHAPES = ("--min-shape", "1x3x32x32", "--opt-shape", "1x3x48x64", "--max-shape", "1x3x64x96")


def driver(capability: ComputeCapability) -> Driver:
    """A driver with one GPU."""
    return Driver("13.0", (Gpu("Test GPU", capability, 24 << 30),), "")


def fake_path(which: str) -> str:
    """PYTHONPATH with a fake of tests/fakes/ first."""
    return os.pathsep.join([str(FAKES / which), str(ROOT)])
