"""The files in the hands of those who read them: vs-mlrt's ONNX Runtime plugin for VapourSynth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aether_deploy.artifacts import pipeline
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.pictures.images import read_image
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.pytorch import TorchRunner
from aether_deploy.samples import PHOTOS
from tests.helpers.networks import SAMPLE

pytestmark = pytest.mark.slow

# VapourSynth keeps a core for the process, so each run has one of its own.
_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from aether_deploy.readers.vapoursynth_plugins import ort

np.save(sys.argv[3], ort(Path(sys.argv[1]), np.load(sys.argv[2])))
"""


def _in_vapoursynth(model: Path, lr: Any, folder: Path) -> Any:
    """(1, 3, H, W): what vs-mlrt gives for one frame."""
    np.save(folder / "lr.npy", lr)
    words = [sys.executable, "-c", _SCRIPT, model, folder / "lr.npy", folder / "sr.npy"]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return np.load(folder / "sr.npy")


@pytest.mark.parametrize("crop", [(48, 64), (37, 53)])
def test_vs_mlrt_takes_the_file_as_it_is(tmp_path: Path, crop: tuple[int, int]) -> None:
    (artifact,) = pipeline.export_model(load_checkpoint(SAMPLE), ExportOptions(output=tmp_path))
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, : crop[0], : crop[1]])
    sr = _in_vapoursynth(artifact.path, lr, tmp_path)
    assert sr.shape == (1, 3, crop[0] * 2, crop[1] * 2)
    # The plugin brings its own ONNX Runtime: float32 arithmetic in another order, no more.
    assert np.abs(sr - OnnxRunner(artifact.path).run(lr)).max() < 2e-6


@pytest.mark.long
def test_vs_mlrt_takes_8_bits(tmp_path: Path) -> None:
    options = ExportOptions(variants=(Variant("int8-fast"),), output=tmp_path)
    (artifact,) = pipeline.export_model(load_checkpoint(SAMPLE), options)
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, :48, :64])
    sr = _in_vapoursynth(artifact.path, lr, tmp_path)
    # Another ONNX Runtime rounds a value between two steps the other way now and then.
    assert np.abs(sr - OnnxRunner(artifact.path).run(lr)).max() < 1 / 255


@pytest.mark.parametrize(("io", "ffn"), [("fp32", "linear"), ("fp16", "linear"), ("fp16", "conv1x1")])
def test_vs_mlrt_takes_half_precision(tmp_path: Path, io: str, ffn: str) -> None:
    checkpoint = load_checkpoint(SAMPLE)
    model = onnx_model(
        fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused(), Variant("fp16", io=io, ffn=ffn)
    )
    path = tmp_path / "model.onnx"
    save_onnx(model, path)
    exact = read_image(PHOTOS / "coffee.png")[:, :, :37, :53]
    lr = np.ascontiguousarray(exact, dtype=np.float16 if io == "fp16" else np.float32)
    sr = _in_vapoursynth(path, lr, tmp_path)
    assert (sr.dtype, sr.shape) == (lr.dtype, (1, 3, 74, 106))
    expected = TorchRunner.from_checkpoint(checkpoint).run(exact)
    assert np.abs(sr.astype(np.float32) - expected).max() < TOLERANCES["fp16"].max_abs
