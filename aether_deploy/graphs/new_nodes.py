"""New nodes for a graph, and their constants, named after what they are for."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from aether_deploy.graphs.constants import new_constant

__all__ = ["NewNodes"]


class NewNodes:
    """Collects nodes until they are put somewhere.

    Args:
        graph: gets the constants.
        prefix: of all names.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix
        self._nodes: list[ir.Node] = []
        self._numbers = itertools.count()

    def add(self, op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """The result of a new node of one output."""
        node = ir.node(op, inputs, attributes)
        node.name = node.outputs[0].name = self._name(op)
        self._nodes.append(node)
        return node.outputs[0]

    def one(self, number: int) -> ir.Value:
        """An integer, as a scalar."""
        return new_constant(self._graph, self._name("number"), np.array(number, np.int64))

    def several(self, *numbers: int) -> ir.Value:
        """Integers, as a tensor of one dimension."""
        return new_constant(self._graph, self._name("numbers"), np.array(numbers, np.int64))

    def floats(self, *numbers: float) -> ir.Value:
        """Floats, as a tensor of one dimension."""
        return new_constant(self._graph, self._name("floats"), np.array(numbers, np.float32))

    def taken(self) -> list[ir.Node]:
        """Those that were added since the last call, in order."""
        nodes, self._nodes = self._nodes, []
        return nodes

    def _name(self, what: str) -> str:
        return f"{self._prefix}_{next(self._numbers)}_{what}"
