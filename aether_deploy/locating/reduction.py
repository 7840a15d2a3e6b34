"""The smallest graph that shows a difference, with its inputs and what is expected of it: for a bug report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from aether_deploy.arrays import Array
from aether_deploy.errors import RunnerError
from aether_deploy.files import replacing
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.graphs.sites import part, read, sites_of
from aether_deploy.locating.location import Difference
from aether_deploy.locating.pair import Pair, relative, session_of
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.runners.devices import CPU

__all__ = ["Reduced", "reduce"]

# Layers that are tried together, from the one that differs backwards.
_MOST = 8


@dataclass(frozen=True, slots=True)
class Reduced:
    """What was written.

    Attributes:
        graph: the ONNX file.
        inputs: its inputs and, as `expected`, what it should give; a NumPy .npz file.
        nodes: operators in the graph.
        error: largest difference from what is expected, as a share of its largest value.
    """

    graph: Path
    inputs: Path
    nodes: int
    error: float


def reduce(pair: Pair, first: Difference, inputs: Mapping[str, Array], output: Path) -> Reduced:
    """Writes the part of the second form that computes what differs, alone or with as few layers before it as show it.

    Args:
        pair: both forms.
        first: where they differ.
        inputs: see `locate`; the first one is taken.
        output: the ONNX file to write; the inputs stand beside it with the suffix `.npz`.
    Raises:
        RunnerError: no small part shows the difference.
    """
    lr = next(iter(inputs.values()))
    names = [site.name for site in sites_of(pair.exact)]
    there = {site.name for site in sites_of(pair.made)}
    cuts = [name for name in names[: names.index(first.site)] if name in there]
    start = {str(pair.exact.graph.inputs[0].name): lr, str(pair.made.graph.inputs[0].name): lr}
    values = session_of(read(pair.exact, names), PRECISIONS[pair.reference], CPU).run(start)
    feeds = start | {f"{name}_given": value for name, value in values.items()}
    for count in range(min(_MOST, len(cuts)) + 1):
        kept = cuts[: len(cuts) - count]
        smallest = part(pair.made, first.site, kept)
        found = session_of(smallest, pair.row, pair.device).run(feeds)[first.site]
        expected = values[first.site]
        if pair.right is not None:
            expected = session_of(part(pair.right, first.site, kept), pair.row, pair.device).run(feeds)[first.site]
        error = relative(found - expected, expected)
        if error >= first.error / 2:
            break
    else:
        raise RunnerError(f"{first.layer}: no part of {_MOST} layers shows the difference; it is in the whole graph")
    beside = output.with_suffix(".npz")
    wanted = {str(value.name): feeds[str(value.name)] for value in smallest.graph.inputs}
    for value in smallest.graph.inputs:  # as ONNX's checker wants
        value.shape = ir.Shape(wanted[str(value.name)].shape)
    smallest.graph.outputs[0].shape = ir.Shape(expected.shape)
    with replacing(beside) as temporary, temporary.open("wb") as file:
        np.savez(file, expected=expected, **wanted)
    with replacing(output) as temporary:
        save_onnx(smallest, temporary)
    return Reduced(output, beside, len(smallest.graph), error)
