"""The export of one size is the graph of any size, and a size that is fixed in it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from aether_deploy.errors import ExportError
from aether_deploy.graphs.exporter import export_onnx
from aether_deploy.network.aether import Aether, read_spec
from tests.helpers.networks import tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow


def _nodes(model: ir.Model) -> list[tuple[str, str]]:
    return [(node.op_type, str({name: attr.value for name, attr in node.attributes.items()})) for node in model.graph]


@pytest.mark.long
@pytest.mark.parametrize("opset", [20, 17])
@pytest.mark.parametrize("options", [{"scale": 1, "in_chans": 1}, {}, {"scale": 3}], ids=str)
def test_the_same_graph_as_with_sizes_carried_through_as_symbols(
    monkeypatch: pytest.MonkeyPatch, opset: int, options: dict[str, Any]
) -> None:
    network = tiny(fused_init=True, **options)
    spec = read_spec(network.state_dict())
    of_one_size = export_onnx(network, spec, opset=opset)
    monkeypatch.setattr(Aether, "operators", None)
    symbolic = export_onnx(network, spec, opset=opset)
    # The other came through a file, which keeps numbers in 32 bits.
    assert _nodes(ir.from_proto(ir.to_proto(of_one_size))) == _nodes(symbolic)
    pairs = zip(of_one_size.graph.initializers.values(), symbolic.graph.initializers.values(), strict=True)
    for one, other in pairs:
        assert one.const_value is not None and other.const_value is not None
        assert np.array_equal(one.const_value.numpy(), other.const_value.numpy())
    assert of_one_size.graph.inputs[0].shape == symbolic.graph.inputs[0].shape


class _Reshaping(torch.nn.Module):
    """A network that asks its input for its size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, c, h * w).softmax(-1).reshape(n, c, h, w)


def test_a_network_that_asks_for_sizes_is_refused() -> None:
    spec = read_spec(tiny(fused_init=True, scale=1).state_dict())
    with pytest.raises(ExportError, match=r"operators that no AetherNet needs: .*Reshape"):
        export_onnx(_Reshaping().eval(), spec)


def test_a_size_among_the_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Aether.operators is not None
    monkeypatch.setattr(Aether, "operators", Aether.operators | {"Reshape", "Softmax"})
    spec = read_spec(tiny(fused_init=True, scale=1).state_dict())
    with pytest.raises(ExportError, match="a size may be fixed in the graph"):
        export_onnx(_Reshaping().eval(), spec)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stays_one(signal: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's exporter catches it on its way, and raises an error of its own."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise signal
        except BaseException as inner:  # as the exporter does
            raise RuntimeError("Failed to export the model") from inner

    monkeypatch.setattr("torch.onnx.export", interrupted)
    network = tiny(fused_init=True)
    with pytest.raises(signal):
        export_onnx(network, read_spec(network.state_dict()))


def test_another_error_of_the_exporter_stays_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("torch.onnx.export", fails)
    network = tiny(fused_init=True)
    with pytest.raises(RuntimeError, match="a bug"):
        export_onnx(network, read_spec(network.state_dict()))


# Below opset 18 PyTorch converts the graph once more, which loses where the nodes came from.
@pytest.mark.parametrize("opset", first_of([20, 18, 23]))
def test_names_speak_of_layers(opset: int) -> None:
    network = tiny()
    model = export_onnx(network, read_spec(network.state_dict()), opset=opset)
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    names = [str(node.name) for node in model.graph]
    assert len(set(names)) == len(names)
    outside = [name for name in names if name.partition("/")[0] not in modules]
    assert len(outside) <= 8, outside  # mean, skip and residual of the network itself
    for node in model.graph:
        layer, _, op = str(node.name).partition("/")
        if op:
            assert op.partition("_")[0] == node.op_type
            assert node.outputs[0].name in (node.name, "output")
        if node.op_type == "MatMul":
            weight = node.inputs[1]
            assert weight is not None and weight.name == f"{layer}.weight"
            assert tuple(weight.shape or ()) == tuple(parameters[f"{layer}.weight"].T.shape)
    assert not [name for name in model.graph.initializers if name.startswith("val_")]
