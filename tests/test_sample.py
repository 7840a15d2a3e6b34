"""The packaged sample: what its README says of it, so far as its file shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aether_deploy.artifacts.opening import open_runner
from aether_deploy.network.checkpoint import load_checkpoint
from benchmarks import sample_psnr

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[1] / "export_configs" / "train_sample_x2.toml"


def test_it_is_the_network_of_its_options_file_unfused() -> None:
    checkpoint = load_checkpoint(sample_psnr.SAMPLE, options=CONFIG)
    assert checkpoint.param_key == "params"
    assert not checkpoint.spec.fused
    assert checkpoint.spec.scale == 2
    assert sum(value.numel() for value in checkpoint.state_dict.values()) == 220_515


def test_it_beats_bicubic_by_a_decibel_on_photos_it_never_saw() -> None:
    """On the mean of scikit-image's four; the rocket, a JPEG with blocks of its own, is the least, 0.9 dB."""
    gains = sample_psnr.gains(open_runner(sample_psnr.SAMPLE))
    assert sum(gains.values()) / len(gains) > 1.4, gains
    assert min(gains.values()) > 0.8, gains
