"""What a row of the precision table says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.half_precision import Conversion
    from aether_deploy.network.family import Roles

__all__ = ["Precision", "Tolerance"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The most that an artifact of one precision may differ from the network as it was trained.

    Attributes:
        max_abs: of a single value, in output units (1.0 is white).
        mean_abs: of a case's mean absolute error, in output units.
        min_psnr: dB between both outputs, peak 1.0.
        drawn: by how much errors may be larger on what is drawn (noise at full contrast, one-pixel stripes), whose
            activations are larger than those of any photo.
        relative: the limits grow with the outputs where those are larger than a picture's, as errors of float
            arithmetic do; false where what counts is a picture's levels.
    """

    max_abs: float
    mean_abs: float
    min_psnr: float
    drawn: float = 1.0
    relative: bool = False

    def scaled(self, factor: float) -> Tolerance:
        """Errors `factor` times as large, PSNR lower by as much."""
        return dataclasses.replace(
            self,
            max_abs=self.max_abs * factor,
            mean_abs=self.mean_abs * factor,
            min_psnr=self.min_psnr - 20 * math.log10(factor),
        )

    def for_drawn(self) -> Tolerance:
        """The row for noise and patterns."""
        return self.scaled(self.drawn)


@dataclass(frozen=True, slots=True)
class Precision:
    """A row of the table.

    Attributes:
        name: `fp16`, in options, file names and manifests.
        storage: ONNX's name of the type that weights are stored in.
        tensorrt: TensorRT's name of it.
        bytes: of a value.
        min_opset: the first in which ONNX has convolutions of that type.
        tolerance: by which a file is judged.
        least_capability: the first GPU generation that computes in it, as (8, 0); None if all do.
        convert: (fp32 graph, roles, io, islands) -> the graph in this precision, several for islands `auto`, the
            cheapest first; None where the fp32 graph is the file.
        wider: the precision to take where this one overflows.
        in_onnxruntime: whether ONNX Runtime's CPU provider has its operators.
    """

    name: str
    storage: str
    tensorrt: str
    bytes: int
    min_opset: int
    tolerance: Tolerance
    least_capability: tuple[int, int] | None = None
    convert: Callable[[ir.Model, Roles, str, str], Iterator[Conversion]] | None = None
    wider: str | None = None
    in_onnxruntime: bool = True

    @property
    def rounds(self) -> bool:
        """Whether results are rounded: such a file can have islands in fp32, and is executed as its types say."""
        return self.convert is not None
