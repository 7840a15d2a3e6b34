"""`export --format onnx`: the file, its readers, its manifest, and that the gate closes."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from aether_deploy.artifacts import pipeline
from aether_deploy.artifacts.model import Artifact, ExportOptions
from aether_deploy.errors import ExportError
from aether_deploy.files import sha256_of
from aether_deploy.graphs import exporter
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.network.aether import read_spec
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions import forms
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.manifest import read_manifest
from tests.helpers.commands import Ran, error_line
from tests.helpers.files import insert_casts
from tests.helpers.networks import SAMPLE, save, source_file, tiny, wrong_eps
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow


def _ends(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The packaged sample, exported with the defaults."""
    folder = tmp_path_factory.mktemp("exported")
    return pipeline.export_model(load_checkpoint(SAMPLE), ExportOptions(output=folder))[0]


class TestFile:
    """What the readers of our files rely on."""

    def test_ends(self, exported: Artifact) -> None:
        assert _ends(onnx.load(exported.path)) == {
            "input": ["batch", 3, "height", "width"],
            "output": ["batch", 3, "out_height", "out_width"],
        }

    def test_native_operators_and_nothing_that_computes_shapes(self, exported: Artifact) -> None:
        count = Counter(node.op_type for node in onnx.load(exported.path).graph.node)
        assert count["LayerNormalization"] == 5
        assert count["Gelu"] == 4
        assert count["DepthToSpace"] == 1
        assert not count.keys() & {"Shape", "Gather", "Reshape", "Concat", "Erf", "Cast"}

    def test_one_file_without_external_data(self, exported: Artifact) -> None:
        assert sorted(path.name for path in exported.path.parent.iterdir()) == [
            exported.path.name,
            f"{exported.path.name}.json",
        ]
        assert not any(len(tensor.external_data) for tensor in onnx.load(exported.path).graph.initializer)

    def test_metadata(self, exported: Artifact) -> None:
        metadata = {item.key: item.value for item in onnx.load(exported.path).metadata_props}
        assert metadata["aether_deploy.source.sha256"] == sha256_of(SAMPLE)
        assert metadata["aether_deploy.precision"] == "fp32"
        spec = AetherSpec.from_dict(json.loads(metadata["aether_deploy.network"]))
        assert spec == load_checkpoint(SAMPLE).spec.as_fused()

    def test_manifest(self, exported: Artifact) -> None:
        manifest = read_manifest(exported.path)
        assert manifest is not None
        assert manifest.artifact == {
            "file": exported.path.name,
            "sha256": sha256_of(exported.path),
            "bytes": exported.path.stat().st_size,
            "kind": "onnx",
        }
        assert manifest.source["sha256"] == sha256_of(SAMPLE)
        assert manifest.source["form"] == "unfused"
        assert manifest.parity is not None
        assert manifest.parity["passed"]
        assert manifest.variant.opset == 20

    @pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 31, 50), (2, 3, 17, 40), (3, 3, 2, 1)])
    def test_runs_at_any_size_as_the_trained_network(self, exported: Artifact, shape: tuple[int, ...]) -> None:
        lr = np.random.default_rng(1).random(shape, dtype=np.float32)
        with torch.no_grad():
            expected = load_checkpoint(SAMPLE).build()(torch.from_numpy(lr)).numpy()
        session = ort.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
        assert np.abs(session.run(None, {"input": lr})[0] - expected).max() < 2e-6

    def test_shapes_inferred_anew_at_16_pixels(self, exported: Artifact) -> None:
        """As chaiNNer and vs-mlrt do it: overwrite the free dimensions, then infer strictly."""
        model = onnx.load(exported.path)
        for dim, value in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 16, 16), strict=True):
            dim.dim_value = value
        for dim in model.graph.output[0].type.tensor_type.shape.dim[2:]:
            dim.ClearField("dim_param")
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        assert _ends(inferred)["output"][2:] == [32, 32]


