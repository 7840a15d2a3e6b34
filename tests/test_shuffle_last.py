"""Fewer copies: the same network, to the border, and only what is known is moved."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from aether_deploy.graphs.constants import new_constant
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.graphs.passes import applied
from aether_deploy.graphs.shuffle_last import ShuffleLast, sub_pixel_kernel
from aether_deploy.network.aether import read_spec
from aether_deploy.runners.onnx_runtime import OnnxRunner
from tests.helpers.graphs import tiny_graph, with_fewer_copies, with_ffn
from tests.helpers.networks import tiny
from tests.helpers.variations import first_of

SHAPES = ((1, 3, 1, 1), (2, 3, 13, 8), (1, 3, 32, 48))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_the_kernel_is_the_same_to_the_border(factor: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 5, 3, 3, generator=generator, dtype=torch.float64)
    image = torch.randn(2, 5 * factor**2, *size, generator=generator, dtype=torch.float64)
    behind = functional.conv2d(functional.pixel_shuffle(image, factor), kernel, padding=1)
    moved = torch.from_numpy(sub_pixel_kernel(kernel.numpy(), factor))
    before = functional.pixel_shuffle(functional.conv2d(image, moved, padding=1), factor)
    assert torch.allclose(before, behind, rtol=0, atol=1e-13)
    assert moved.count_nonzero() == kernel.count_nonzero() * factor**2


@pytest.mark.parametrize(
    "options", first_of([{"scale": 3}, {"in_chans": 1}, *({"scale": scale} for scale in (1, 2, 4, 8))], 2), ids=str
)
def test_same_outputs(tmp_path: Path, options: dict[str, int]) -> None:
    network = tiny(fused_init=True, **options)
    given = export_onnx(network, read_spec(network.state_dict()))
    _compare(given, tmp_path, network.mean.shape[1])


@pytest.mark.parametrize("opset", first_of([OPSETS.start, 22]))
@pytest.mark.parametrize("ffn", ["linear", "conv1x1"])
def test_every_form(tmp_path: Path, opset: int, ffn: str) -> None:
    _compare(with_ffn(tiny_graph(opset), ffn), tmp_path)


def _compare(given: ir.Model, folder: Path, channels: int = 3) -> None:
    save_onnx(given, folder / "given.onnx")
    save_onnx(with_fewer_copies(given), folder / "fewer.onnx")
    for n, _, height, width in SHAPES:
        lr = np.random.default_rng(0).random((n, channels, height, width), dtype=np.float32)
        first, second = (OnnxRunner(folder / f"{name}.onnx").run(lr) for name in ("given", "fewer"))
        assert np.abs(first - second).max() < 5e-6


def test_what_is_moved() -> None:
    given = tiny_graph()
    nodes = [node.op_type for node in with_fewer_copies(given).graph]
    assert nodes[-3:] == ["Conv", "DepthToSpace", "Add"]
    assert Counter(nodes) == Counter(node.op_type for node in given.graph) - Counter({"Transpose": 1})


def test_without_a_shuffle_nothing_is_moved_at_the_end() -> None:
    network = tiny(fused_init=True, scale=1)
    given = export_onnx(network, read_spec(network.state_dict()))
    assert "conv_last.weight" in with_fewer_copies(given).graph.initializers


def test_biases_of_zeros_as_in_a_new_network(tmp_path: Path) -> None:
    """The exporter leaves some of them out, and lets others share one constant."""
    network = tiny(fused_init=True)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    _compare(export_onnx(network, read_spec(network.state_dict())), tmp_path)


def test_a_bias_that_others_share_stays_theirs(tmp_path: Path) -> None:
    network = tiny(fused_init=True, embed_dim=3)
    given = export_onnx(network, read_spec(network.state_dict()))
    first, *_, last = (node for node in given.graph if node.op_type == "Conv")
    first.replace_input_with(2, last.inputs[2])
    _compare(given, tmp_path)


def test_the_given_model_is_not_changed() -> None:
    given = tiny_graph()
    before = ir.to_proto(given).SerializeToString()
    assert with_fewer_copies(given) is not given
    assert ir.to_proto(given).SerializeToString() == before


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("pads", ir.AttrInt64s("pads", (0, 0, 0, 0))),
        ("strides", ir.AttrInt64s("strides", (2, 2))),
        ("dilations", ir.AttrInt64s("dilations", (2, 2))),
        ("group", ir.AttrInt64("group", 2)),
    ],
)
def test_another_end_is_left_alone(name: str, attribute: ir.Attr) -> None:
    model = tiny_graph().clone()
    *_, last = (node for node in model.graph if node.op_type == "Conv")
    last.attributes[name] = attribute
    assert _ends_in_a_convolution(model)


def _ends_in_a_convolution(model: ir.Model) -> bool:
    """Whether the pass left the last convolution behind the last shuffle."""
    order = [node.op_type for node in reversed(applied(model, ShuffleLast()).graph)]
    return order.index("Conv") < order.index("DepthToSpace")


def test_a_shuffle_that_something_else_reads_is_left_alone() -> None:
    model = tiny_graph().clone()
    shuffle = next(node for node in model.graph if node.op_type == "DepthToSpace")
    (use,) = shuffle.outputs[0].uses()
    add = ir.node("Add", [shuffle.outputs[0], shuffle.outputs[0]])
    add.outputs[0].name = "twice"
    model.graph.insert_before(use.node, add)
    use.node.replace_input_with(0, add.outputs[0])
    assert _ends_in_a_convolution(model)


def test_a_convolution_that_makes_the_output_itself() -> None:
    """As in EDSR's kin; AetherNet scales the image behind it."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.PixelShuffle(2), torch.nn.Conv2d(3, 3, 3, padding=1)]
    program = torch.onnx.export(
        torch.nn.Sequential(*layers).eval(),
        (torch.zeros(2, 3, 8, 12),),
        dynamo=True,
        opset_version=20,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({2: torch.export.Dim("h"), 3: torch.export.Dim("w")},),
        verbose=False,
    )
    assert program is not None
    given = program.model
    made = applied(given, ShuffleLast())
    assert [node.op_type for node in made.graph][-2:] == ["Conv", "DepthToSpace"]
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    image = np.random.default_rng(0).random((2, 3, 7, 5), dtype=np.float32)
    outputs = []
    for model in (given, made):
        session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
        outputs.append(session.run(["output"], {"input": image})[0])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=0, atol=1e-6)


def test_a_convolution_of_many_channels_is_left_alone() -> None:
    """It would take factor^2 times as many operations for nothing."""
    model = tiny_graph().clone()
    *_, last = (node for node in model.graph if node.op_type == "Conv")
    kernel = last.inputs[1]
    assert kernel is not None and kernel.const_value is not None
    wide = np.repeat(kernel.const_value.numpy(), 3, axis=0)
    last.replace_input_with(1, new_constant(model.graph, "wide", wide))
    assert _ends_in_a_convolution(model)
