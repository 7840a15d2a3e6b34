"""The FFN's linear layers as 1x1 convolutions: the same network, in the form that some GPUs need.

A pass on onnx-ir. TensorRT-RTX has no fp32 matrix product for SM75, but does have the convolution.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["ConvolutionalFFN"]

_TO_NCHW = (0, 3, 1, 2)


class ConvolutionalFFN(ir.passes.InPlacePass):
    """MatMul and Add on NHWC -> 1x1 Conv on NCHW; the Transpose after the FFN moves before it.

    Requires that each MatMul has a constant weight and is followed by the Add of a constant bias, that it reads a
    LayerNormalization or the results of linear layers, and that the FFN ends in the Transpose to NCHW. Ensures that no
    MatMul is left; there are no more nodes than before.
    """

    def requires(self, model: ir.Model) -> None:
        """Raises PreconditionError for a linear layer that is not part of an FFN."""
        for node in model.graph:
            if node.op_type == "MatMul" and any(use.node.op_type == "Add" for use in _bias_add(node).outputs[0].uses()):
                raise ir.passes.PreconditionError(
                    f"{node.outputs[0].name} ends in a sum in NHWC; change the FFN before `ChannelsLastSum`"
                )
        for transpose in _closing_transposes(model.graph):
            if tuple(transpose.attributes["perm"].as_ints()) != _TO_NCHW:
                raise ir.passes.PreconditionError(f"{transpose.outputs[0].name} is not a transpose from NHWC to NCHW")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        graph = model.graph
        layers = [node for node in graph if node.op_type == "MatMul"]
        closing = list(_closing_transposes(graph))
        opened: dict[ir.Value, ir.Value] = {}
        for layer in layers:
            _replace_layer(graph, layer, opened)
        for transpose in closing:
            source = transpose.inputs[0]
            assert source is not None
            transpose.outputs[0].replace_all_uses_with(source)
            graph.remove(transpose, safe=True)
        return ir.passes.PassResult(model, bool(layers))

    def ensures(self, model: ir.Model) -> None:
        """Raises PostconditionError if a MatMul is left."""
        if any(node.op_type == "MatMul" for node in model.graph):
            raise ir.passes.PostconditionError("a MatMul is left")


def _replace_layer(graph: ir.Graph, layer: ir.Node, opened: dict[ir.Value, ir.Value]) -> None:
    """One linear layer -> one convolution; the output of a norm is transposed once for all layers that read it."""
    source, weight = layer.inputs
    add = _bias_add(layer)
    assert source is not None and weight is not None and weight.const_value is not None
    producer = source.producer()
    if producer is not None and producer.op_type == "LayerNormalization":
        if source not in opened:
            transpose = ir.node("Transpose", [source], {"perm": _TO_NCHW}, name=f"{source.name}_nchw")
            transpose.outputs[0].name = f"{source.name}_nchw"
            graph.insert_before(layer, transpose)
            opened[source] = transpose.outputs[0]
        source = opened[source]
    kernel = np.ascontiguousarray(weight.const_value.numpy().T[:, :, None, None])
    tensor = ir.Tensor(kernel, name=weight.name)
    weight.const_value, weight.shape = tensor, tensor.shape
    bias = next(value for value in add.inputs if value is not None and value.const_value is not None)
    conv = ir.node("Conv", [source, weight, bias], {"kernel_shape": (1, 1)}, name=f"{add.outputs[0].name}_conv")
    graph.insert_before(add, conv)
    result = add.outputs[0]
    conv.outputs[0].name, result.name = result.name, f"{result.name}_replaced"
    result.replace_all_uses_with(conv.outputs[0])
    graph.remove([layer, add], safe=True)


def _bias_add(layer: ir.Node) -> ir.Node:
    """The Add of a constant bias that follows a MatMul with a constant weight."""
    weight = layer.inputs[1]
    users = [use.node for use in layer.outputs[0].uses()]
    constant = weight is not None and weight.const_value is not None and len(weight.uses()) == 1
    if not constant or len(users) != 1 or users[0].op_type != "Add":
        raise ir.passes.PreconditionError(f"{layer.outputs[0].name} is no linear layer with a weight and a bias")
    if not any(value is not None and value.const_value is not None for value in users[0].inputs):
        raise ir.passes.PreconditionError(f"{users[0].outputs[0].name} adds no constant bias")
    return users[0]


def _closing_transposes(graph: ir.Graph) -> list[ir.Node]:
    """The Transpose after each FFN: those that read a linear layer."""
    sums = {_bias_add(node).outputs[0] for node in graph if node.op_type == "MatMul"}
    return [node for node in graph if node.op_type == "Transpose" and node.inputs[0] in sums]
