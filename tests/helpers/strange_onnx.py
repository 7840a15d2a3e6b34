"""ONNX files that are none: small graphs with a field, an attribute, a shape or an operator changed."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.strange_bytes import INTEGERS, TEXTS, changed_bytes

__all__ = ["image_graph", "strange_onnx"]

_Field = Any
_SIDES = (0, 1, 2, 3, 4, 8, 16, 64, -1, "h", "w", "c", 2**31 - 1, 2**62)
_METADATA = ("aether_deploy.network", "aether_deploy.precision", "aether_deploy.io", "aether_deploy.source.file", "x")
_OPERATORS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Conv": {"pads": ([1] * 4, [2**31] * 4, [-1] * 4), "strides": ([1, 1], [0, 0]), "group": (1, 0, 3, -1)},
    "DepthToSpace": {"blocksize": (1, 2, 0, -1, 2**31), "mode": ("CRD", "DCR", "x")},
    "Transpose": {"perm": ([0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 0, 0], [0, 1, 2, 9])},
    "Cast": {"to": (1, 10, 16, 8, 0, 99, -1)},
    "LayerNormalization": {"axis": (-1, 1, 9, -9), "epsilon": (1e-6, float("nan"))},
    "Resize": {"mode": ("nearest", "cubic", "x")},
    "ConstantOfShape": {},
    "Expand": {},
    "Tile": {},
    "Pad": {"mode": ("constant", "reflect", "wrap", "x")},
    "Reshape": {"allowzero": (0, 1)},
    "Slice": {},
    "Gather": {"axis": (0, 1, 9, -9)},
    "Range": {},
    "Softmax": {"axis": (1, 99)},
    "Concat": {"axis": (0, 1, 9)},
    "Split": {"num_outputs": (1, 3, 0, -1)},
    "MatMul": {},
    "Gelu": {"approximate": ("none", "tanh", "x")},
    "ReduceMean": {"keepdims": (0, 1)},
    "Loop": {},
    "GlobalAveragePool": {},
    "MaxPool": {"kernel_shape": ([2, 2], [0, 0], [2**40, 1])},
    "Einsum": {"equation": ("nchw->nchw", "nchw,nchw->n", "...", "a" * 1000)},
    "QuantizeLinear": {},
    "GridSample": {"mode": ("linear", "cubic", "x")},
    "NonMaxSuppression": {},
    "STFT": {},
    "NoSuchOperator": {"x": (1,)},
}


def image_graph(*, half: bool = False) -> onnx.ModelProto:
    """Cast, Conv, LayerNormalization and DepthToSpace: an image in, one twice as large out."""
    kind, number = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    weight = numpy_helper.from_array(np.full((12, 3, 1, 1), 0.1, number), "conv.weight")
    scale = numpy_helper.from_array(np.ones(3, number), "norm.weight")
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight"], ["wide"], pads=[0, 0, 0, 0]),
        helper.make_node("DepthToSpace", ["wide"], ["large"], blocksize=2),
        helper.make_node("Transpose", ["large"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["last", "norm.weight"], ["normed"], axis=-1),
        helper.make_node("Transpose", ["normed"], ["output"], perm=[0, 3, 1, 2]),
    ]
    lr, sr = (
        helper.make_tensor_value_info(name, kind, ["n", 3, f"{name}_h", f"{name}_w"]) for name in ("input", "output")
    )
    graph = helper.make_graph(nodes, "image", [lr], [sr], [weight, scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def strange_onnx(random: Random) -> bytes:
    """Contents of a file that is no ONNX, or hardly one."""
    model = image_graph(half=random.random() < 0.4)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice((_field, _field, _field, _operator, _operator, _ends, _metadata, _tensor))(model, random)
    data: bytes = model.SerializeToString()
    return changed_bytes(data, random) if random.random() < 0.2 else data


def _field(model: onnx.ModelProto, random: Random) -> None:
    """Sets, clears or doubles any field of any message."""
    messages = [model]
    for message in messages:
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                messages.extend([value] if isinstance(value, Message) else value)
    message = random.choice(messages)
    field = random.choice(message.DESCRIPTOR.fields)
    if random.random() < 0.2:
        message.ClearField(field.name)
        return
    value = getattr(message, field.name)
    if field.type == field.TYPE_MESSAGE:
        if hasattr(value, "add"):
            kept = value[random.randrange(len(value))] if value and random.random() < 0.7 else None
            made = value.add()
            if kept is not None:
                made.CopyFrom(kept)
        else:
            value.SetInParent()
        return
    new = _scalar(field, random)
    try:
        if hasattr(value, "append"):
            if value and random.random() < 0.5:
                value[random.randrange(len(value))] = new
            else:
                value.extend([new] * random.choice((1, 1, 2, 100)))
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError, UnicodeError):
        message.ClearField(field.name)


def _scalar(field: _Field, random: Random) -> Any:
    if field.type == field.TYPE_STRING:
        return random.choice((*TEXTS, "input", "output", "Conv", "Loop", "com.microsoft", "ai.onnx.ml"))
    if field.type == field.TYPE_BYTES:
        return random.randbytes(random.choice((0, 1, 4, 1000)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    return random.choice((*INTEGERS, *range(30)))


def _operator(model: onnx.ModelProto, random: Random) -> None:
    """Another operator in the place of one, on any of the values and some constants."""
    graph = model.graph
    if not graph.node:
        return
    at = random.randrange(len(graph.node))
    node = graph.node[at]
    op_type = random.choice(list(_OPERATORS))
    shape = [random.choice((0, 1, 2, 4, -1, 30000, 2**31, 2**40, 2**62)) for _ in range(random.choice((1, 4, 4)))]
    constant = random.choice(("numbers", "scales"))
    if constant not in [tensor.name for tensor in graph.initializer]:
        if constant == "numbers":
            graph.initializer.append(helper.make_tensor(constant, TensorProto.INT64, [len(shape)], shape))
        else:
            scales = [1.0, 1.0, *random.choices((2.0, 0.0, -1.0, 3000.0, float("nan"), float("inf")), k=2)]
            graph.initializer.append(helper.make_tensor(constant, TensorProto.FLOAT, [4], scales))
    inputs = random.choice(
        (list(node.input), [*node.input[:1], constant], [constant], [*node.input[:1], "", constant], [])
    )
    attributes = {name: random.choice(values) for name, values in _OPERATORS[op_type].items() if random.random() < 0.8}
    made = helper.make_node(op_type, inputs, list(node.output), **attributes)
    if op_type == "Loop":
        made.attribute.append(helper.make_attribute("body", graph))
    node.CopyFrom(made)


def _ends(model: onnx.ModelProto, random: Random) -> None:
    """Another shape or type of the input or the output."""
    for ends in (model.graph.input, model.graph.output):
        for value in ends:
            if random.random() < 0.7:
                sides = [random.choice((1, "n")), random.choice((3, 3, 3, *_SIDES)), *random.choices(_SIDES, k=2)]
                kind = random.choice((1, 1, 1, 10, *range(27)))
                if random.random() < 0.2:
                    sides = sides[: random.randrange(4)]
                value.CopyFrom(helper.make_tensor_value_info(value.name, kind, sides))


def _metadata(model: onnx.ModelProto, random: Random) -> None:
    network = {
        "family": "aether",
        "variant": "aether",
        "scale": 2,
        "in_chans": 3,
        "embed_dim": 4,
        "depths": [1],
        "hidden": 8,
        "lk_kernel": 3,
        "sk_kernel": None,
        "fused": True,
        "img_range": 1.0,
    }
    name = random.choice(list(network))
    network[name] = random.choice((*INTEGERS, *TEXTS, None, [], [10**9], {}, 1e999, True))
    item = model.metadata_props.add()
    item.key = random.choice(_METADATA)
    written = repr(network).replace("'", '"').replace("None", "null").replace("True", "true")
    item.value = (
        random.choice((written, written, "[" * 5000, "fp16", "bf16", "3", "\x1b[31m\n"))
        .encode("utf-8", "replace")
        .decode()
    )


def _tensor(model: onnx.ModelProto, random: Random) -> None:
    """A weight with another shape, type or place of its data."""
    if not model.graph.initializer:
        return
    tensor = random.choice(model.graph.initializer)
    match random.randrange(4):
        case 0:
            tensor.dims[:] = [random.choice(INTEGERS) for _ in range(random.randrange(6))]
        case 1:
            tensor.data_type = random.choice((*range(28), 99))
        case 2:
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", random.choice(("net.onnx", "../net.onnx", "/etc/passwd"))
        case _:
            tensor.raw_data = random.randbytes(random.choice((0, 4, 24, 48, 144)))
