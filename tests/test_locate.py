"""The layer that was damaged is named; in right files none is."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from aether_deploy.artifacts import locating_files
from aether_deploy.artifacts.locating_files import locate_files
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.errors import RunnerError
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.locating.location import Location, locate
from aether_deploy.locating.pair import Pair
from aether_deploy.locating.reduction import reduce
from aether_deploy.network.aether import read_spec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions import forms
from aether_deploy.precisions.forms import fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.verdict import ParityError
from aether_deploy.runners.onnx_runtime import GraphSession
from tests.helpers.commands import Ran
from tests.helpers.graphs import with_weight
from tests.helpers.networks import SAMPLE, calm, save, tiny
from tests.helpers.variations import first_of

Damage = Callable[[ir.Model], ir.Model]

_RNG = np.random.default_rng(0)
INPUTS = {"noise": _RNG.random((1, 3, 24, 32), dtype=np.float32)}

FORMS = {
    "fp32": Variant(),
    "fp32, FFN as 1x1": Variant(ffn="conv1x1"),
    "fp32, opset 18": Variant(opset=18),
    "fp32, opset 23": Variant(opset=23),
    "fp32, static": Variant(static=(1, 3, 24, 32)),
    "fp16": Variant("fp16"),
    "fp16, islands none": Variant("fp16", islands="none"),
    "fp16, ends": Variant("fp16", io="fp16"),
    "fp16, FFN as 1x1": Variant("fp16", ffn="conv1x1"),
    "bf16": Variant("bf16"),
}


@functools.cache
def pair(form: str, seed: int = 0) -> Pair:
    """Both graphs of a form, as `locate` makes them; the second is right."""
    variant = FORMS[form]
    network = tiny(fused_init=True, **({} if seed == 0 else {"embed_dim": 8 + 4 * seed, "depths": (1, 1)}))
    spec = read_spec(network.state_dict())
    exact = fp32_model(network, spec, variant)
    right = locating_files._right(exact, spec, _labelled(exact, variant))
    assert right is not None
    return Pair(("a", "b"), exact, _labelled(right, variant), right, variant.precision)


def _labelled(model: ir.Model, variant: Variant) -> ir.Model:
    model = model.clone()
    model.metadata_props.update({f"aether_deploy.{key}": value for key, value in variant.as_dict().items()})
    model.metadata_props["aether_deploy.fp32_islands"] = json.dumps({"policy": variant.islands})
    return model


def located(form: str, damage: Damage, seed: int = 0) -> Location:
    given = pair(form, seed)
    made = damage(given.made.clone())
    return locate(Pair(given.names, given.exact, made, given.right, given.precision), INPUTS, shares=False)


def weight(name: str, *, times: float = 1.5) -> Damage:
    """One value of a weight, the largest, is another one."""

    def damage(model: ir.Model) -> ir.Model:
        (found,) = [key for key in model.graph.initializers if key in (name, f"{name}_folded", f"{name}_sub_pixel")]

        def change(array: Any) -> None:
            array.flat[np.abs(array.astype(np.float32)).argmax()] *= times

        return with_weight(model, found, change)

    return damage


def moved(name: str) -> Damage:
    """A kernel shifted by one pixel."""
    return lambda model: with_weight(model, name, lambda array: array.__setitem__(..., np.roll(array, 1, axis=-1)))


def attribute(op: str, key: str, value: Any, *, number: int = 0) -> Damage:
    """Another attribute in one of the operators of a type."""

    def damage(model: ir.Model) -> ir.Model:
        node = [node for node in model.graph if node.op_type == op][number]
        made = {name: item for name, item in node.attributes.items() if name != key}
        kinds: dict[type, Any] = {float: ir.AttrFloat32, int: ir.AttrInt64, str: ir.AttrString, list: ir.AttrInt64s}
        node.attributes.clear()
        node.attributes.update({**made, key: kinds[type(value)](key, value)})
        return model

    return damage


def rounded(name: str, kind: ir.DataType) -> Damage:
    """What an operator reads goes through another type, and back."""

    def damage(model: ir.Model) -> ir.Model:
        node = next(node for node in model.graph if node.name == name)
        source = node.inputs[0]
        assert source is not None
        own = locating_types(model)[source]
        casts = [ir.node("Cast", [source], {"to": kind.value}, name="narrow")]
        casts.append(ir.node("Cast", [casts[0].outputs[0]], {"to": own.value}, name="wide"))
        for cast in casts:
            cast.outputs[0].name = cast.name
        model.graph.insert_before(node, casts)
        node.replace_input_with(0, casts[1].outputs[0])
        return model

    return damage


def locating_types(model: ir.Model) -> Any:
    from aether_deploy.graphs.types import tensor_types

    return tensor_types(model.graph)


def replaced(name: str, op: str) -> Damage:
    """Another operator in one's place."""

    def damage(model: ir.Model) -> ir.Model:
        node = next(node for node in model.graph if node.name == name)
        node.op_type = op
        return model

    return damage


