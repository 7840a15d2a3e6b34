"""What can be asked of a file beside its precision."""

from __future__ import annotations

__all__ = ["AUTO", "FFN_FORMS", "IO", "POLICIES"]

# What half precision keeps in fp32, from the cheapest to the safest, which is the order in which `auto` tries
# them. norm: LayerNormalization, whose squares overflow fp16 from inputs of 256 on, at two casts each.
# tail: the last convolution, img_range and the mean, where one fp16 step is 0.125 of an 8-bit level.
# head: the mean's subtraction, where the input arrives in fp32: one cast less, and 5 dB on photos.
POLICIES: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "tail": frozenset({"tail"}),
    "all-norms": frozenset({"norm"}),
    "default": frozenset({"head", "norm", "tail"}),
}
AUTO = "auto"

# The types that a file may have at both ends -> ONNX's names of them.
IO = {"fp32": "FLOAT", "fp16": "FLOAT16"}

# The layers of a feed-forward network, for networks that have one.
FFN_FORMS = ("linear", "conv1x1")
