"""How the graph of each variant is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from aether_deploy.errors import ExportError
from aether_deploy.graphs.any_size import AnySize
from aether_deploy.graphs.exporter import export_onnx
from aether_deploy.graphs.passes import AFTER_8_BITS, PASSES, applied
from aether_deploy.network.families import family_of
from aether_deploy.precisions.choices import AUTO, IO, POLICIES, TRIED
from aether_deploy.precisions.variant import Variant

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from aether_deploy.arrays import Shape
    from aether_deploy.graphs.conversion import Conversion
    from aether_deploy.network.family import NetworkSpec

__all__ = ["Exported", "conversions", "fp32_model", "in_form", "onnx_model"]

# (opset, static shape) -> the exporter's graph.
type Exported = dict[tuple[int, Shape | None], ir.Model]


def fp32_model(network: nn.Module, spec: NetworkSpec, variant: Variant, exported: Exported | None = None) -> ir.Model:
    """The variant's graph before rounding: its opset, shapes, FFN and padding, in fp32.

    Args:
        network: fused, in eval mode; not changed.
        spec: of that network.
        variant: the form.
        exported: what the exporter gave for this network so far, to which is added: variants of one opset and shape
            share it.
    Raises:
        ExportError: see `export_onnx` and `in_form`.
    """
    known, key = {} if exported is None else exported, (variant.opset, variant.static)
    if key not in known:
        known[key] = export_onnx(network, spec, opset=variant.opset, static=variant.static)
    return in_form(known[key], spec, variant)


def in_form(exported: ir.Model, spec: NetworkSpec, variant: Variant) -> ir.Model:
    """A copy of the exported graph with the variant's FFN and padding and, for fp32, the family's passes applied.

    Raises:
        ExportError: see `applied`.
    """
    names = ["ffn_as_convolutions"] if variant.ffn == "conv1x1" else []
    # Measured on the CPU in fp32, not on a GPU; in half precision the tail's larger kernel would be an fp32 island.
    if not variant.row.half:
        names += family_of(spec).passes
    if variant.row.quantizes:
        names = [name for name in names if name not in AFTER_8_BITS]
    passes: list[ir.passes.PassBase] = [PASSES[name]() for name in names]
    if variant.pad:
        passes.append(AnySize(spec.sizes, spec.scale))
    return applied(exported, *passes)


def conversions(graph: ir.Model, spec: NetworkSpec, variant: Variant) -> Iterator[Conversion]:
    """A graph in fp32, strongly typed in the variant's half precision; several only for islands `auto`, cheapest first.

    Args:
        graph: of `fp32_model`, or with layers in 8 bits; not changed.
        spec: of the network.
        variant: the form.
    Raises:
        ExportError: see `to_half`.
    """
    import onnx_ir as ir

    from aether_deploy.graphs.half_precision import to_half

    for policy in TRIED if variant.islands == AUTO else (variant.islands,):
        yield to_half(
            graph,
            ir.DataType[variant.row.half],
            name=variant.precision,
            roles=family_of(spec).roles,
            policy=policy,
            kept=POLICIES[policy],
            io=ir.DataType[IO[variant.io]],
        )


def onnx_model(
    network: nn.Module, spec: NetworkSpec, variant: Variant, *, metadata: Mapping[str, str] | None = None
) -> ir.Model:
    """The network as one ONNX model in memory, unproved; `export_model` writes proved files.

    Args:
        network: fused, in eval mode; not changed.
        spec: of that network.
        variant: the form.
        metadata: for `metadata_props`.
    Raises:
        ExportError: islands `auto` or 8 bits, which need measuring; or see `fp32_model` and `conversions`.
    """
    model = fp32_model(network, spec, variant)
    if variant.row.rounds:
        if variant.row.quantizes:
            raise ExportError(f"{variant.precision} is found by measuring: use export_model")
        if variant.islands == AUTO:
            raise ExportError(f"islands auto are found by measuring: use export_model, or name {', '.join(POLICIES)}")
        model = next(conversions(model, spec, variant)).model
    model.metadata_props.update(metadata or {})
    return model
