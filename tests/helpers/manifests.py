"""Parts of manifests, as they are written."""

from __future__ import annotations

from typing import Any

SHA256 = "0123456789abcdef" * 4
FIGURES: dict[str, Any] = {
    "max_abs": 1e-6,
    "mean_abs": 1e-7,
    "psnr": None,
    "max_level": 0,
    "levels_share": 0.0,
    "nan": 0,
    "inf": 0,
}
PARITY: dict[str, Any] = {
    "gate": "fp16",
    "passed": True,
    "tolerance": {"max_abs": 0.002, "mean_abs": 0.0003, "min_psnr": 70, "drawn": 2, "relative": False},
    "worst": "noise",
    "figures": FIGURES,
    "cases": [{"case": "noise", "failure": "", **FIGURES}],
}
SOURCE = {"file": "a.pth", "sha256": SHA256, "param_key": "params", "form": "unfused"}
