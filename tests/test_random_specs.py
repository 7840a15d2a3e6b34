"""Networks of any shape: what was proved of the presets holds for whatever somebody trains."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.definition import arch
from aether_deploy.proof.reference import Trained
from tests.helpers.networks import randomize, save
from tests.helpers.strangers import inputs

pytestmark = pytest.mark.slow


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of the network's class; both kernels odd or both even."""
    large = draw(st.integers(1, 15))
    small = draw(st.integers(1, large).filter(lambda side: side % 2 == large % 2))
    return {
        "scale": draw(st.sampled_from([1, 2, 3, 4, 8])),
        "in_chans": draw(st.sampled_from([1, 3, 4])),
        "embed_dim": draw(st.integers(1, 20)),
        "depths": tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))),
        "mlp_ratio": draw(st.floats(1, 3)),
        "lk_kernel": large,
        "sk_kernel": small,
        "img_range": draw(st.sampled_from([1.0, 255.0, 0.5])),
    }


@settings(max_examples=inputs(3))
@given(networks(), st.integers(0, 9))
def test_read_fused_exported_and_proved(options: dict[str, Any], seed: int) -> None:
    try:
        network = randomize(arch.AetherNet(**options), seed)
    except ValueError:
        return  # no network of the framework either
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded = load_checkpoint(save(network, folder / "net.pth"), img_range=options["img_range"])
        spec = loaded.spec
        for name in ("scale", "in_chans", "embed_dim", "depths", "lk_kernel", "sk_kernel"):
            assert getattr(spec, name) == options[name]
        trained = Trained(loaded)
        fused = fuse_checkpoint(loaded, folder / "fused.pth", trained=trained)
        assert fused.exact is not None and fused.exact.passed
        (artifact,) = export_model(loaded, output=folder, trained=trained)
        assert artifact.report.passed