# (form, the layer that is damaged, how)
DAMAGED: list[tuple[str, str, Damage]] = [
    ("fp32", "conv_first", weight("conv_first.weight")),
    ("fp32", "layers.1.0.norm", attribute("LayerNormalization", "epsilon", 1e-3, number=1)),
    ("fp16", "layers.0.0.ffn.act", attribute("Gelu", "approximate", "tanh")),
    ("fp16", "layers.1.1.ffn.fc2", rounded("layers.1.1.ffn.fc2/MatMul", ir.DataType.BFLOAT16)),
    ("fp16", "layers.1.0.conv.fused_conv", moved("layers.1.0.conv.fused_conv.weight")),
    ("bf16", "layers.0.0.ffn.fc1_gate", weight("layers.0.0.ffn.fc1_gate.weight")),
    ("fp32", "layers.0.0.conv.fused_conv", weight("layers.0.0.conv.fused_conv.weight", times=1.05)),
    ("fp32", "layers.1.1.conv.fused_conv", moved("layers.1.1.conv.fused_conv.weight")),
    ("fp32", "layers.1.0.conv.fused_conv", weight("layers.1.0.conv.fused_conv.bias")),
    ("fp32", "layers.0.0.ffn.fc1_main", weight("layers.0.0.ffn.fc1_main.weight")),
    ("fp32", "layers.1.1.ffn.fc2", weight("layers.1.1.ffn.fc2.weight")),
    ("fp32", "norm", attribute("LayerNormalization", "epsilon", 1e-3, number=3)),
    ("fp32", "conv_before_upsample.1", attribute("LeakyRelu", "alpha", 0.02)),
    ("fp32", "conv_last", weight("conv_last.weight", times=0.9)),
    ("fp32", "layers.1.0.ffn", replaced("layers.1.0.ffn/Mul", "Add")),
    ("fp32, FFN as 1x1", "layers.0.0.ffn.fc2", weight("layers.0.0.ffn.fc2.weight")),
    ("fp32, FFN as 1x1", "conv_after_body", weight("conv_after_body.weight")),
    ("fp32, opset 18", "layers.1.1.norm", attribute("LayerNormalization", "epsilon", 1e-3, number=2)),
    ("fp32, opset 23", "layers.1.1.ffn.act", attribute("Gelu", "approximate", "tanh", number=2)),
    ("fp32, static", "upsample.0", weight("upsample.0.weight")),
    ("fp32, static", "upsample.1", attribute("DepthToSpace", "mode", "DCR")),
    ("fp16", "conv_first", weight("conv_first.bias")),
    ("fp16", "layers.0.0.ffn.fc1_main", rounded("layers.0.0.ffn.fc1_main/MatMul", ir.DataType.BFLOAT16)),
    ("fp16", "conv_after_body", weight("conv_after_body.weight", times=1.02)),
    ("fp16, islands none", "layers.1.0.norm", weight("layers.1.0.norm.weight", times=1.01)),
    ("fp16, islands none", "norm", attribute("LayerNormalization", "axis", 2, number=3)),
    ("fp16, ends", "layers.1.0.ffn.fc1_gate", weight("layers.1.0.ffn.fc1_gate.weight")),
    ("fp16, FFN as 1x1", "layers.1.1.ffn.fc1_main", weight("layers.1.1.ffn.fc1_main.weight")),
    ("bf16", "layers.1.0.conv.fused_conv", weight("layers.1.0.conv.fused_conv.weight", times=0.5)),
    ("bf16", "conv_before_upsample.0", attribute("Conv", "pads", [0, 1, 2, 1], number=5)),
]


