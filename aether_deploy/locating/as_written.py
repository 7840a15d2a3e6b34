"""What differs in a layer, as it is written in two graphs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest

import numpy as np
import onnx_ir as ir

from aether_deploy.graphs.sites import upstream
from aether_deploy.graphs.types import tensor_types
from aether_deploy.text import printable

__all__ = ["difference"]


def difference(right: ir.Model, made: ir.Model, site: str, cuts: Collection[str]) -> tuple[ir.Node, str] | None:
    """The operator that differs between what computes a site in both graphs, and how; None if both are written alike.

    Args:
        right: the graph as it should be.
        made: the graph as it is.
        site: name of the tensor.
        cuts: names of the tensors that what computes it begins at.
    """
    types = tensor_types(right.graph), tensor_types(made.graph)
    for expected, seen in zip_longest(_steps(right, site, cuts), _steps(made, site, cuts)):
        if expected is None or seen is None:
            surplus = seen if expected is None else expected
            return surplus, f"{surplus.op_type} {'added' if expected is None else 'missing'}"
        if expected.op_type != seen.op_type:
            return seen, f"{seen.op_type}, {expected.op_type} expected"
        if found := _attributes(expected, seen) or _constants(expected, seen):
            return seen, found
        kinds = [kind.get(node.outputs[0]) for kind, node in zip(types, (expected, seen), strict=True)]
        if kinds[0] != kinds[1]:
            return seen, f"computed in {_kind(kinds[1])}, {_kind(kinds[0])} expected"
    return None


def _steps(model: ir.Model, site: str, cuts: Collection[str]) -> Iterator[ir.Node]:
    for value in [value for node in model.graph for value in node.outputs if value.name == site]:
        yield from upstream(value, cuts)


def _attributes(expected: ir.Node, seen: ir.Node) -> str:
    texts = [
        {name: _shown(item.value) for name, item in node.attributes.items() if isinstance(item, ir.Attr)}
        for node in (expected, seen)
    ]
    for name in dict.fromkeys([*texts[0], *texts[1]]):
        before, after = (text.get(name, "not given") for text in texts)
        if before != after:
            return f"{name} {printable(after, longest=40)}, {printable(before, longest=40)} expected"
    return ""


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _constants(expected: ir.Node, seen: ir.Node) -> str:
    for before, after in zip_longest(expected.inputs, seen.inputs):
        wanted, stored = (None if value is None else value.const_value for value in (before, after))
        if wanted is None and stored is None:
            continue
        name = printable((after or before).name, longest=80)  # type: ignore[union-attr]  # one of both is there
        if wanted is None or stored is None:
            return f"{name} {'added' if wanted is None else 'missing'}"
        if wanted.dtype != stored.dtype:
            return f"{name} stored in {stored.dtype.name}, {wanted.dtype.name} expected"
        values = wanted.numpy(), stored.numpy()
        if values[0].shape != values[1].shape:
            return f"{name} is {values[1].shape}, {values[0].shape} expected"
        if count := int(np.count_nonzero(values[0].astype(np.float64) != values[1].astype(np.float64))):
            return f"{count} of {values[0].size} values of {name}"
    return ""


def _kind(kind: ir.DataType | None) -> str:
    return "integers" if kind is None else kind.name
