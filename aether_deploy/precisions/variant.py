"""One form of a network as ONNX: precision, types at the ends, fp32 islands, FFN, opset, shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import ExportError
from aether_deploy.graphs.opsets import DEFAULT_OPSET, OPSETS
from aether_deploy.precisions.choices import AUTO, FFN_FORMS, IO, POLICIES
from aether_deploy.precisions.precision import Precision
from aether_deploy.precisions.table import PRECISIONS

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape

__all__ = ["Variant", "variants"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a network, complete: what is left to a default is filled in.

    Attributes:
        precision: a row of `PRECISIONS`.
        io: fp32 or fp16, the type at both ends; a file in fp32 has fp32.
        islands: what stays in fp32: a key of `choices.POLICIES`, or `auto`, which tries them; of fp32 `default`.
        ffn: linear or conv1x1.
        opset: 17 to 23; 0 is 20, or the first that the precision can have.
        static: fixed (N, C, H, W) of the input; dynamic otherwise.
    Raises:
        ExportError: a value that is not offered.
    """

    precision: str = "fp32"
    io: str = "fp32"
    islands: str = "default"
    ffn: str = "linear"
    opset: int = 0
    static: Shape | None = None

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
        if self.opset not in OPSETS:
            raise ExportError(f"opset {self.opset}; expected {OPSETS.start} to {OPSETS.stop - 1}")
        if self.opset < least:
            raise ExportError(f"opset {self.opset} has no {self.precision} convolution; give --opset {least} or above")
        if not self.row.rounds:
            object.__setattr__(self, "io", "fp32")
            object.__setattr__(self, "islands", "default")

    @property
    def row(self) -> Precision:
        """Of the precision table."""
        return PRECISIONS[self.precision]

    @property
    def tags(self) -> str:
        """What a file name says beyond precision and opset: only what differs from the default."""
        parts = (
            "_io16" if self.io == "fp16" else "",
            f"_islands-{self.islands}" if self.islands != "default" else "",
            "_ffn1x1" if self.ffn == "conv1x1" else "",
            f"_{'x'.join(map(str, self.static))}" if self.static else "",
        )
        return "".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """What a manifest and an ONNX file's metadata say of it; shape and islands have fields of their own there."""
        return {"precision": self.precision, "io": self.io, "ffn": self.ffn}


def variants(precisions: Iterable[str] = ("fp32",), **choices: Any) -> tuple[Variant, ...]:
    """A variant for each precision, once, with the same choices otherwise.

    Args:
        precisions: rows of `PRECISIONS`.
        choices: `io`, `islands`, `ffn`, `opset` and `static`, see `Variant`.
    Raises:
        ExportError: a value that is not offered, or ends and islands where nothing is in half precision.
    """
    found = tuple(Variant(precision, **choices) for precision in dict.fromkeys(precisions))
    asked = (choices.get("io", "fp32"), choices.get("islands", "default"))
    if asked != ("fp32", "default") and not any(variant.row.rounds for variant in found):
        halves = " or ".join(name for name, row in PRECISIONS.items() if row.rounds)
        raise ExportError(f"--io and --islands are for half precision; add --precision {halves}, or leave them out")
    return found
