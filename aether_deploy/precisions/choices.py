"""The choices for a file besides its precision."""

from __future__ import annotations

__all__ = ["AUTO", "FFN_FORMS", "IO", "MIRROR", "POLICIES", "TRIED"]

# What half precision keeps in fp32, from the cheapest to the safest.
# norm: LayerNormalization, whose squares overflow fp16 for inputs of 256 and more; costs two casts each.
# tail: the last convolution, img_range and the mean, where one fp16 step is 0.125 of an 8-bit level.
# head: the mean's subtraction, if the input arrives in fp32: one cast fewer, and 5 dB on photos.
# ends: head and tail cause half of fp16's error and more, for no cast at all (benchmarks/README.md).
POLICIES: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "tail": frozenset({"tail"}),
    "ends": frozenset({"head", "tail"}),
    "all-norms": frozenset({"norm"}),
    "default": frozenset({"head", "norm", "tail"}),
}
AUTO = "auto"
# What `auto` tries, in this order. Not tail: ends has one cast fewer and errs less.
TRIED = ("none", "ends", "all-norms", "default")

# Type of input and output -> ONNX's name for it.
IO = {"fp32": "FLOAT", "fp16": "FLOAT16"}

# The forms of a feed-forward network's layers, for networks that have one.
FFN_FORMS = ("linear", "conv1x1")

# How a file with `pad` enlarges what its network would not take.
MIRROR = "mirror"
