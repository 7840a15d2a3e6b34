"""The pass: strongly typed, each weight once, nothing clamped, and the model that it was given unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from aether_deploy.errors import ExportError
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.graphs.half_precision import HalfPrecision
from aether_deploy.graphs.half_weights import WeightLoss, round_weights
from aether_deploy.graphs.types import tensor_types
from aether_deploy.network.family import Roles
from aether_deploy.precisions.choices import IO, POLICIES
from aether_deploy.precisions.variant import Variant
from tests.helpers.graphs import tiny_graph, to_half, with_ffn, with_weight

FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16

HALF = ("fp16", "bf16")


def fp16_pass(io: ir.DataType = FLOAT) -> HalfPrecision:
    """The pass itself, with the default islands."""
    return HalfPrecision(FLOAT16, roles=Roles(), kept=POLICIES["default"], io=io)


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
    "ends": (FLOAT16, FLOAT, FLOAT, FLOAT16),
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
        ("ends", "fp32", 2),
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
        result = fp16_pass().call(with_weight(model, self.NAME, self._large))
        assert (result.weights.overflow, result.weights.underflow, result.weights.worst) == (2, 0, self.NAME)
        stored = result.model.graph.initializers[self.NAME].const_value
        assert stored is not None
        assert np.isinf(stored.numpy()).sum() == 2

    def test_bf16_has_the_range(self, model: ir.Model) -> None:
        assert to_half(with_weight(model, self.NAME, self._large), "bf16").weights.overflow == 0

    def test_every_figure(self) -> None:
        """Two weights in half, one only an island reads; values that vanish, overflow, and are zero already."""
        names = {"a": [1e-9, 0.0, 0.25], "b": [7e4, -8e4, 0.5, 0.5], "island": [9e9]}
        weights = [
            ir.Value(name=name, const_value=ir.Tensor(np.asarray(values, np.float32), name=name))
            for name, values in names.items()
        ]
        nodes = [ir.Node("", "Neg", [weight], name=str(weight.name)) for weight in weights]
        graph = ir.Graph([], [], nodes=nodes, initializers=weights, opset_imports={"": 20})
        types = {node: ir.DataType.FLOAT if node.name == "island" else ir.DataType.FLOAT16 for node in nodes}
        loss = round_weights(graph, types, ir.DataType.FLOAT16)
        assert loss == WeightLoss(rounded=7, overflow=2, underflow=1, largest=80000.0, worst="b")
        kept = [value.const_value for value in graph.initializers.values() if value.const_value]
        assert {tensor.name: (tensor.dtype.name, tensor.name) for tensor in kept} == {
            "a": ("FLOAT16", "a"),
            "b": ("FLOAT16", "b"),
            "island": ("FLOAT", "island"),
        }

    def test_small_weights_alone(self) -> None:
        weight = ir.Value(name="a", const_value=ir.Tensor(np.asarray([0.5, -0.25], np.float32), name="a"))
        node = ir.Node("", "Neg", [weight])
        graph = ir.Graph([], [], nodes=[node], initializers=[weight], opset_imports={"": 20})
        loss = round_weights(graph, {node: ir.DataType.FLOAT16}, ir.DataType.FLOAT16)
        assert loss == WeightLoss(rounded=2, overflow=0, underflow=0, largest=0.5, worst="a")

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
        with pytest.raises(ExportError, match="opset 20 has no bf16 convolution; give --opset 22 or above"):
            Variant("bf16", opset=20)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (("int4", "fp32", "none"), "precision 'int4'; expected fp32, fp16, bf16, int8, int8-fast, int8-fp16, fp8"),
            (("fp16", "bf16", "none"), "io 'bf16'; expected fp32, fp16"),
            (("fp16", "fp32", "some"), "islands 'some'; expected none, tail, ends, all-norms, default, auto"),
        ],
    )
    def test_values(self, wrong: tuple[str, str, str], said: str) -> None:
        precision, io, islands = wrong
        with pytest.raises(ExportError, match=said):
            Variant(precision, io=io, islands=islands)


class TestEnsures:
    """A graph that is not strongly typed does not leave the pass."""

    def test_mixed_inputs(self, model: ir.Model) -> None:
        mixed = to_half(model, "fp16").model
        cast = next(node for node in mixed.graph if node.op_type == "Cast")
        source = cast.inputs[0]
        assert source is not None
        cast.outputs[0].replace_all_uses_with(source)
        with pytest.raises(ir.passes.PostconditionError, match="mixes FLOAT, FLOAT16"):
            fp16_pass().ensures(mixed)

    def test_other_ends(self, model: ir.Model) -> None:
        with pytest.raises(ir.passes.PostconditionError, match="not FLOAT16"):
            fp16_pass(FLOAT16).ensures(to_half(model, "fp16").model)

    def test_an_output_declared_otherwise(self, model: ir.Model) -> None:
        wrong = to_half(model, "fp16").model
        wrong.graph.outputs[0].type = ir.TensorType(FLOAT16)
        with pytest.raises(ExportError, match="declared FLOAT16, but computed in FLOAT"):
            tensor_types(wrong.graph)


# (the graph in half precision, the fp32 graph) -> the former changed.
Damage = Callable[[ir.Graph, ir.Graph], None]

KERNEL = "layers.1.0.conv.fused_conv.weight"


def _array(graph: ir.Graph, name: str) -> Any:
    tensor = graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def _first(graph: ir.Graph, op: str) -> ir.Node:
    return next(node for node in graph if node.op_type == op)


def _store(graph: ir.Graph, name: str, array: Any) -> None:
    """Another value in the type that the initializer has."""
    value = graph.initializers[name]
    assert value.dtype is not None
    value.const_value = ir.Tensor(array.astype(value.dtype.numpy()), dtype=value.dtype, name=name)


def _truncated(half: ir.Graph, exact: ir.Graph) -> None:
    for name, value in half.initializers.items():
        if value.dtype == FLOAT16:
            before, after = _array(exact, name), _array(half, name)
            beyond = np.abs(after.astype(np.float32)) > np.abs(before)
            _store(half, name, np.where(beyond, np.nextafter(after, np.float16(0)), after))


def _through_bf16(half: ir.Graph, exact: ir.Graph) -> None:
    _store(half, KERNEL, _array(exact, KERNEL).astype(BFLOAT16.numpy()).astype(np.float32))


def _larger(half: ir.Graph, exact: ir.Graph) -> None:
    _store(half, KERNEL, _array(exact, KERNEL) * 1.03)


def _one_bit_in_an_island(half: ir.Graph, exact: ir.Graph) -> None:
    array = _array(exact, "conv_last.bias").copy()
    array[0] = np.nextafter(array[0], np.float32(1))
    _store(half, "conv_last.bias", array)


def _renamed(half: ir.Graph, _exact: ir.Graph) -> None:
    half.initializers[KERNEL].name = "other.weight"


def _exchanged(half: ir.Graph, _exact: ir.Graph) -> None:
    first, second = (half.initializers[f"layers.1.{block}.conv.fused_conv.weight"] for block in (0, 1))
    first.replace_all_uses_with(second)


def _tanh(half: ir.Graph, _exact: ir.Graph) -> None:
    _first(half, "Gelu").attributes["approximate"] = ir.AttrString("approximate", "tanh")


def _epsilon(half: ir.Graph, _exact: ir.Graph) -> None:
    _first(half, "LayerNormalization").attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)


def _another_operator(half: ir.Graph, _exact: ir.Graph) -> None:
    _first(half, "LeakyRelu").op_type = "Elu"


def _one_operator_less(half: ir.Graph, _exact: ir.Graph) -> None:
    node = _first(half, "LeakyRelu")
    before = node.inputs[0]
    assert before is not None
    node.outputs[0].replace_all_uses_with(before)
    half.remove(node, safe=True)


def _another_end(graph: ir.Graph, _: ir.Graph) -> None:
    """What is given out is a value from the beginning."""
    end = next(value for node in graph for value in node.outputs if str(value.name).startswith("sub"))
    end.type = graph.outputs[0].type
    graph.outputs[0] = end


def _another_input(half: ir.Graph, _exact: ir.Graph) -> None:
    *_, residual, _mean = (node for node in half if node.op_type == "Add")
    residual.replace_input_with(1, residual.inputs[0])


def _rounded_twice(half: ir.Graph, _exact: ir.Graph) -> None:
    """What a convolution gives goes through bf16 on its way."""
    conv = _first(half, "Conv")
    there = ir.node("Cast", [conv.outputs[0]], {"to": BFLOAT16.value})
    back = ir.node("Cast", [there.outputs[0]], {"to": FLOAT16.value})
    there.outputs[0].name, back.outputs[0].name = "there", "back"
    conv.outputs[0].replace_all_uses_with(back.outputs[0])
    there.replace_input_with(0, conv.outputs[0])
    half.insert_after(conv, [there, back])


class TestOnlyRounded:
    """What no gate on outputs can see: a graph in half precision is the fp32 graph, rounded, and nothing else."""

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (_truncated, r"^\S+\.(weight|bias) is not the fp32 graph's value, rounded to FLOAT16"),
            (_through_bf16, f"^{KERNEL} is not the fp32 graph's value, rounded to FLOAT16"),
            (_larger, f"^{KERNEL} is not the fp32 graph's value, rounded to FLOAT16"),
            (_one_bit_in_an_island, "^conv_last.bias is not the fp32 graph's value, rounded to FLOAT$"),
            (_renamed, rf"differs from the fp32 one: initializer ({KERNEL}|other\.weight)$"),
            (_exchanged, r"^Conv \S+ is not the fp32 graph's Conv \S+$"),
            (_tanh, r"^Gelu \S+ is not the fp32 graph's Gelu \S+$"),
            (_epsilon, r"^LayerNormalization \S+ is not the fp32 graph's LayerNormalization \S+$"),
            (_another_operator, r"^Elu \S+ is not the fp32 graph's LeakyRelu \S+$"),
            (_one_operator_less, r"^the half-precision graph has \d+ operators, the fp32 one \d+$"),
            (_another_input, r"^Add \S+ is not the fp32 graph's Add \S+$"),
            (_rounded_twice, r"\b(there|back)\b"),
            (_another_end, "^the half-precision graph ends in sub, the fp32 one in "),
        ],
    )
    def test_a_conversion_that_does_more(
        self, model: ir.Model, monkeypatch: pytest.MonkeyPatch, damage: Damage, said: str
    ) -> None:
        convert = HalfPrecision.call

        def wrong(self: HalfPrecision, given: ir.Model) -> Conversion:
            conversion = convert(self, given)
            damage(conversion.model.graph, given.graph)
            return conversion

        assert to_half(model).casts == 10
        monkeypatch.setattr(HalfPrecision, "call", wrong)
        with pytest.raises(ExportError, match=said):
            to_half(model)

    @pytest.mark.parametrize(
        ("asked", "made", "said"),
        [
            ("default", "none", r"^Sub \S+ computes in FLOAT16, FLOAT was asked for"),
            ("default", "tail", r"^Sub \S+ computes in FLOAT16, FLOAT was asked for"),
            ("all-norms", "tail", r"^LayerNormalization \S+ computes in FLOAT16, FLOAT was asked for"),
            ("tail", "all-norms", r"^LayerNormalization \S+ computes in FLOAT, FLOAT16 was asked for"),
            ("none", "default", r"^Sub \S+ computes in FLOAT, FLOAT16 was asked for"),
        ],
    )
    def test_other_islands_than_were_asked_for(
        self, model: ir.Model, monkeypatch: pytest.MonkeyPatch, asked: str, made: str, said: str
    ) -> None:
        convert = HalfPrecision.call

        def wrong(self: HalfPrecision, given: ir.Model) -> Conversion:
            return convert(HalfPrecision(self.half, roles=self.roles, kept=POLICIES[made], io=self.io), given)

        monkeypatch.setattr(HalfPrecision, "call", wrong)
        with pytest.raises(ExportError, match=said):
            to_half(model, islands=asked)


def test_below_opset_20_gelu_is_half_too() -> None:
    half = to_half(tiny_graph(17), "fp16").model
    assert set(computed(half, "Erf")) == {FLOAT16}


def test_bf16_stores_bf16(model: ir.Model) -> None:
    half = to_half(model, "bf16").model
    assert {value.dtype for value in half.graph.initializers.values()} == {FLOAT, BFLOAT16}


def test_what_rounding_did_is_counted_exactly() -> None:
    """Of seven weights, none of them twice: two overflow, three underflow, one is zero already, one is right."""
    tensor = np.array([1e6, -70000, 1e-9, -1e-9, 1e-12, 0.0, 1.5], np.float32)
    empty = np.zeros(0, np.float32)
    ends = [ir.val("x", dtype=ir.DataType.FLOAT, shape=[7])]
    weights = [ir.Value(name=name, const_value=ir.Tensor(array)) for name, array in (("w", tensor), ("e", empty))]
    nodes = [ir.node("Add", [ends[0], weight]) for weight in weights]
    graph = ir.Graph(ends, [node.outputs[0] for node in nodes], nodes=nodes, initializers=weights)
    loss = round_weights(graph, dict.fromkeys(nodes, ir.DataType.FLOAT16), ir.DataType.FLOAT16)
    assert loss == WeightLoss(rounded=7, overflow=2, underflow=3, largest=1e6, worst="w")
    stored = graph.initializers["w"].const_value
    assert stored is not None
    assert stored.dtype == ir.DataType.FLOAT16
    loss = round_weights(graph, dict.fromkeys(nodes, ir.DataType.FLOAT), ir.DataType.FLOAT16)
    assert loss == WeightLoss(0, 0, 0, 0.0, "")
