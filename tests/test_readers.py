"""The files in the hands of those who read them: vs-mlrt's ONNX Runtime plugin for VapourSynth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aether_deploy import pipeline
from aether_deploy.checkpoint import load_checkpoint
from aether_deploy.images import PHOTOS, read_image
from aether_deploy.runners import OnnxRunner
from tests.conftest import SAMPLE

# VapourSynth keeps a core for the process, so each run has one of its own.
_SCRIPT = """
import json, sys
import numpy as np
import vapoursynth as vs

model, source, target = sys.argv[1:]
lr = np.load(source)
height, width = lr.shape[2:]
core = vs.core
clip = core.std.BlankClip(format=vs.RGBS, width=width, height=height, length=1)

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


@pytest.mark.parametrize("crop", [(48, 64), (37, 53)])
def test_vs_mlrt_takes_the_file_as_it_is(tmp_path: Path, crop: tuple[int, int]) -> None:
    (artifact,) = pipeline.export_model(load_checkpoint(SAMPLE), pipeline.ExportOptions(output=tmp_path))
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, : crop[0], : crop[1]])
    np.save(tmp_path / "lr.npy", lr)
    words = [sys.executable, "-c", _SCRIPT, artifact.path, tmp_path / "lr.npy", tmp_path / "sr.npy"]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {"format": "RGBS", "width": crop[1] * 2, "height": crop[0] * 2}
    # The plugin brings its own ONNX Runtime: float32 arithmetic in another order, no more.
    assert np.abs(np.load(tmp_path / "sr.npy") - OnnxRunner(artifact.path).run(lr)).max() < 2e-6
