"""vs-mlrt's plugins for VapourSynth, each given one frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.readers.reader import MissingError, RefusedError

__all__ = ["ncnn", "ort", "ov", "through_vapoursynth"]


def ort(path: Path, lr: Array) -> Array:
    """ONNX Runtime on the CPU."""
    return through_vapoursynth("ort", path, lr, provider="")


def ov(path: Path, lr: Array) -> Array:
    """OpenVINO on the CPU."""
    return through_vapoursynth("ov", path, lr, device="CPU")


def ncnn(path: Path, lr: Array) -> Array:
    """ncnn through Vulkan, with the plugin's own converter from ONNX."""
    return through_vapoursynth("ncnn", path, lr, fp16=0)


def through_vapoursynth(plugin: str, path: Path, lr: Array, **options: Any) -> Array:
    """(1, 3, H, W) through one plugin, in half precision if the array is.

    VapourSynth keeps a core for the process: call it once in a process.

    Raises:
        MissingError: VapourSynth or the plugin is not installed.
        RefusedError: the plugin does not take the file.
    """
    try:
        import vapoursynth as vs
    except ImportError as error:
        raise MissingError(str(error)) from error
    model = getattr(vs.core, plugin, None)
    if model is None:
        raise MissingError(f"VapourSynth has no plugin {plugin}")
    if lr.shape[1] != 3:
        raise RefusedError(f"a network of {lr.shape[1]} channels; VapourSynth's clips have 3")
    kind = vs.RGBH if lr.dtype == np.float16 else vs.RGBS
    clip = vs.core.std.BlankClip(format=kind, width=lr.shape[3], height=lr.shape[2], length=1)

    def fill(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            np.asarray(frame[plane])[:] = lr[0, plane]
        return frame

    try:
        frame = model.Model(clip.std.ModifyFrame(clip, fill), network_path=str(path), **options).get_frame(0)
    except vs.Error as error:
        raise RefusedError(str(error)) from error
    found: Array = np.stack([np.asarray(frame[plane]) for plane in range(3)])[None]
    return found