@pytest.mark.parametrize(
    ("form", "layer", "damage"), first_of(DAMAGED, 8), ids=[f"{row[0]}-{row[1]}" for row in DAMAGED]
)
def test_the_damaged_layer_is_named(form: str, layer: str, damage: Damage) -> None:
    found = located(form, damage)
    assert found.first is not None
    assert found.first.layer == layer, found.first
    assert found.first.what, found.first


@pytest.mark.parametrize(
    ("form", "seed"),
    first_of([*((form, 0) for form in FORMS), *((form, seed) for seed in (1, 2) for form in FORMS)], 4),
)
def test_nothing_is_named_in_a_right_file(form: str, seed: int) -> None:
    found = located(form, lambda model: model, seed)
    assert found.first is None, found.first
    assert all(layer.alone < 0.05 for layer in found.layers)
    assert "no layer differs" in found.verdict


def test_shares_add_up_and_follow_the_error() -> None:
    given = pair("fp16")
    found = locate(given, INPUTS)
    shares = {layer.layer: layer.share or 0.0 for layer in found.layers}
    assert sum(shares.values()) == pytest.approx(1)
    made = weight("layers.1.0.ffn.fc2.weight", times=-1)(given.made.clone())
    worse = locate(Pair(given.names, given.exact, made, given.right, "fp16"), INPUTS)
    most = max(worse.layers, key=lambda layer: layer.share or 0.0)
    assert most.layer == "layers.1.0.ffn.fc2" and (most.share or 0.0) > 0.9
    assert most.alone > 10 * shares[most.layer]


def test_a_wrong_operator_is_reduced_to_itself(tmp_path: Path) -> None:
    given = pair("fp32")
    made = attribute("Gelu", "approximate", "tanh", number=1)(given.made.clone())
    wrong = Pair(given.names, given.exact, made, given.right, "fp32")
    first = locate(wrong, INPUTS, shares=False).first
    assert first is not None and str(first) == "layers.1.0.ffn.act (Gelu, approximate tanh, none expected)"
    written = reduce(wrong, first, INPUTS, tmp_path / "part.onnx")
    assert written.nodes <= 3
    # As whoever gets the bug report would run it.
    model = onnx.load(written.graph)
    onnx.checker.check_model(model)
    with np.load(written.inputs) as stored:
        session = ort.InferenceSession(written.graph)
        (seen,) = session.run(None, {item.name: stored[item.name] for item in session.get_inputs()})
        assert np.abs(seen - stored["expected"]).max() / np.abs(stored["expected"]).max() == pytest.approx(first.error)


def test_what_only_the_whole_graph_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fused(GraphSession):
        """A runtime that goes wrong where no tensor between is asked for."""

        def run(self, feeds: Any) -> Any:
            found = super().run(feeds)
            return {name: value + (len(found) == 1) for name, value in found.items()}

    monkeypatch.setattr("aether_deploy.locating.pair.GraphSession", Fused)
    first = located("fp32", lambda model: model).first
    assert first is not None and "only in the whole graph" in first.what


def _exports(folder: Path, *, checkpoint: Path = SAMPLE, **options: Any) -> Iterator[Path]:
    for made in export_model(checkpoint, ExportOptions(output=folder, **options)):
        yield made.path


