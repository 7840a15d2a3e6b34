"""The output of a neosr test run: saved images, captured floats, printed metrics."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from aether_deploy.arrays import Array, Pixels, quantize
from aether_deploy.errors import NeosrError
from aether_deploy.neosr_run.neosr import Receipt

__all__ = ["name_floats", "printed_metrics", "saved_images"]


def saved_images(results: Path, run_name: str) -> dict[str, Pixels]:
    """Image name -> what neosr saved, (H, W, 3) uint8; `<dataset>/<image>` if there are several datasets."""
    # neosr 1.0.0 also saves the LQ images, in sibling folders.
    found = sorted(results.rglob(f"*_{run_name}.png"))
    several = len({path.parent for path in found}) > 1
    named = {}
    for path in found:
        stem = path.stem.removesuffix(f"_{run_name}")
        with Image.open(path) as image:
            named[f"{path.parent.name}/{stem}" if several else stem] = np.asarray(image.convert("RGB"))
    return named


def name_floats(caught: Path, saved: dict[str, Pixels], receipt: Receipt) -> dict[str, tuple[Array, Array]]:
    """Image name -> (input, output), float32 (1, 3, H, W); an output belongs to the PNG that it rounds to.

    Raises:
        NeosrError: an output without its PNG, or a PNG without its output.
    """
    by_content: dict[bytes, list[str]] = defaultdict(list)
    for name, pixels in saved.items():
        by_content[_digest(pixels)].append(name)
    named = {}
    for index in range(receipt.forwards):
        entered, left = (np.load(caught / f"{side}_{index:05d}.npy", mmap_mode="r") for side in ("input", "output"))
        pixels = quantize(left[0].transpose(1, 2, 0))
        names = by_content[_digest(pixels)]
        if not names:
            raise NeosrError(f"forward pass {index}: no image that neosr saved matches the network's output")
        named[names.pop(0)] = (entered, left)
    if len(named) != len(saved):
        raise NeosrError(f"neosr saved {len(saved)} images, but its network ran {len(named)} times")
    return named


def printed_metrics(log: Path) -> dict[str, str]:
    """Metric -> value as in neosr's log. neosr 1.0.0 adds 1 to each; these are shown, never used."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    return dict(re.findall(r"# (\w+): (-?\d+\.\d{4}|inf|nan)", text))


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
