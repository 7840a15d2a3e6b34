"""The fields of a row of the precision table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Precision", "Tolerance"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an artifact of one precision may differ from the network as it was trained.

    Attributes:
        max_abs: largest error of a single value, in output units (1.0 is white).
        mean_abs: largest mean absolute error of a case, in output units.
        min_psnr: least PSNR between the two outputs, in dB, peak 1.0.
        drawn: factor by which errors may be larger on drawn inputs (noise at full contrast, one-pixel stripes), whose
            activations are larger than those of any photo.
        relative: whether the limits grow with outputs larger than a picture's, as float errors do; False where
            a picture's levels are what counts.
        p999_abs: largest error but for one value in a thousand, in output units; 0 stands for `max_abs`.
    """

    max_abs: float
    mean_abs: float
    min_psnr: float
    drawn: float = 1.0
    relative: bool = False
    p999_abs: float = 0.0

    def scaled(self, factor: float) -> Tolerance:
        """Limits for errors `factor` times as large, and a PSNR lower by as much."""
        return dataclasses.replace(
            self,
            max_abs=self.max_abs * factor,
            mean_abs=self.mean_abs * factor,
            p999_abs=self.p999_abs * factor,
            min_psnr=self.min_psnr - 20 * math.log10(factor),
        )

    def for_drawn(self) -> Tolerance:
        """The limits for noise and patterns."""
        return self.scaled(self.drawn)


@dataclass(frozen=True, slots=True)
class Precision:
    """A row of the precision table.

    Attributes:
        name: in options, file names and manifests, such as `fp16`.
        storage: ONNX's name for the type of the weights.
        tensorrt: TensorRT's name for it.
        bytes: per value between layers.
        min_opset: the first opset in which ONNX has convolutions of that type.
        tolerance: by which a file is judged.
        least_capability: the first GPU generation that computes in it, such as (8, 0); None if all do.
        half: ONNX's name for the two-byte type in which all computes but fp32 islands and layers in 8 bits; "" if none.
            Such a file is executed as its types say.
        quantizes: which linear layers compute in 8-bit integers, `normed` (those behind a norm) or `all`; "" if none.
        max_lost: the most PSNR against ground truth that may be lost on a photo, in dB; None if it is not measured.
        wider: the precision to use where this one overflows.
        in_onnxruntime: whether ONNX Runtime's CPU provider computes in it.
    """

    name: str
    storage: str
    tensorrt: str
    bytes: int
    min_opset: int
    tolerance: Tolerance
    least_capability: tuple[int, int] | None = None
    half: Literal["", "FLOAT16", "BFLOAT16"] = ""
    quantizes: Literal["", "normed", "all"] = ""
    max_lost: float | None = None
    wider: str | None = None
    in_onnxruntime: bool = True

    @property
    def rounds(self) -> bool:
        """Whether results are rounded: such a file is proved in two steps, before and after."""
        return bool(self.half or self.quantizes)
