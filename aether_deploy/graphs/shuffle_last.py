"""DepthToSpace and Conv -> Conv and DepthToSpace, so that 3 channels are shuffled and not 64: a pass on onnx-ir.

On ONNX Runtime's CPU provider it gains 3 to 5 % (benchmarks/README.md) and saves the two largest tensors of the
network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from aether_deploy.graphs.constants import new_constant

__all__ = ["ShuffleLast", "sub_pixel_kernel"]

# Output channels of a convolution that makes an image; more would really take factor^2 times as many operations.
_FEW = 4


def sub_pixel_kernel(kernel: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The kernel that does before a PixelShuffle what a 3x3 kernel does after it, zero padding included.

    Output pixel (factor*y + i, factor*x + j) of the shuffle is channel phase (i, j) of input pixel (y, x), and each of
    its eight neighbours is a phase of (y, x) or of one of the neighbours of (y, x).

    Args:
        kernel: (O, C, 3, 3).
        factor: of the PixelShuffle, at least 2.
    Returns:
        (O*factor^2, C*factor^2, 3, 3), zero except for the same values, each factor^2 times.
    Source: sub-pixel convolution, arXiv:1609.07009.
    """
    out, channels, *_ = kernel.shape
    moved = np.zeros((out, factor, factor, channels, factor, factor, 3, 3), kernel.dtype)
    for i, j, dy, dx in np.ndindex(factor, factor, 3, 3):
        (y, row), (x, column) = divmod(i + dy - 1, factor), divmod(j + dx - 1, factor)
        moved[:, i, j, :, row, column, y + 1, x + 1] = kernel[:, :, dy, dx]
    return moved.reshape(out * factor**2, channels * factor**2, 3, 3)


class ShuffleLast(ir.passes.InPlacePass):
    """DepthToSpace and Conv -> Conv and DepthToSpace, so that 3 channels are shuffled and not 64.

    Where the last DepthToSpace, if any, is read by one 3x3 Conv with same padding alone; other graphs are left
    unchanged. The new kernel takes factor^2 times as many operations, most of them with zeros, but runtimes round so
    few output channels up to a block of 8 or more anyway.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        graph = model.graph
        shuffle = next((node for node in reversed(graph) if node.op_type == "DepthToSpace"), None)
        conv = None if shuffle is None else _convolution_behind(shuffle)
        if shuffle is None or conv is None:
            return ir.passes.PassResult(model, False)
        factor = shuffle.attributes["blocksize"].as_int()
        # The exporter leaves out a bias of zeros.
        weight, *bias = conv.inputs[1:]
        _replace_input(graph, conv, weight, lambda kernel: sub_pixel_kernel(kernel, factor))
        for value in bias:
            _replace_input(graph, conv, value, lambda vector: vector.repeat(factor**2))
        source, result, last = shuffle.inputs[0], conv.outputs[0], shuffle.outputs[0]
        conv.replace_input_with(0, source)
        if result.is_graph_output():
            last.type, last.shape = result.type, result.shape
            result.type = result.shape = None
            last.name, result.name = result.name, f"{result.name}_unshuffled"
        result.replace_all_uses_with(last, replace_graph_outputs=True)
        shuffle.replace_input_with(0, result)
        graph.remove(shuffle)
        graph.insert_after(conv, shuffle)
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, True)


def _convolution_behind(shuffle: ir.Node) -> ir.Node | None:
    """The 3x3 convolution with few outputs that alone reads a shuffle as PyTorch has it; None for anything else."""
    users = [use.node for use in shuffle.outputs[0].uses()]
    conv = users[0] if len(users) == 1 else None
    if conv is None or conv.op_type != "Conv" or shuffle.attributes.get_string("mode", "DCR") != "CRD":
        return None
    expected = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}
    if any(tuple(conv.attributes.get_ints(name, (1, 1))) != wanted for name, wanted in expected.items()):
        return None
    weights = [None if value is None else value.const_value for value in conv.inputs[1:]]
    kernel = weights[0]
    if kernel is None or None in weights or conv.attributes.get_int("group", 1) != 1:
        return None
    channels, _, *size = kernel.numpy().shape
    return conv if size == [3, 3] and channels <= _FEW else None


def _replace_input(
    graph: ir.Graph, node: ir.Node, old: ir.Value | None, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    assert old is not None and old.const_value is not None
    value = new_constant(graph, f"{old.name}_sub_pixel", change(old.const_value.numpy()))
    node.replace_input_with(node.inputs.index(old), value)
