"""The packaged sample: a small AetherNet that was trained in neosr, and photos that it never saw (see README.md)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PHOTOS", "SAMPLE"]

_FOLDER = Path(__file__).resolve().parent

SAMPLE = _FOLDER / "2x_aether_sample.pth"

# Crops of scikit-image's photos; README.md names their authors and licences.
PHOTOS = _FOLDER / "photos"
