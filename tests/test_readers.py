"""The files in the hands of those who read them: vs-mlrt's ONNX Runtime plugin for VapourSynth."""

from __future__ import annotations

import json
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
import json, sys
import numpy as np
import vapoursynth as vs

model, source, target = sys.argv[1:]
lr = np.load(source)
height, width = lr.shape[2:]
core = vs.core
clip = core.std.BlankClip(format=vs.RGBH if lr.dtype == np.float16 else vs.RGBS, width=width, height=height, length=1)

def fill(n, f):
    frame = f.copy()
    for plane in range(3):
        np.asarray(frame[plane])[:] = lr[0, plane]
    return frame

clip = clip.std.ModifyFrame(clip, fill)
frame = core.ort.Model(clip, network_path=model, provider="").get_frame(0)
np.save(target, np.stack([np.asarray(frame[plane]) for plane in range(3)])[None])
print(json.dumps({"format": frame.format.name, "width": frame.width, "height": frame.height}))
"""


def _in_vapoursynth(model: Path, lr: Any, folder: Path) -> tuple[dict[str, Any], Any]:
    """What vs-mlrt gives for one frame: {format, width, height} and (1, 3, H, W)."""
    np.save(folder / "lr.npy", lr)
    words = [sys.executable, "-c", _SCRIPT, model, folder / "lr.npy", folder / "sr.npy"]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), np.load(folder / "sr.npy")


@pytest.mark.parametrize("crop", [(48, 64), (37, 53)])
def test_vs_mlrt_takes_the_file_as_it_is(tmp_path: Path, crop: tuple[int, int]) -> None:
    (artifact,) = pipeline.export_model(load_checkpoint(SAMPLE), ExportOptions(output=tmp_path))
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, : crop[0], : crop[1]])
    frame, sr = _in_vapoursynth(artifact.path, lr, tmp_path)
    assert frame == {"format": "RGBS", "width": crop[1] * 2, "height": crop[0] * 2}
    # The plugin brings its own ONNX Runtime: float32 arithmetic in another order, no more.
    assert np.abs(sr - OnnxRunner(artifact.path).run(lr)).max() < 2e-6


@pytest.mark.long
def test_vs_mlrt_takes_8_bits(tmp_path: Path) -> None:
    options = ExportOptions(variants=(Variant("int8-fast"),), output=tmp_path)
    (artifact,) = pipeline.export_model(load_checkpoint(SAMPLE), options)
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, :48, :64])
    frame, sr = _in_vapoursynth(artifact.path, lr, tmp_path)
    assert frame["format"] == "RGBS"
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
    frame, sr = _in_vapoursynth(path, lr, tmp_path)
    assert frame == {"format": "RGBH" if io == "fp16" else "RGBS", "width": 106, "height": 74}
    assert sr.dtype == lr.dtype
    expected = TorchRunner.from_checkpoint(checkpoint).run(exact)
    assert np.abs(sr.astype(np.float32) - expected).max() < TOLERANCES["fp16"].max_abs
