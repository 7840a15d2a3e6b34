"""The pass: strongly typed, each weight once, nothing clamped, and the model that it was given unchanged."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from aether_deploy.errors import ExportError
from aether_deploy.graphs.half_precision import POLICIES, HalfPrecision, to_half
from aether_deploy.graphs.types import HALF, IO, tensor_types
from tests.helpers.graphs import tiny_graph, with_ffn, with_weight

FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16


@pytest.fixture
def model() -> ir.Model:
    return tiny_graph()


def computed(model: ir.Model, op: str) -> list[ir.DataType]:
    """The types that the operators of one kind compute in, in order."""
    types = tensor_types(model.graph)
    return [types[node.outputs[0]] for node in model.graph if node.op_type == op]


# Policy -> the types of LayerNormalization, of the last Conv and Add, and of Sub with fp32 and with fp16 ends.
ISLANDS = {
    "none": (FLOAT16, FLOAT16, FLOAT16, FLOAT16),
    "tail": (FLOAT16, FLOAT, FLOAT16, FLOAT16),
    "all-norms": (FLOAT, FLOAT16, FLOAT16, FLOAT16),
    "default": (FLOAT, FLOAT, FLOAT, FLOAT16),
}


@pytest.mark.parametrize("io", IO)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_keeps_what_it_says_and_nothing_else(model: ir.Model, policy: str, io: str) -> None:
    norm, tail, head, head16 = ISLANDS[policy]
    half = to_half(model, "fp16", io=io, islands=policy).model
    assert set(computed(half, "LayerNormalization")) == {norm}
    *convs, last = computed(half, "Conv")
    assert set(convs) == {FLOAT16}
    *adds, mean = computed(half, "Add")
    assert set(adds) == {FLOAT16}
    assert last == mean == tail
    assert computed(half, "Sub") == [head16 if io == "fp16" else head]
    for op in ("MatMul", "Gelu", "Mul", "LeakyRelu", "DepthToSpace", "Transpose"):
        assert set(computed(half, op)) == {FLOAT16}


# 4 LayerNorms at two casts each; the ends; the mean, once in each type.
@pytest.mark.parametrize(
    ("policy", "io", "casts"),
    [
        ("none", "fp16", 0),
        ("none", "fp32", 2),
        ("tail", "fp32", 3),
        ("all-norms", "fp32", 10),
        ("default", "fp32", 10),
        ("default", "fp16", 11),
    ],
)
def test_as_many_casts_as_it_takes(model: ir.Model, policy: str, io: str, casts: int) -> None:
    conversion = to_half(model, "fp16", io=io, islands=policy)
    count = Counter(node.op_type for node in conversion.model.graph)
    assert count.pop("Cast", 0) == casts == conversion.casts
    assert count == Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("io", IO)
def test_the_ends(model: ir.Model, precision: str, policy: str, io: str) -> None:
    graph = to_half(model, precision, io=io, islands=policy).model.graph
    (first,), (last,) = graph.inputs, graph.outputs
    assert (first.name, last.name) == ("input", "output")
    assert first.dtype == last.dtype == (FLOAT16 if io == "fp16" else FLOAT)
    assert [str(dim) for dim in last.shape or ()] == ["batch", "3", "out_height", "out_width"]
    names = [value.name for node in graph for value in node.outputs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("ffn", ["linear", "conv1x1"])
def test_the_given_model_is_not_changed(ffn: str) -> None:
    given = with_ffn(tiny_graph(), ffn)
    before = ir.to_proto(given).SerializeToString()
    for policy in POLICIES:
        assert to_half(given, "fp16", io="fp16", islands=policy).model is not given
    assert ir.to_proto(given).SerializeToString() == before


def test_each_weight_is_stored_once_in_the_type_that_reads_it(model: ir.Model) -> None:
    graph = to_half(model, "fp16").model.graph
    assert list(graph.initializers) == list(model.graph.initializers)
    stored = {name: value.dtype for name, value in graph.initializers.items()}
    kept = {name for name, kind in stored.items() if kind == FLOAT}
    assert kept == {name for name in stored if "norm." in name or name.startswith(("conv_last", "mean"))}
    for name, value in graph.initializers.items():
        tensor, before = value.const_value, model.graph.initializers[name].const_value
        assert tensor is not None
        assert before is not None
        expected = before.numpy() if name in kept else before.numpy().astype(np.float16)
        np.testing.assert_array_equal(tensor.numpy(), expected)


class TestWeightLoss:
    """What fp16 cannot hold is counted, and an overflow refused; nothing is clamped."""

    NAME = "conv_after_body.weight"

    @staticmethod
    def _large(weight: Any) -> None:
        weight[0, 0, :2, 1] = 7e4

    @staticmethod
    def _small(weight: Any) -> None:
        weight[0, 0] = 1e-8
        weight[0, 1] = 0

    def test_overflow_is_refused(self, model: ir.Model) -> None:
        with pytest.raises(ExportError, match=r"2 weights overflow fp16: conv_after_body.weight reaches 7e\+04.*bf16"):
            to_half(with_weight(model, self.NAME, self._large), "fp16")

    def test_overflow_is_counted_by_the_pass(self, model: ir.Model) -> None:
        result = HalfPrecision("fp16").call(with_weight(model, self.NAME, self._large))
        assert (result.weights.overflow, result.weights.underflow, result.weights.worst) == (2, 0, self.NAME)
        stored = result.model.graph.initializers[self.NAME].const_value
        assert stored is not None
        assert np.isinf(stored.numpy()).sum() == 2

    def test_bf16_has_the_range(self, model: ir.Model) -> None:
        assert to_half(with_weight(model, self.NAME, self._large), "bf16").weights.overflow == 0

    def test_underflow_is_counted(self, model: ir.Model) -> None:
        conversion = to_half(with_weight(model, self.NAME, self._small), "fp16")
        assert (conversion.weights.overflow, conversion.weights.underflow) == (0, 9)
        stored = conversion.model.graph.initializers[self.NAME].const_value
        assert stored is not None
        assert not stored.numpy()[0, :2].any()


class TestRequires:
    """A graph that the pass is not for is refused, in words."""

    def test_half_precision_already(self, model: ir.Model) -> None:
        with pytest.raises(ExportError, match="a graph in fp32 is expected"):
            to_half(to_half(model, "fp16", io="fp16", islands="none").model, "fp16")

    def test_casts(self, model: ir.Model) -> None:
        with_cast = model.clone()
        graph = with_cast.graph
        cast = ir.node("Cast", [graph.inputs[0]], {"to": FLOAT.value})
        graph.insert_before(graph[0], cast)
        with pytest.raises(ExportError, match="casts already"):
            to_half(with_cast, "fp16")

    def test_two_outputs(self, model: ir.Model) -> None:
        two = model.clone()
        two.graph.outputs.append(two.graph[0].outputs[0])
        with pytest.raises(ExportError, match="one input and one output"):
            to_half(two, "fp16")

    def test_opset_without_bfloat16_convolutions(self) -> None:
        with pytest.raises(ExportError, match="--opset 22"):
            to_half(tiny_graph(20), "bf16")

    @pytest.mark.parametrize("wrong", [("int8", "fp32", "none"), ("fp16", "bf16", "none"), ("fp16", "fp32", "some")])
    def test_values(self, wrong: tuple[str, str, str]) -> None:
        precision, io, islands = wrong
        with pytest.raises(ExportError, match="expected fp16 or bf16"):
            HalfPrecision(precision, io=io, islands=islands)


class TestEnsures:
    """A graph that is not strongly typed does not leave the pass."""

    def test_mixed_inputs(self, model: ir.Model) -> None:
        mixed = to_half(model, "fp16").model
        cast = next(node for node in mixed.graph if node.op_type == "Cast")
        source = cast.inputs[0]
        assert source is not None
        cast.outputs[0].replace_all_uses_with(source)
        with pytest.raises(ir.passes.PostconditionError, match="mixes FLOAT, FLOAT16"):
            HalfPrecision("fp16").ensures(mixed)

    def test_other_ends(self, model: ir.Model) -> None:
        with pytest.raises(ir.passes.PostconditionError, match="not FLOAT16"):
            HalfPrecision("fp16", io="fp16").ensures(to_half(model, "fp16").model)

    def test_an_output_declared_otherwise(self, model: ir.Model) -> None:
        wrong = to_half(model, "fp16").model
        wrong.graph.outputs[0].type = ir.TensorType(FLOAT16)
        with pytest.raises(ExportError, match="declared FLOAT16, but computed in FLOAT"):
            tensor_types(wrong.graph)


def test_below_opset_20_gelu_is_half_too() -> None:
    half = to_half(tiny_graph(17), "fp16").model
    assert set(computed(half, "Erf")) == {FLOAT16}


def test_bf16_stores_bf16(model: ir.Model) -> None:
    half = to_half(model, "bf16").model
    assert {value.dtype for value in half.graph.initializers.values()} == {FLOAT, BFLOAT16}
