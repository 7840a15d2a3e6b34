"""Norms folded into the weights behind them: the same network, without the Adds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from aether_deploy.arrays import Array
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.network.aether import read_spec
from aether_deploy.runners.onnx_runtime import OnnxRunner
from tests.helpers.graphs import tiny_graph, with_ffn, with_folded_norms
from tests.helpers.networks import tiny

BLOCKS = 3


def _outputs(model: ir.Model, path: Path, lr: Array) -> Array:
    save_onnx(model, path)
    return OnnxRunner(path).run(lr)


@pytest.mark.parametrize("opset", [OPSETS.start, 22])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 13, 8), (1, 3, 32, 48)])
def test_same_outputs(tmp_path: Path, opset: int, shape: tuple[int, ...]) -> None:
    given = tiny_graph(opset)
    lr = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected, actual = (_outputs(model, tmp_path / "x.onnx", lr) for model in (given, with_folded_norms(given)))
    assert np.abs(expected - actual).max() < 5e-6


def test_an_image_of_one_colour_has_no_variance_to_divide_by(tmp_path: Path) -> None:
    lr = np.full((1, 3, 24, 16), 0.5, np.float32)
    given = tiny_graph()
    expected, actual = (_outputs(model, tmp_path / "x.onnx", lr) for model in (given, with_folded_norms(given)))
    assert np.abs(expected - actual).max() < 5e-6


def test_large_scales_and_biases(tmp_path: Path) -> None:
    """Relative to what they do, the error stays that of float32."""
    network = tiny(fused_init=True)
    for name, parameter in network.named_parameters():
        if "norm.weight" in name or "fc1_main.bias" in name:
            parameter.data *= 30
    given = export_onnx(network, read_spec(network.state_dict()))
    lr = np.random.default_rng(0).random((1, 3, 32, 48), dtype=np.float32)
    expected, actual = (_outputs(model, tmp_path / "x.onnx", lr) for model in (given, with_folded_norms(given)))
    assert np.abs(expected - actual).max() < 1e-5 * np.abs(expected).max()


def test_two_adds_a_block_less_and_the_last_norm_as_it_was() -> None:
    given = tiny_graph()
    folded = with_folded_norms(given)
    before, after = (Counter(node.op_type for node in model.graph) for model in (given, folded))
    assert before - after == Counter({"Add": 2 * BLOCKS})
    *norms, last = (node for node in folded.graph if node.op_type == "LayerNormalization")
    for norm in norms:
        values = [value.const_value for value in norm.inputs[1:] if value is not None]
        assert all(value is not None and (value.numpy() == 1).all() for value in values)
    assert [value.name for value in last.inputs[1:] if value is not None] == ["norm.weight", "norm.bias"]
    left = [name for name in folded.graph.initializers if "fc1" in name or ".norm." in name]
    assert left and all(name.endswith("_folded") for name in left)


def test_what_else_reads_a_norm_keeps_it_as_it_is() -> None:
    given = tiny_graph().clone()
    norm = next(node for node in given.graph if node.op_type == "LayerNormalization")
    other = ir.node("Mul", [norm.outputs[0], norm.outputs[0]])
    other.outputs[0].name = "other"
    given.graph.insert_after(norm, other)
    given.graph.outputs.append(other.outputs[0])
    folded = with_folded_norms(given)
    first = next(node for node in folded.graph if node.op_type == "LayerNormalization")
    assert [value.name for value in first.inputs[1:] if value is not None] == [
        "layers.0.0.norm.weight",
        "layers.0.0.norm.bias",
    ]


def test_convolutions_have_their_bias_already_and_the_given_model_is_not_changed() -> None:
    given = with_ffn(tiny_graph(), "conv1x1")
    before = ir.to_proto(given).SerializeToString()
    assert ir.to_proto(with_folded_norms(given)).SerializeToString() == before
    linear = tiny_graph()
    before = ir.to_proto(linear).SerializeToString()
    with_folded_norms(linear)
    assert ir.to_proto(linear).SerializeToString() == before
