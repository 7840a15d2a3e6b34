"""The forms that one network has as ONNX: precision, types at the ends, fp32 islands, FFN, opset.

from aether_deploy.variants import Variant, onnx_model

model = onnx_model(fused_network, spec, Variant("fp16", ffn="conv1x1"))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_deploy.arrays import Shape
from aether_deploy.errors import ExportError
from aether_deploy.graphs.channels_last_sum import ChannelsLastResidual
from aether_deploy.graphs.exporter import DEFAULT_OPSET, export_onnx
from aether_deploy.graphs.ffn_as_convolutions import ConvolutionalFFN
from aether_deploy.graphs.fold_norms import FoldedNorms
from aether_deploy.graphs.half_precision import AUTO, POLICIES, Conversion, to_half
from aether_deploy.graphs.passes import applied
from aether_deploy.graphs.shuffle_last import SubPixelTail
from aether_deploy.graphs.types import HALF, IO, MIN_OPSETS

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from aether_deploy.network.spec import NetworkSpec

__all__ = ["Variant", "conversions", "default_opset", "fp32_model", "in_form", "onnx_model"]


FFN_FORMS = ("linear", "conv1x1")


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of the network.

    Attributes:
        precision: fp32, fp16 or bf16.
        io: fp32 or fp16, the type at both ends; a file in fp32 has fp32.
        islands: what stays in fp32: a key of `precision.POLICIES`, or `auto`, which tries them.
        ffn: linear or conv1x1.
        opset: 17 to 23; bf16 needs 22.
        static: fixed (N, C, H, W) of the input; dynamic otherwise.
    """

    precision: str = "fp32"
    io: str = "fp32"
    islands: str = "default"
    ffn: str = "linear"
    opset: int = DEFAULT_OPSET
    static: Shape | None = None

    def __post_init__(self) -> None:
        """Raises ExportError for a value that there is not."""
        for name, value, allowed in (
            ("precision", self.precision, ("fp32", *HALF)),
            ("io", self.io, IO),
            ("islands", self.islands, (*POLICIES, AUTO)),
            ("ffn", self.ffn, FFN_FORMS),
        ):
            if value not in allowed:
                raise ExportError(f"{name} {value!r}; expected {', '.join(allowed)}")

    @property
    def tags(self) -> str:
        """What a file name says beyond precision and opset: only what differs from the default."""
        half = self.precision in HALF
        parts = (
            "_io16" if half and self.io == "fp16" else "",
            f"_islands-{self.islands}" if half and self.islands != "default" else "",
            "_ffn1x1" if self.ffn == "conv1x1" else "",
            f"_{'x'.join(map(str, self.static))}" if self.static else "",
        )
        return "".join(parts)

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies to try, from the cheapest to the safest."""
        return tuple(POLICIES) if self.islands == AUTO else (self.islands,)


def default_opset(precision: str) -> int:
    """The opset where none is asked for: 20, or the first that the precision can have."""
    return max(DEFAULT_OPSET, MIN_OPSETS.get(precision, 0))


def fp32_model(network: nn.Module, spec: NetworkSpec, variant: Variant) -> ir.Model:
    """The variant's graph before rounding: its opset, shapes and FFN, in fp32.

    Args:
        network: fused, in eval mode; is not changed.
        spec: of that network.
    Raises:
        ExportError: see `export_onnx` and `in_form`.
    """
    return in_form(export_onnx(network, spec, opset=variant.opset, static=variant.static), variant)


def in_form(exported: ir.Model, variant: Variant) -> ir.Model:
    """What the exporter gave in the variant's FFN, and in fp32 with fewer copies and folded norms; a copy.

    Raises:
        ExportError: see `applied`.
    """
    passes: list[ir.passes.PassBase] = [ConvolutionalFFN()] if variant.ffn == "conv1x1" else []
    # Measured on the CPU, which runs fp32; on a GPU not, and in half the tail's larger kernel would be an fp32 island.
    if variant.precision not in HALF:
        passes += [SubPixelTail(), ChannelsLastResidual(), FoldedNorms()]
    return applied(exported, *passes)


def conversions(graph: ir.Model, variant: Variant) -> Iterator[Conversion]:
    """What `fp32_model` gave, in the variant's half precision; more than one only for `auto`, cheapest first.

    Raises:
        ExportError: see `to_half`.
    """
    for policy in variant.policies:
        yield to_half(graph, variant.precision, io=variant.io, islands=policy)


def onnx_model(
    network: nn.Module, spec: NetworkSpec, variant: Variant, *, metadata: Mapping[str, str] | None = None
) -> ir.Model:
    """The network as one ONNX model in memory, not proved; `pipeline.export_model` writes proved ones.

    Args:
        network: fused, in eval mode; is not changed.
        spec: of that network.
        metadata: for `metadata_props`.
    Raises:
        ExportError: islands are `auto`, which takes measuring; or see `fp32_model` and `to_half`.
    """
    model = fp32_model(network, spec, variant)
    if variant.precision in HALF:
        if variant.islands == AUTO:
            raise ExportError(f"islands auto are found by measuring: use the pipeline, or name {', '.join(POLICIES)}")
        model = next(conversions(model, variant)).model
    model.metadata_props.update(metadata or {})
    return model
