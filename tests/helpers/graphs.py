"""Graphs of tiny networks, whole and changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from aether_deploy.graphs import half_precision
from aether_deploy.graphs.channels_last_sum import ChannelsLastSum
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.graphs.exporter import export_onnx
from aether_deploy.graphs.ffn_as_convolutions import ConvolutionalFFN
from aether_deploy.graphs.fold_norms import FoldedNorms
from aether_deploy.graphs.passes import applied
from aether_deploy.graphs.shuffle_last import ShuffleLast
from aether_deploy.network.aether import read_spec
from aether_deploy.network.family import Roles
from aether_deploy.precisions.choices import IO, POLICIES
from aether_deploy.precisions.table import PRECISIONS
from tests.helpers.networks import tiny


@functools.cache
def tiny_graph(opset: int = 22) -> ir.Model:
    """The fp32 graph of a tiny fused network; exported once, and nothing may change it."""
    network = tiny(fused_init=True)
    return export_onnx(network, read_spec(network.state_dict()), opset=opset)


def with_weight(model: ir.Model, name: str, change: Callable[[Any], None]) -> ir.Model:
    """A copy in which one initializer is changed."""
    model = model.clone()
    value = model.graph.initializers[name]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    change(array)
    value.const_value = ir.Tensor(array, name=name)
    return model


def with_ffn(model: ir.Model, form: str) -> ir.Model:
    """A copy with its FFN `linear`, as it is exported, or `conv1x1`."""
    return applied(model, ConvolutionalFFN()) if form == "conv1x1" else model.clone()


def with_fewer_copies(model: ir.Model) -> ir.Model:
    """A copy after both passes that spare copies."""
    return applied(model, ShuffleLast(), ChannelsLastSum())


def with_folded_norms(model: ir.Model) -> ir.Model:
    """A copy with its norms inside the weights behind them."""
    return applied(model, FoldedNorms())


def to_half(model: ir.Model, precision: str = "fp16", *, io: str = "fp32", islands: str = "default") -> Conversion:
    """The model in one of the precisions that round, as a row of the table makes it."""
    row = PRECISIONS[precision]
    return half_precision.to_half(
        model,
        ir.DataType[row.half],
        name=precision,
        roles=Roles(),
        policy=islands,
        kept=POLICIES[islands],
        io=ir.DataType[IO[io]],
    )
