"""The packaged sample: what its README says of it, so far as its file shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aether_deploy.checkpoint import load_checkpoint
from aether_deploy.image_quality import psnr
from aether_deploy.images import bicubic
from aether_deploy.runners import open_runner
from benchmarks import sample_psnr

CONFIG = Path(__file__).parents[1] / "export_configs" / "train_sample_x2.toml"


def test_it_is_the_network_of_its_options_file_unfused() -> None:
    checkpoint = load_checkpoint(sample_psnr.SAMPLE, options=CONFIG)
    assert checkpoint.param_key == "params"
    assert not checkpoint.spec.fused
    assert checkpoint.spec.scale == 2
    assert sum(value.numel() for value in checkpoint.state_dict.values()) == 220_515


@pytest.mark.parametrize("photo", sample_psnr.PHOTOS)
def test_it_beats_bicubic_by_a_decibel_on_photos_it_never_saw(photo: str) -> None:
    truth = sample_psnr.load(photo, scale=2)[:, :, :400, :400]
    lr = bicubic(truth, truth.shape[3] // 2, truth.shape[2] // 2)
    results = (bicubic(lr, truth.shape[3], truth.shape[2]), open_runner(sample_psnr.SAMPLE).run(lr))
    plain, ours = (psnr(sample_psnr.to_pixels(truth), sample_psnr.to_pixels(image)) for image in results)
    assert ours > plain + 1
