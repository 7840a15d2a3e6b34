"""The FFN as 1x1 convolutions is the same network, and only that is rewritten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from aether_deploy.errors import ExportError
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.precisions.variant import Variant
from aether_deploy.runners.onnx_runtime import OnnxRunner
from tests.helpers.graphs import tiny_graph, with_fewer_copies, with_ffn
from tests.helpers.variations import first_of


@pytest.mark.parametrize("opset", first_of([OPSETS.start, 22]))
def test_same_outputs(tmp_path: Path, opset: int) -> None:
    linear = tiny_graph(opset)
    save_onnx(linear, tmp_path / "linear.onnx")
    save_onnx(with_ffn(linear, "conv1x1"), tmp_path / "conv1x1.onnx")
    for shape in ((1, 3, 1, 1), (2, 3, 13, 8), (1, 3, 32, 48)):
        lr = np.random.default_rng(0).random(shape, dtype=np.float32)
        first, second = (OnnxRunner(tmp_path / f"{form}.onnx").run(lr) for form in ("linear", "conv1x1"))
        assert np.abs(first - second).max() < 5e-6


def test_three_convolutions_a_block_and_no_more_transposes() -> None:
    linear = tiny_graph()
    before, after = (Counter(node.op_type for node in model.graph) for model in (linear, with_ffn(linear, "conv1x1")))
    blocks = 3
    assert before["MatMul"] == 3 * blocks
    assert "MatMul" not in after
    assert after["Conv"] == before["Conv"] + 3 * blocks
    assert after["Add"] == before["Add"] - 3 * blocks
    assert after["Transpose"] == before["Transpose"]


def test_the_given_model_is_not_changed() -> None:
    linear = tiny_graph()
    before = ir.to_proto(linear).SerializeToString()
    with_ffn(linear, "conv1x1")
    assert ir.to_proto(linear).SerializeToString() == before


def test_refusals() -> None:
    linear = tiny_graph()
    with pytest.raises(ExportError, match="expected linear, conv1x1"):
        Variant(ffn="conv3x3")
    with pytest.raises(ExportError, match="ends in a sum in NHWC"):
        with_ffn(with_fewer_copies(linear), "conv1x1")
    linear = linear.clone()
    matmul = next(node for node in linear.graph if node.op_type == "MatMul")
    (use,) = matmul.outputs[0].uses()
    add = use.node
    other = ir.node("Sub", list(add.inputs))
    linear.graph.insert_before(add, other)
    with pytest.raises(ExportError, match="no linear layer with a weight and a bias"):
        with_ffn(linear, "conv1x1")
