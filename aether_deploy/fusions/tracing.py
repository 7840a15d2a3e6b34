"""A network's layers in the order of their execution, where PyTorch can trace it, and a rule applied to them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import fx, nn

__all__ = ["Rule", "layer", "only_reader", "replace", "rewritten"]

# Merges what ends in this node; whether it did.
type Rule = Callable[[fx.GraphModule, fx.Node], bool]


# In a traced network's `meta`: the layers that several nodes run.
_SHARED = "shared"


def rewritten(network: nn.Module, rule: Rule) -> tuple[nn.Module, int]:
    """The network with a rule applied wherever it fits, and how often it did.

    What cannot be traced as a whole, since its steps depend on sizes, is traced part by part. Where nothing fits the
    network is returned as it is, so that its own code goes on running.
    """
    if not any(True for _ in network.children()):
        return network, 0
    traced = _traced(network)
    if traced is None:
        total = 0
        for name, part in list(network.named_children()):
            made, count = rewritten(part, rule)
            if count:
                setattr(network, name, made)
                total += count
        return network, total
    count = 0
    while any(rule(traced, node) for node in list(traced.graph.nodes)):
        count += 1
    if not count:
        return network, 0
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval(), count


def _traced(network: nn.Module) -> fx.GraphModule | None:
    # Of a copy: what a forward method assigns to itself would be left in the network as a symbol.
    try:
        traced = fx.symbolic_trace(copy.deepcopy(network))
    # Of any type: its own code meets symbols where it expects numbers.
    except Exception:  # noqa: BLE001
        return None
    runs = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    traced.meta[_SHARED] = {target for target, count in runs.items() if count > 1}
    return traced


def layer(traced: fx.GraphModule, node: Any) -> nn.Module | None:
    """The layer that a node runs, if no other node runs it too."""
    if not isinstance(node, fx.Node) or node.op != "call_module" or node.kwargs or len(node.args) != 1:
        return None
    return None if node.target in traced.meta[_SHARED] else traced.get_submodule(str(node.target))


def only_reader(node: fx.Node, of: Any) -> bool:
    """Whether nothing but `node` reads the result of `of`."""
    return isinstance(of, fx.Node) and list(of.users) == [node]


def replace(traced: fx.GraphModule, node: fx.Node, at: fx.Node, made: nn.Module, source: fx.Node) -> None:
    """`made` runs instead of `node`, on the result of `source`, below the name of the layer that `at` ran."""
    traced.set_submodule(str(at.target), made)
    with traced.graph.inserting_before(node):
        new = traced.graph.call_module(str(at.target), (source,))
    node.replace_all_uses_with(new)
    traced.graph.erase_node(node)
    if at is not node:
        traced.graph.erase_node(at)
