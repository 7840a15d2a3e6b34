"""What an engine is judged by on its GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from aether_deploy.engines.build import BuildRequest
from aether_deploy.engines.execution import _extended
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.proof.verdict import Reference
from tests.helpers.engines import SMALL_PROFILE

pytestmark = pytest.mark.slow


def test_noise_at_the_profiles_own_shapes_is_judged_as_noise(checkpoint_file: Path) -> None:
    request = BuildRequest("tensorrt-rtx", (SMALL_PROFILE,))
    wanted = _extended(Reference((), ()), request, load_checkpoint(checkpoint_file))
    assert {case.lr.shape for case in wanted.cases} >= set(SMALL_PROFILE.shapes)
    assert all(case.drawn for case in wanted.cases)
