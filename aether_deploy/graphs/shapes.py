"""The names and shapes of a file's input and output."""

from __future__ import annotations

from aether_deploy.arrays import Shape

__all__ = ["DYNAMIC_SHAPES", "INPUT", "OUTPUT", "dynamic_shapes", "static_shapes"]

INPUT, OUTPUT = "input", "output"
# Distinct names: with the same ones at both ends of a 2x model, ONNX Runtime reuses a buffer of the wrong size.
DYNAMIC_SHAPES: dict[str, list[str | int]] = {
    INPUT: ["batch", 3, "height", "width"],
    OUTPUT: ["batch", 3, "out_height", "out_width"],
}


def static_shapes(shape: Shape, scale: int) -> dict[str, list[str | int]]:
    """Shapes of input and output for a fixed input (N, C, H, W)."""
    n, c, h, w = shape
    return {INPUT: [n, c, h, w], OUTPUT: [n, c, h * scale, w * scale]}


def dynamic_shapes(in_chans: int) -> dict[str, list[str | int]]:
    """Shapes of input and output, with names for the dynamic dimensions."""
    return {name: [dims[0], in_chans, *dims[2:]] for name, dims in DYNAMIC_SHAPES.items()}
