"""One form of a network as ONNX: precision, types of input and output, fp32 islands, FFN, opset, shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import ExportError
from aether_deploy.graphs.opsets import DEFAULT_OPSET, OPSETS
from aether_deploy.precisions.choices import AUTO, FFN_FORMS, IO, MIRROR, POLICIES
from aether_deploy.precisions.precision import Precision
from aether_deploy.precisions.table import PRECISIONS

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape

__all__ = ["Variant", "variants"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a network, complete: defaults are filled in.

    Attributes:
        precision: a key of `PRECISIONS`.
        io: fp32 or fp16, the type of input and output; always fp32 but for half precision.
        islands: what stays in fp32: a key of `choices.POLICIES`, or `auto`, which tries them in order; always
            `default` but for half precision.
        ffn: linear or conv1x1.
        opset: 17 to 23; 0 means 20, or the precision's first if that is higher.
        static: fixed (N, C, H, W) of the input; None if it is dynamic.
        pad: whether a network that asks for certain sizes mirrors and crops other ones inside the file.
    Raises:
        ExportError: a value that is not offered.
    """

    precision: str = "fp32"
    io: str = "fp32"
    islands: str = "default"
    ffn: str = "linear"
    opset: int = 0
    static: Shape | None = None
    pad: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("io", self.io, IO),
            ("islands", self.islands, (*POLICIES, AUTO)),
            ("ffn", self.ffn, FFN_FORMS),
        ):
            if value not in allowed:
                raise ExportError(f"{name} {value!r}; expected {', '.join(allowed)}")
        least = self.row.min_opset
        if not self.opset:
            object.__setattr__(self, "opset", max(DEFAULT_OPSET, least))
        if self.row.quantizes and self.ffn != "linear":
            raise ExportError(f"{self.precision} is for linear layers; leave --ffn {self.ffn} out")
        if self.opset not in OPSETS:
            raise ExportError(f"opset {self.opset}; expected {OPSETS.start} to {OPSETS.stop - 1}")
        if self.opset < least:
            raise ExportError(f"opset {self.opset} has no {self.precision} convolution; give --opset {least} or above")
        if self.static is not None and self.pad:
            raise ExportError("a fixed shape and --pad, which is for any: leave --static or --pad out")
        if not self.row.half:
            object.__setattr__(self, "io", "fp32")
            object.__setattr__(self, "islands", "default")

    @property
    def row(self) -> Precision:
        """Its row of the precision table."""
        return PRECISIONS[self.precision]

    @property
    def tags(self) -> str:
        """The part of a file name beyond precision and opset: only what differs from the defaults."""
        parts = (
            "_io16" if self.io == "fp16" else "",
            f"_islands-{self.islands}" if self.islands != "default" else "",
            "_ffn1x1" if self.ffn == "conv1x1" else "",
            f"_{'x'.join(map(str, self.static))}" if self.static else "",
            "_pad" if self.pad else "",
        )
        return "".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Its entries in a manifest and an ONNX file's metadata, where shape and islands have fields of their own."""
        padding = {"pad": MIRROR} if self.pad else {}
        return {"precision": self.precision, "io": self.io, "ffn": self.ffn, **padding}


def variants(precisions: Iterable[str] = ("fp32",), **choices: Any) -> tuple[Variant, ...]:
    """A variant for each different precision, with the same other choices.

    Args:
        precisions: keys of `PRECISIONS`.
        choices: `io`, `islands`, `ffn`, `opset`, `static` and `pad`, see `Variant`.
    Raises:
        ExportError: a value that is not offered, or `io` or `islands` without any half precision.
    """
    found = tuple(Variant(precision, **choices) for precision in dict.fromkeys(precisions))
    asked = (choices.get("io", "fp32"), choices.get("islands", "default"))
    if asked != ("fp32", "default") and not any(variant.row.half for variant in found):
        halves = " or ".join(name for name, row in PRECISIONS.items() if row.half)
        raise ExportError(f"--io and --islands are for half precision; add --precision {halves}, or leave them out")
    return found
