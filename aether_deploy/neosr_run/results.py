"""What a neosr test run left behind: saved images, caught floats, printed metrics."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aether_deploy.errors import NeosrError
from aether_deploy.neosr_run.neosr import Receipt

__all__ = ["Floats", "Pixels", "name_floats", "printed_metrics", "saved_images"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]


def saved_images(results: Path, run_name: str) -> dict[str, Pixels]:
    """Image name -> what neosr saved, (H, W, 3); of several datasets, `<dataset>/<image>`."""
    # 1.0.0 saves the LQ images too, in folders beside.
    found = sorted(results.rglob(f"*_{run_name}.png"))
    several = len({path.parent for path in found}) > 1
    named = {}
    for path in found:
        stem = path.stem.removesuffix(f"_{run_name}")
        with Image.open(path) as image:
            named[f"{path.parent.name}/{stem}" if several else stem] = np.asarray(image.convert("RGB"))
    return named


def name_floats(caught: Path, saved: dict[str, Pixels], receipt: Receipt) -> dict[str, tuple[Floats, Floats]]:
    """Image name -> (input, output) floats; an output belongs to the PNG that it becomes when rounded.

    Raises:
        NeosrError: an output without its PNG, or a PNG without its output.
    """
    by_content: dict[bytes, list[str]] = defaultdict(list)
    for name, pixels in saved.items():
        by_content[_digest(pixels)].append(name)
    named = {}
    for index in range(receipt.forwards):
        entered, left = (np.load(caught / f"{side}_{index:05d}.npy", mmap_mode="r") for side in ("input", "output"))
        pixels = np.rint(np.clip(left[0].transpose(1, 2, 0), 0, 1) * 255).astype(np.uint8)
        names = by_content[_digest(pixels)]
        if not names:
            raise NeosrError(f"what neosr saved is not what its network put out in forward pass {index}")
        named[names.pop(0)] = (entered, left)
    if len(named) != len(saved):
        raise NeosrError(f"neosr saved {len(saved)} images, but its network ran {len(named)} times")
    return named


def printed_metrics(log: Path) -> dict[str, str]:
    """Metric -> value as neosr's log has it. 1.0.0 adds 1 to each; these are shown, never used."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    return dict(re.findall(r"# (\w+): (-?\d+\.\d{4}|inf|nan)", text))


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
