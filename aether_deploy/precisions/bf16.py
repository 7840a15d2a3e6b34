"""bf16: 8 significant bits, fp32's range."""

from __future__ import annotations

from aether_deploy.precisions.precision import Precision, Tolerance

__all__ = ["BF16"]

BF16 = Precision(
    name="bf16",
    storage="BFLOAT16",
    tensorrt="BF16",
    bytes=2,
    # Conv takes bfloat16 from this opset on.
    min_opset=22,
    # Three significant bits fewer than fp16, so eight times each error.
    tolerance=Tolerance(max_abs=4 / 255, mean_abs=2.6e-3, min_psnr=52, drawn=2),
    least_capability=(8, 0),
    half="BFLOAT16",
    wider="fp32",
    in_onnxruntime=False,
)