def test_twice_is_byte_identical(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    for folder in ("a", "b"):
        assert call("export", checkpoint_file, "-o", tmp_path / folder).code == 0
    name = "2x_Tiny_fp32_op20.onnx"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# The lowest, the default and the highest are always tried.
@pytest.mark.parametrize("opset", first_of([17, 23, *sorted({*OPSETS} - {17, 23})], 2))
def test_opsets(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, opset: int) -> None:
    ran = call("export", checkpoint_file, "--opset", opset, "--json")
    assert ran.code == 0
    (artifact,) = ran.json["artifacts"]
    assert artifact["parity"]["passed"]
    model = onnx.load(artifact["file"])
    assert [item.version for item in model.opset_import] == [opset]
    assert ("Gelu" in {node.op_type for node in model.graph.node}) == (opset >= 20)


@pytest.mark.parametrize(
    "options", first_of([{"scale": 3}, {"in_chans": 1}, {"scale": 1}, {"scale": 4}, {"scale": 8}]), ids=str
)
def test_other_networks(tmp_path: Path, call: Callable[..., Ran], options: dict[str, Any]) -> None:
    ran = call("export", save(tiny(**options), tmp_path / "net.pth"), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["artifacts"][0]["parity"]["passed"]


def test_img_range_reaches_the_graph(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = save(tiny(img_range=255.0), tmp_path / "net.pth")
    ran = call("export", source, "--img-range", 255, "--json")
    assert ran.code == 0, ran.err
    session = ort.InferenceSession(ran.json["artifacts"][0]["file"])
    lr = np.random.default_rng(1).random((1, 3, 9, 8), dtype=np.float32)
    with torch.no_grad():
        expected = tiny(img_range=255.0)(torch.from_numpy(lr)).numpy()
    assert np.abs(session.run(None, {"input": lr})[0] - expected).max() < 1e-5


def test_static(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("export", checkpoint_file, "--static", "1x3x24x40", "--json")
    assert ran.code == 0
    path = tmp_path / "2x_Tiny_fp32_op20_1x3x24x40.onnx"
    assert _ends(onnx.load(path)) == {"input": [1, 3, 24, 40], "output": [1, 3, 48, 80]}
    assert call("parity", checkpoint_file, path).code == 0


def test_a_fused_checkpoint_is_said_to_be_the_reference_itself(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = save(tiny(fused_init=True), tmp_path / "net.pth")
    ran = call("export", source)
    assert ran.code == 0
    assert "the unfused ones are not at hand" in ran.out
    manifest = read_manifest(tmp_path / "2x_net_fp32_op20.onnx")
    assert manifest is not None
    assert manifest.source["form"] == "fused"


def test_dry_run_writes_nothing(call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("export", checkpoint_file, "--dry-run")
    assert ran.code == 0
    assert "would write" in ran.out
    assert list(checkpoint_file.parent.iterdir()) == [checkpoint_file]


class TestConfig:
    """`--config`: the flags win, and a misspelt key is named."""

    def test_values_and_flags(self, tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
        config = tmp_path / "export.toml"
        config.write_text('opset = 18\nname = "FromConfig"\nformat = ["onnx"]\n')
        ran = call("export", checkpoint_file, "--config", config, "--opset", 19, "--dry-run", "--json")
        assert ran.json["planned"][0].endswith("2x_FromConfig_fp32_op19.onnx")

    def test_unknown_key(self, tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
        config = tmp_path / "export.toml"
        config.write_text("opsett = 18\n")
        ran = call("export", checkpoint_file, "--config", config)
        assert ran.code == 1
        assert "unknown key 'opsett'; did you mean 'opset'?" in error_line(ran)

    @pytest.mark.parametrize(
        "text",
        [
            "opset = 99",
            "opset = inf",
            "opset = true",
            "opset = 2020-01-01",
            "opset = [20]",
            "output = false",
            "format = []",
            "format = [['onnx']]",
            "format = 'onyx'",
            "json = 1",
            "static = 'axb'",
            "workspace = -1",
            'images = "\\u0000"',
            f"workspace = '{'9' * 400}'",
            f"static = '1x3x{'9' * 5000}x8'",
        ],
    )
    def test_a_wrong_value_is_one_line(
        self, tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, text: str
    ) -> None:
        config = tmp_path / "export.toml"
        config.write_text(f"{text}\n")
        ran = call("export", checkpoint_file, "--config", config)
        assert ran.code == 1
        assert text.split()[0] in error_line(ran)

    def test_a_number_is_taken_as_if_it_were_typed(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        config = tmp_path / "export.toml"
        config.write_text("opset = 21\nformat = 'onnx'\nname = 5\n")
        ran = call("export", SAMPLE, "--config", config, "-o", tmp_path, "--dry-run", "--json")
        assert Path(ran.json["planned"][0]).name == "2x_5_fp32_op21.onnx"

    @pytest.mark.parametrize("text", ["opset = ", "a = " + "[" * 10_000, f"a = {'1' * 10_000}", None])
    def test_no_toml(self, tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, text: str | None) -> None:
        config = tmp_path / "export.toml"
        if text is not None:
            config.write_text(text)
        assert call("export", checkpoint_file, "--config", config).code == 1


@pytest.mark.parametrize(
    "words", [("--opset", "16"), ("--static", "1x3x8"), ("--format", "caffe"), ("--precision", "int4")]
)
def test_usage_errors(call: Callable[..., Ran], checkpoint_file: Path, words: tuple[str, ...]) -> None:
    assert call("export", checkpoint_file, *words).code == 2


def test_library_errors_say_what_is_expected() -> None:
    spec = read_spec(tiny().state_dict())
    with pytest.raises(ExportError, match="17 to 23"):
        export_onnx(tiny(), spec, opset=16)
    with pytest.raises(ExportError, match="Nx3xHxW"):
        export_onnx(tiny(), spec, static=(1, 4, 8, 8))
    with pytest.raises(ExportError, match="opset 99; expected 17 to 23"):
        Variant(opset=99)


def test_a_format_that_is_not_there_is_refused_before_anything_is_run(
    checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint(checkpoint_file)
    for name in ("Trained", "fuse_network"):
        monkeypatch.setattr(pipeline, name, lambda *_, **__: pytest.fail("something was run"))
    for formats in (("caffe",), ("onnx", "caffe")):
        with pytest.raises(ExportError, match="format 'caffe'; expected onnx, tensorrt, tensorrt-rtx"):
            pipeline.plan_export(checkpoint, ExportOptions(formats=formats))
        with pytest.raises(ExportError, match="format 'caffe'"):
            pipeline.export_model(checkpoint, ExportOptions(formats=formats))
    assert list(checkpoint_file.parent.iterdir()) == [checkpoint_file]


def _swap(network: Any) -> Any:
    ffn = network.layers[0][0].ffn
    ffn.fc1_gate, ffn.fc1_main = ffn.fc1_main, ffn.fc1_gate
    return network


def _shift(network: Any) -> Any:
    weight = network.layers[0][0].conv.fused_conv.weight
    weight.data = torch.roll(weight.data, 1, -1)
    return network


def _forget_bias(network: Any) -> Any:
    network.layers[0][0].conv.fused_conv.bias.data.zero_()
    return network


def _tanh_gelu(network: Any) -> Any:
    for stage in network.layers:
        for block in stage:
            block.ffn.act = torch.nn.GELU(approximate="tanh")
    return network


def _half_kernels(network: Any) -> Any:
    weight = network.layers[0][0].conv.fused_conv.weight
    weight.data = weight.data.half().float()
    return network


def _thousandth(network: Any) -> Any:
    weight = network.layers[0][0].conv.fused_conv.weight.data.view(-1)
    weight[weight.abs().argmax()] *= 1.001
    return network


WRONG = [wrong_eps, _swap, _shift, _forget_bias, _tanh_gelu]
Wrong = Callable[[Any], Any]


def _damage_fusing(monkeypatch: pytest.MonkeyPatch, wrong: Wrong) -> None:
    """What comes of fusing is another network."""
    monkeypatch.setattr(pipeline, "fuse_network", lambda network, spec: wrong(fuse_network(network, spec)))


def _damage_the_graph(monkeypatch: pytest.MonkeyPatch, wrong: Wrong) -> None:
    """The fused network is right, and what is exported is another one."""

    def export(network: Any, spec: Any, **how: Any) -> Any:
        return export_onnx(wrong(copy.deepcopy(network)), spec, **how)

    monkeypatch.setattr(forms, "export_onnx", export)


@pytest.mark.parametrize("wrong", [*WRONG, _half_kernels, _thousandth])
@pytest.mark.parametrize("trained", first_of([True, False]), ids=["sample", "random"])
def test_the_gate_closes(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, wrong: Wrong, trained: bool
) -> None:
    """In float64, where one block in fp16 and one weight that is off by a thousandth show too."""
    source = source_file(tmp_path, trained=trained)
    _damage_fusing(monkeypatch, wrong)
    _require_refused(call("export", source, "--json"), "in float64", "fp64")
    assert list(tmp_path.iterdir()) == [source]


def _require_refused(ran: Ran, what: str, gate: str) -> None:
    assert ran.code == 3
    assert f"{what} is not the network as it was trained" in error_line(ran)
    assert ran.json["parity"]["gate"] == gate
    assert not ran.json["parity"]["passed"]


@pytest.mark.parametrize("wrong", first_of(WRONG, 3))
@pytest.mark.parametrize("trained", first_of([True, False]), ids=["sample", "random"])
def test_the_gate_of_the_file_closes(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, wrong: Wrong, trained: bool
) -> None:
    """Fusing was right, the graph is not."""
    source = source_file(tmp_path, trained=trained)
    _damage_the_graph(monkeypatch, wrong)
    _require_refused(call("export", source, "--json"), "2x_net_fp32_op20.onnx", "fp32")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("damage", [_damage_fusing, _damage_the_graph])
def test_an_earlier_export_survives_a_failed_one(
    tmp_path: Path,
    call: Callable[..., Ran],
    checkpoint_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[pytest.MonkeyPatch, Wrong], None],
) -> None:
    assert call("export", checkpoint_file).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    damage(monkeypatch, _swap)
    assert call("export", checkpoint_file, "--overwrite").code == 3
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_shipped_file_is_what_is_proved(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight changed on its way to the disk is found, though the model in memory is right."""

    def damaged(model: Any, path: Path) -> None:
        save_onnx(model, path)
        proto = onnx.load(path)
        tensor = next(item for item in proto.graph.initializer if item.name.startswith("conv_last.weight"))
        values = np.frombuffer(tensor.raw_data, np.float32).copy()
        values[0] += 1e-3
        tensor.raw_data = values.tobytes()
        onnx.save(proto, path)

    monkeypatch.setattr(exporter, "save_onnx", damaged)
    ran = call("export", checkpoint_file)
    assert ran.code == 3
    assert "2x_Tiny_fp32_op20.onnx is not the network as it was trained" in error_line(ran)
    assert list(tmp_path.iterdir()) == [checkpoint_file]


def test_a_file_in_fp32_has_no_half_precision_inside(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's CPU provider drops a pair of Casts around an operator, so running it there would prove nothing."""

    def damaged(model: Any, path: Path) -> None:
        save_onnx(model, path)
        insert_casts(path)

    monkeypatch.setattr(exporter, "save_onnx", damaged)
    ran = call("export", checkpoint_file)
    assert ran.code == 1
    assert "2x_Tiny_fp32_op20.onnx: 2 Casts in an fp32 graph" in error_line(ran)
    assert list(tmp_path.iterdir()) == [checkpoint_file]
    with pytest.raises(ExportError, match="2 Casts in an fp32 graph"):
        pipeline.export_model(checkpoint_file)
