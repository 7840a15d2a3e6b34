"""The layers of the network as it was trained, against those of the graph that was exported from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from aether_deploy.arrays import Array

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.sites import Site
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["Layers"]


class Layers:
    """What each layer of the trained network gives for an input, in float32 on the CPU.

    Attributes:
        outputs: name of the layer -> its output.
        modules: name of the layer -> the module.
    """

    def __init__(self, checkpoint: Checkpoint, lr: Array) -> None:
        network = checkpoint.build()
        self.outputs: dict[str, Array] = {}
        self.modules = dict(network.named_modules())
        for name, module in self.modules.items():
            module.register_forward_hook(self._keep(name))
        with torch.no_grad():
            self.output: Array = network(torch.from_numpy(lr)).numpy()

    def _keep(self, name: str):  # type: ignore[no-untyped-def]  # torch's own hook types are not exported
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                self.outputs[name] = output.numpy().copy()  # what follows may change it in place

        return hook

    def expected(
        self, sites: Sequence[Site], graph: ir.Graph, shapes: dict[str, tuple[int, ...]]
    ) -> Iterator[tuple[Site, Array]]:
        """The last site of each layer that the trained network has too, and what it should be.

        What a pass moved into a neighbour, such as a norm's scale, is left out of what is expected.
        """
        last = {site.layer: site for site in sites}
        nodes = {value.name: node for node in graph for value in node.outputs}
        for site in sites:
            if last[site.layer] is not site or site.name not in shapes:
                continue
            layer = site.layer.removesuffix(".fused_conv")
            output = self.outputs.get(layer)
            if site is sites[-1]:
                output = self.output
            if output is None:
                continue
            node = nodes.get(site.name)
            if node is not None and node.op_type == "LayerNormalization":
                output = self._unscaled(layer, node, output)
            for order in ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)):
                if output.ndim == 4 and tuple(output.shape[axis] for axis in order) == shapes[site.name]:
                    yield site, np.ascontiguousarray(output.transpose(order))
                    break

    def _unscaled(self, layer: str, node: ir.Node, output: Array) -> Array:
        """A norm's output without scale and shift, if the graph's norm has none."""
        module = self.modules[layer]
        scale = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if not isinstance(module, nn.LayerNorm) or scale is None or not np.all(scale.numpy() == 1):
            return output
        weight, bias = (item.detach().numpy() for item in (module.weight, module.bias))
        if np.any(weight == 0):
            return output
        shift = node.inputs[2].const_value if len(node.inputs) > 2 and node.inputs[2] is not None else None
        unscaled: Array = (output - bias) / weight
        return unscaled if shift is None else unscaled + shift.numpy()
