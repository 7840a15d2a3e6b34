"""fp16: 11 significant bits, up to 65504."""

from __future__ import annotations

from aether_deploy.precisions.precision import Precision, Tolerance

__all__ = ["FP16"]

FP16 = Precision(
    name="fp16",
    storage="FLOAT16",
    tensorrt="HALF",
    bytes=2,
    min_opset=17,
    # On photos half an 8-bit level, and 70 dB, whose root mean square error bounds the mean. With the default
    # islands, right files stay below 0.18 of a level and above 77 dB there; 0.36 and 69 dB on drawn inputs
    # (benchmarks/islands.py). Errors too small to be seen here are found before rounding: see `onnx_proof`.
    tolerance=Tolerance(max_abs=0.5 / 255, mean_abs=3.2e-4, min_psnr=70, drawn=2),
    half="FLOAT16",
    wider="bf16",
)
