"""Checks that a half-precision graph is its fp32 graph and nothing else, which no gate on its outputs can see.

Weights truncated instead of rounded, a kernel that went through bf16 or a GELU by tanh stay within fp16's gate, since
they err no more than rounding itself. So the graph is compared, by code that shares nothing with what made it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch

from aether_deploy.errors import ExportError
from aether_deploy.graphs.types import tensor_types
from aether_deploy.network.family import Roles

__all__ = ["require_only_rounded"]

_FLOATING = {kind.value for kind in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)}
_TORCH = {ir.DataType.FLOAT16: torch.float16, ir.DataType.BFLOAT16: torch.bfloat16}


def require_only_rounded(
    before: ir.Model, after: ir.Model, half: ir.DataType, *, roles: Roles, kept: frozenset[str]
) -> None:
    """Compares every initializer bit for bit, and every node except Casts between such types; changes nothing.

    Args:
        before: the fp32 graph.
        after: the half-precision graph made from it.
        half: the type of everything outside the fp32 islands.
        roles, kept: which operators must compute in fp32, see `to_half`.
    Raises:
        ExportError: the graphs differ by more than the rounding; the message names the first difference.
    """
    for name in sorted(before.graph.initializers.keys() ^ after.graph.initializers.keys()):
        raise ExportError(f"the half-precision graph differs from the fp32 one: initializer {name}")
    for name, value in before.graph.initializers.items():
        _require_rounded(name, value, after.graph.initializers[name], half)
    types, numbers = tensor_types(after.graph), tensor_types(before.graph)
    old, new = list(before.graph), [node for node in after.graph if not _rounds(node, types)]
    if len(old) != len(new):
        raise ExportError(f"the half-precision graph has {len(new)} operators, the fp32 one {len(old)}")
    of_the_image = _of_the_image(before.graph.outputs[0], numbers)
    for node, made, island in zip(old, new, _islands(old, roles, kept), strict=True):
        if _described(node) != _described(made):
            raise ExportError(f"{made.op_type} {made.name} is not the fp32 graph's {node.op_type} {node.name}")
        if node.outputs[0] not in numbers:
            continue  # sizes and places, in integers
        wanted = ir.DataType.FLOAT if island or node not in of_the_image else half
        if types[made.outputs[0]] != wanted:
            seen = types[made.outputs[0]].name
            raise ExportError(f"{made.op_type} {made.name} computes in {seen}, {wanted.name} was asked for")
    for node in after.graph:
        source = node.inputs[0] if node.inputs else None
        producer = None if source is None else source.producer()
        if node.op_type == "Cast" and producer is not None and producer.op_type == "Cast":
            raise ExportError(f"Cast {node.outputs[0].name} rounds what Cast {producer.outputs[0].name} gives")
    ends = [_source(model.graph.outputs[0]) for model in (before, after)]
    if ends[0] != ends[1].removesuffix("_uncast"):
        raise ExportError(f"the half-precision graph ends in {ends[1]}, the fp32 one in {ends[0]}")


def _require_rounded(name: str, before: ir.Value, after: ir.Value, half: ir.DataType) -> None:
    assert before.const_value is not None and after.const_value is not None
    exact = np.array(before.const_value.numpy())
    stored = after.const_value
    if stored.dtype == half:
        # Rounded by torch, not by the code that made the graph.
        expected = torch.from_numpy(exact).to(_TORCH[half]).view(torch.int16).numpy().tobytes()
    else:
        expected = exact.tobytes()
    if stored.dtype not in (half, before.dtype) or stored.tobytes() != expected:
        raise ExportError(f"{name} is not the fp32 graph's value, rounded to {stored.dtype.name}")


def _rounds(node: ir.Node, types: dict[ir.Value, ir.DataType]) -> bool:
    """Whether it is a Cast from one floating-point type to another."""
    return node.op_type == "Cast" and node.inputs[0] in types and node.outputs[0] in types


def _of_the_image(end: ir.Value, numbers: dict[ir.Value, ir.DataType]) -> set[ir.Node]:
    """What computes the image in floats; other floats are sizes and places, which stay in fp32."""
    found: set[ir.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            # What is dequantized is an image in 8 bits.
            eight_bits = node.op_type == "DequantizeLinear"
            waiting += [value for value in node.inputs if value is not None and (value in numbers or eight_bits)]
    return found


def _islands(nodes: list[ir.Node], roles: Roles, kept: frozenset[str]) -> Iterator[bool]:
    """Whether each node must compute in fp32, by its type and its place before, between or after the convolutions."""
    ends = [number for number, node in enumerate(nodes) if node.op_type == roles.ends]
    for number, node in enumerate(nodes):
        part = "norm" if node.op_type in roles.norm or _of_a_length(node, roles) else "body"
        if not ends or number < ends[0]:
            part = "head"
        elif number >= ends[-1]:
            part = "tail"
        yield part in kept


def _of_a_length(node: ir.Node | None, roles: Roles, *, divides: bool = True) -> bool:
    """Whether it measures a length, leads from there to a division, or is that division."""
    if node is None or node.op_type in roles.lengths:
        return node is not None
    place = {"Clip": 0, "Max": 0, "Expand": 0, "Div": 1}.get(node.op_type)
    if place is None or (node.op_type == "Div" and not divides):
        return False
    value = node.inputs[place]
    return value is not None and _of_a_length(value.producer(), roles, divides=False)


def _described(node: ir.Node) -> tuple[object, ...]:
    """Type, attributes, inputs and outputs of a node, as if there were no Casts."""
    attributes = {name: item.value for name, item in node.attributes.items() if isinstance(item, ir.Attr)}
    if node.op_type == "Cast" and attributes["to"] in _FLOATING:
        del attributes["to"]  # compared as the type of its result
    outputs = [str(value.name).removesuffix("_uncast") for value in node.outputs]
    return node.domain, node.op_type, str(attributes), [_source(value) for value in node.inputs], outputs


def _source(value: ir.Value | None) -> str:
    """The name of a value, traced back through any Casts; "" if there is none."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Cast":
        (value,) = node.inputs
    return "" if value is None else str(value.name)