def test_files_from_the_command_line(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = save(calm(scale=2, embed_dim=12, depths=(1, 2), lk_kernel=7), tmp_path / "2x_Calm.pth")
    (half,) = _exports(tmp_path, checkpoint=source, variants=(Variant("fp16"),))
    ran = call("locate", source, half)
    assert ran.code == 0
    assert "no layer differs by more than its precision explains; " in ran.out
    assert "█" in ran.out and "next: python -m aether_deploy.parity" in ran.out
    damaged = tmp_path / "damaged.onnx"
    save_onnx(weight("layers.1.1.ffn.fc2.weight", times=-1)(ir.load(half)), damaged)
    part = tmp_path / "part.onnx"
    ran = call("locate", source, damaged, "--json", "--no-shares", "--reduce", part)
    found = json.loads(ran.out)
    assert found["first"]["layer"] == "layers.1.1.ffn.fc2"
    assert found["first"]["what"].startswith("1 of 288 values of layers.1.1.ffn.fc2.weight")
    assert found["reduced"]["nodes"] <= 3 and part.is_file() and part.with_suffix(".npz").is_file()
    assert all(row["share"] is None for row in found["layers"])
    ran = call("locate", source, damaged, "--reduce", part)
    assert ran.code == 1 and "--overwrite" in ran.err
    part.unlink()
    ran = call("locate", source, damaged, "--reduce", part)
    assert ran.code == 1 and "part.npz" in ran.err and not part.exists()


def test_a_fused_checkpoint(tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "2x_Tiny.pth")
    trained = load_checkpoint(path)
    state = fuse_network(trained.build(), trained.spec).state_dict()
    fused = tmp_path / "fused.pth"
    torch.save({"params": state}, fused)
    assert locate_files(path, fused, shares=False).location.first is None
    state["layers.1.1.conv.fused_conv.weight"][3, 0, 5, 5] += 0.05
    torch.save({"params": state}, fused)
    first = locate_files(path, fused, shares=False).location.first
    assert first is not None and first.layer == "layers.1.1.conv.fused_conv"


@pytest.mark.long
def test_another_network(tmp_path: Path) -> None:
    """SPAN, whose activations change their inputs in place."""
    span = Path(__file__).parent / "networks" / "2x_span_sample.pth"
    (half,) = _exports(tmp_path, checkpoint=span, variants=(Variant("fp16"),))
    assert locate_files(span, half, shares=False).location.first is None
    damaged = tmp_path / "damaged.onnx"
    save_onnx(weight("conv_cat.weight")(ir.load(half)), damaged)
    first = locate_files(span, damaged, shares=False).location.first
    assert first is not None and first.layer == "conv_cat"


@pytest.mark.long
def test_a_reference_in_half_precision(tmp_path: Path) -> None:
    path = save(calm(scale=2, embed_dim=12, depths=(1, 2), lk_kernel=7), tmp_path / "2x_Calm.pth")
    half, brain = _exports(tmp_path, checkpoint=path, variants=(Variant("fp16"), Variant("bf16", opset=22)))
    found = locate_files(half, brain).location
    assert found.first is None
    assert all(layer.share is None for layer in found.layers)
    assert any(layer.alone > 1e-3 for layer in found.layers)


@pytest.mark.long
def test_an_onnx_file_as_reference(tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "2x_Tiny.pth")
    (plain,) = _exports(tmp_path, checkpoint=path)
    other = save(tiny(), tmp_path / "other.pth")
    assert locate_files(plain, other, shares=False).location.first is None
    state = torch.load(other)["params"]
    state["layers.1.1.ffn.fc2.weight"][3, 5] += 0.05
    torch.save({"params": state}, other)
    first = locate_files(plain, other, shares=False).location.first
    assert first is not None and first.layer == "layers.1.1.ffn.fc2"


def test_files_without_layers_in_common(tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "2x_Tiny.pth")
    (plain,) = _exports(tmp_path, checkpoint=path)
    model = ir.load(plain)
    for number, node in enumerate(model.graph):
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = f"t{number}"
    save_onnx(model, tmp_path / "renamed.onnx")
    with pytest.raises(RunnerError, match="no layers in common by name"):
        locate_files(path, tmp_path / "renamed.onnx")


@pytest.mark.parametrize(
    ("form", "said"),
    [("fp32", "first differs: layers.1.0.norm (LayerNormalization, epsilon 0.001, 1e-06 expected)")],
)
def test_a_failed_export_says_where(form: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = forms.fp32_model

    def wrong(*words: Any) -> ir.Model:
        return attribute("LayerNormalization", "epsilon", 1e-3, number=2)(make(*words))

    monkeypatch.setattr(forms, "fp32_model", wrong)
    with pytest.raises(ParityError) as caught:
        export_model(SAMPLE, precision=form, output=tmp_path)
    assert said in str(caught.value)


def test_a_failed_half_precision_says_what_costs_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = tiny()
    with torch.no_grad():
        wild.conv_last.weight.mul_(30)
    path = save(wild, tmp_path / "wild.pth")
    with pytest.raises(ParityError, match="no layer differs by more than its precision explains"):
        export_model(path, precision="fp16", output=tmp_path / "out")
