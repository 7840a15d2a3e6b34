"""`export --precision fp16`: what each policy gives, its manifest, and that the gate closes on wrong passes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner

from aether_deploy.artifacts.onnx_check import describe_step
from aether_deploy.cli.app import main
from aether_deploy.errors import ExportError
from aether_deploy.graphs import half_precision
from aether_deploy.graphs.conversion import Conversion
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions import forms
from aether_deploy.precisions.choices import POLICIES, TRIED
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.manifest import read_manifest
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.tolerances import TOLERANCES
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import SAMPLE, save, tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def scaled_sample(path: Path, factor: float) -> Path:
    """The packaged sample, what every LayerNorm of a block reads being larger: the same function of the image."""
    wrapped = torch.load(SAMPLE, weights_only=True)
    for key, value in wrapped["params"].items():
        if key.startswith("layers.") and ".conv." in key:
            value *= factor
    torch.save(wrapped, path)
    return path


def calm(**options: Any) -> Any:
    """A tiny network whose output stays near [0, 1], as a trained one's: half precision errs with the values."""
    network = tiny(**options)
    network.conv_last.weight.data *= 0.05
    return network


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    return save(calm(), tmp_path / "2x_Tiny.pth")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The sample in all three precisions, as the command's JSON tells it."""
    folder = tmp_path_factory.mktemp("exported")
    words = ["export", str(SAMPLE), "--json", "-o", str(folder)]
    for name in ("fp32", "fp16", "bf16"):
        words += ["--precision", name]
    ran = CliRunner().invoke(main, words, catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    artifacts = json.loads(ran.stdout)["artifacts"]
    return {artifact["precision"]: {**artifact, "path": Path(artifact["file"])} for artifact in artifacts}


PHOTO_NAMES = ("astronaut", "chelsea", "coffee", "rocket")


class TestSample:
    """The packaged sample, trained in neosr, with the defaults."""

    def test_names(self, exported: dict[str, Any]) -> None:
        assert [artifact["path"].name for artifact in exported.values()] == [
            "2x_aether_sample_fp32_op20.onnx",
            "2x_aether_sample_fp16_op20.onnx",
            "2x_aether_sample_bf16_op22.onnx",
        ]

    def test_half_a_level_and_70_db(self, exported: dict[str, Any]) -> None:
        parity = exported["fp16"]["parity"]
        limits = {
            "max_abs": 0.5 / 255,
            "mean_abs": 3.2e-4,
            "min_psnr": 70,
            "drawn": 2,
            "relative": False,
            "p999_abs": 0,
        }
        assert parity["tolerance"] == limits
        assert parity["passed"]
        # Far inside on photos: a policy that quietly lost its islands would show.
        photos = [case for case in parity["cases"] if case["case"].startswith(PHOTO_NAMES)]
        # One of them a second time, its values beyond [0, 1].
        assert len(photos) == len(PHOTO_NAMES) + 1
        assert max(case["max_abs"] for case in photos) < 0.25 / 255
        assert min(case["psnr"] for case in photos) > 75

    def test_bf16_errs_about_eight_times_as_much(self, exported: dict[str, Any]) -> None:
        half, brain = (exported[name]["parity"]["figures"] for name in ("fp16", "bf16"))
        assert 5 < brain["mean_abs"] / half["mean_abs"] < 12
        assert TOLERANCES["bf16"].max_abs == 8 * TOLERANCES["fp16"].max_abs

    @pytest.mark.parametrize("name", ["fp16", "bf16"])
    def test_size(self, exported: dict[str, Any], name: str) -> None:
        sizes = {key: artifact["path"].stat().st_size for key, artifact in exported.items()}
        assert sizes[name] <= 0.55 * sizes["fp32"]

    def test_before_rounding_it_was_proved_as_fp32(self, exported: dict[str, Any]) -> None:
        assert exported["fp32"]["fp32_islands"] == {}
        for name in ("fp16", "bf16"):
            before = exported[name]["fp32_islands"]["before_rounding"]
            assert before["passed"]
            assert before["figures"]["max_abs"] < TOLERANCES["fp32"].max_abs

    def test_weights_and_ranges(self, exported: dict[str, Any]) -> None:
        for name, limit in (("fp16", 65504), ("bf16", pytest.approx(3.3895e38, rel=1e-3))):
            weights, ranges = exported[name]["weights"], exported[name]["activations"]
            assert weights["overflow"] == 0
            assert weights["rounded"] > 200_000
            assert ranges["limit"] == limit
            assert ranges["headroom"] > 100
            assert {"conv_first Conv", "layers.1.1.conv.fused_conv Conv", "upsample.0 Conv"} <= set(ranges["ops"])

    def test_manifest_and_metadata(self, exported: dict[str, Any]) -> None:
        for name, artifact in exported.items():
            manifest = read_manifest(artifact["path"])
            assert manifest is not None
            variant = manifest.variant
            assert (variant.precision, variant.io, variant.ffn) == (name, "fp32", "linear")
            written = json.loads(Path(f"{artifact['path']}.json").read_text())
            assert (written["precision"], written["io"], written["ffn"]) == (name, "fp32", "linear")
            assert manifest.fp32_islands == artifact["fp32_islands"]
            assert manifest.activations == artifact["activations"]
            metadata = {item.key: item.value for item in onnx.load(artifact["path"]).metadata_props}
            assert metadata["aether_deploy.precision"] == name
            assert metadata["aether_deploy.ffn"] == "linear"
            if name == "fp32":
                assert "aether_deploy.fp32_islands" not in metadata
            else:
                islands = json.loads(metadata["aether_deploy.fp32_islands"])
                assert islands == {key: manifest.fp32_islands[key] for key in ("policy", "ops", "casts")}
                assert islands["ops"] == {"Add": 1, "Conv": 1, "LayerNormalization": 5, "Sub": 1}


def _infer_at_16_pixels(path: Path) -> list[int]:
    """As chaiNNer and vs-mlrt do it: overwrite the free dimensions, then infer strictly."""
    model = onnx.load(path)
    for dim, value in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 16, 16), strict=True):
        dim.dim_value = value
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    return [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize(("io", "ffn"), [("fp32", "linear"), ("fp16", "conv1x1")])
@pytest.mark.parametrize("policy", first_of(POLICIES))
def test_each_policy_by_the_command(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, policy: str, io: str, ffn: str
) -> None:
    options = ("--precision", "fp16", "--islands", policy, "--io", io, "--ffn", ffn)
    ran = call("export", checkpoint_file, *options, "--json")
    assert ran.code == 0, ran.err
    (artifact,) = ran.json["artifacts"]
    tags = f"{'_io16' * (io == 'fp16')}{f'_islands-{policy}' * (policy != 'default')}{'_ffn1x1' * (ffn == 'conv1x1')}"
    path = tmp_path / f"2x_Tiny_fp16_op20{tags}.onnx"
    assert artifact["file"] == str(path)
    assert artifact["fp32_islands"]["policy"] == artifact["fp32_islands"]["asked"] == policy
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.variant.io, manifest.variant.ffn) == (io, ffn)

    onnx.checker.check_model(str(path), full_check=True)
    assert _infer_at_16_pixels(path) == [1, 3, 32, 32]
    kind = np.float16 if io == "fp16" else np.float32
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 1, 1), (2, 3, 17, 10)):
        output = session.run(None, {"input": np.full(shape, 0.5, kind)})[0]
        assert (output.dtype, output.shape) == (kind, (*shape[:2], shape[2] * 2, shape[3] * 2))


def test_auto_stops_at_the_first_that_passes(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = scaled_sample(tmp_path / "2x_Scaled.pth", 1000)
    ran = call("export", source, "--precision", "fp16", "--islands", "auto")
    assert ran.code == 0, ran.err
    manifest = read_manifest(tmp_path / "2x_Scaled_fp16_op20_islands-auto.onnx")
    assert manifest is not None
    islands = manifest.fp32_islands
    assert (islands["asked"], islands["policy"]) == ("auto", "all-norms")
    assert [(step["policy"], step["passed"]) for step in islands["measured"]] == [
        ("none", False),
        ("ends", False),
        ("all-norms", True),
    ]
    said = [line for line in ran.out.splitlines() if line.startswith("auto ")]
    assert said == [f"auto    {describe_step(step)}" for step in islands["measured"]]
    assert "all-norms passes: 0." in said[-1]


@pytest.mark.long
def test_auto_that_finds_nothing_says_the_figure_of_each(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = scaled_sample(tmp_path / "2x_Scaled.pth", 5e4)
    ran = call("export", source, "--precision", "fp16", "--islands", "auto")
    assert ran.code == 3
    line = error_line(ran)
    assert all(f"{policy} fails: " in line for policy in TRIED)
    assert "Conv overflows fp16: use --precision bf16" in line
    assert list(tmp_path.iterdir()) == [source]
    # And so it is: bf16 has the range.
    assert call("export", source, "--precision", "bf16").code == 0


@pytest.mark.long
def test_large_norm_inputs_need_their_islands(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Scaled by 1000: the default passes, `none` is refused with 3 by the real command and leaves no file."""
    source = scaled_sample(tmp_path / "2x_Scaled.pth", 1000)
    words = [sys.executable, "-m", "aether_deploy.export", str(source), "--precision", "fp16", "--islands", "none"]
    refused = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "LayerNormalization overflows fp16 inside: use --islands default" in refused.stderr
    assert list(tmp_path.iterdir()) == [source]
    assert call("export", source, "--precision", "fp16").code == 0
    assert (tmp_path / "2x_Scaled_fp16_op20.onnx").is_file()


def _scale_output(graph: ir.Graph, factor: float) -> None:
    """What the last convolution gives times a factor, in the type that it has."""
    last = next(node for node in reversed(graph) if node.op_type == "Conv")
    half = ir.Tensor(np.array(factor, np.float16), name="factor")
    value = ir.Value(name="factor", const_value=half, type=ir.TensorType(half.dtype), shape=half.shape)
    graph.register_initializer(value)
    scaled = ir.node("Mul", [last.outputs[0], value])
    scaled.outputs[0].name = "scaled"
    last.outputs[0].replace_all_uses_with(scaled.outputs[0])
    scaled.replace_input_with(0, last.outputs[0])
    graph.insert_after(last, scaled)


class TestWrongPasses:
    """A pass that does something else than it says is caught, with 3 and without a file."""

    def _refused(self, call: Callable[..., Ran], source: Path, *options: str) -> str:
        before = set(source.parent.iterdir())
        ran = call("export", source, "--precision", "fp16", *options)
        assert ran.code == 3, ran.err
        assert set(source.parent.iterdir()) == before
        return error_line(ran)

    @pytest.mark.parametrize("factor", first_of([1.01, 0.5]))
    def test_tail_in_half_with_its_output_scaled(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, factor: float
    ) -> None:
        source = tmp_path / "net.pth"
        source.write_bytes(SAMPLE.read_bytes())

        to_half = half_precision.to_half

        def wrong(*args: Any, **options: Any) -> Conversion:
            conversion = to_half(*args, **options)
            _scale_output(conversion.model.graph, factor)
            return conversion

        monkeypatch.setattr(half_precision, "to_half", wrong)
        assert "fp16_op20_islands-all-norms.onnx is not" in self._refused(call, source, "--islands", "all-norms")

    def test_norm_casts_dropped_on_large_activations(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = scaled_sample(tmp_path / "net.pth", 1000)
        monkeypatch.setitem(POLICIES, "default", POLICIES["tail"])
        assert "overflows fp16 inside" in self._refused(call, source)

    def test_a_graph_without_types_of_its_own(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, checkpoint_file: Path
    ) -> None:
        """Casts left out altogether: the pass itself refuses, before anything is measured."""
        monkeypatch.setattr(half_precision, "_insert_casts", lambda _graph, _types: None)
        ran = call("export", checkpoint_file, "--precision", "fp16")
        assert ran.code == 1
        assert "not strongly typed" in error_line(ran)
        assert list(tmp_path.iterdir()) == [checkpoint_file]

    def test_what_hides_below_rounding_is_found_before_it(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wrong epsilon errs by 1e-4, a twentieth of what bf16 may."""
        source = tmp_path / "net.pth"
        source.write_bytes(SAMPLE.read_bytes())

        fp32_model = forms.fp32_model

        def wrong(*args: Any) -> ir.Model:
            graph = fp32_model(*args)
            for node in graph.graph:
                if node.op_type == "LayerNormalization":
                    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)
            return graph

        monkeypatch.setattr(forms, "fp32_model", wrong)
        assert "before rounding, is not the network" in self._refused(call, source)


@pytest.mark.long
def test_twice_is_byte_identical_from_one_reference_each(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cases = len(parity_cases(parity_photos()))
    for folder in ("a", "b"):
        options = ("--precision", "fp16", "--precision", "bf16", "--ffn", "conv1x1", "-o", tmp_path / folder)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="aether_deploy"):
            assert call("export", checkpoint_file, *options).code == 0
        captured = [
            text for text in map(logging.LogRecord.getMessage, caplog.records) if text.startswith("reference 1/")
        ]
        # In float32 for both files, and two cases in float64 for the fused weights of both.
        assert [text.partition(":")[0] for text in captured] == [f"reference 1/{count}" for count in (cases, 2)]
    for name in ("2x_Tiny_fp16_op20_ffn1x1.onnx", "2x_Tiny_bf16_op22_ffn1x1.onnx"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("options", first_of([{"in_chans": 1}, {"scale": 1}, {"scale": 3}]), ids=str)
def test_other_networks(tmp_path: Path, call: Callable[..., Ran], options: dict[str, Any]) -> None:
    source = save(calm(**options), tmp_path / "net.pth")
    ran = call("export", source, "--precision", "bf16", "--ffn", "conv1x1", "--json")
    assert ran.code == 0, ran.err


def test_below_opset_20_and_a_fixed_shape(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("export", checkpoint_file, "--precision", "fp16", "--opset", 17, "--static", "1x3x16x24", "--json")
    assert ran.code == 0, ran.err
    path = tmp_path / "2x_Tiny_fp16_op17_1x3x16x24.onnx"
    assert call("parity", checkpoint_file, path, "--json").json["gate"] == "fp16"


def test_parity_and_upscale_take_half_precision(
    tmp_path: Path, call: Callable[..., Ran], exported: dict[str, Any]
) -> None:
    ran = call("parity", exported["fp32"]["path"], exported["fp16"]["path"], "--json")
    assert ran.code == 0, ran.err
    assert ran.json["gate"] == "fp16"
    assert "faithful fp16 on the CPU" in ran.err
    photo = ROOT / "aether_deploy" / "samples" / "photos" / "coffee.png"
    ran = call("upscale", exported["bf16"]["path"], photo, "-o", tmp_path / "sr.png")
    assert ran.code == 0, ran.err


class TestRefusals:
    """What cannot be is said in one line."""

    @pytest.mark.parametrize("options", [("--io", "fp16"), ("--islands", "none")])
    def test_options_of_half_precision_alone(
        self, call: Callable[..., Ran], checkpoint_file: Path, options: tuple[str, str]
    ) -> None:
        ran = call("export", checkpoint_file, *options)
        assert ran.code == 1
        assert "add --precision fp16 or bf16" in error_line(ran)

    def test_opset_for_bf16(self, call: Callable[..., Ran], checkpoint_file: Path) -> None:
        ran = call("export", checkpoint_file, "--precision", "bf16", "--opset", 21)
        assert ran.code == 1
        assert "give --opset 22" in error_line(ran)

    def test_weights_beyond_fp16(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        source = scaled_sample(tmp_path / "net.pth", 1e7)
        ran = call("export", source, "--precision", "fp16")
        assert ran.code == 1
        assert "weights overflow fp16: layers." in error_line(ran)
        assert list(tmp_path.iterdir()) == [source]

    @pytest.mark.parametrize("options", [{"io": "int8"}, {"islands": "some"}, {"ffn": "x"}, {"precision": "fp4"}])
    def test_variants(self, options: dict[str, str]) -> None:
        with pytest.raises(ExportError, match="expected"):
            Variant(**options)  # type: ignore[arg-type]


class TestLibrary:
    """`forms.onnx_model`, for who wants the model without a file."""

    def test_it_is_what_the_pipeline_ships(self, exported: dict[str, Any]) -> None:
        checkpoint = load_checkpoint(SAMPLE)
        model = onnx_model(
            fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused(), Variant("fp16")
        )
        shipped = onnx.load(exported["fp16"]["path"])
        assert ir.to_proto(model).graph.SerializeToString() == shipped.graph.SerializeToString()

    def test_auto_takes_measuring(self) -> None:
        checkpoint = load_checkpoint(SAMPLE)
        with pytest.raises(ExportError, match="found by measuring"):
            onnx_model(checkpoint.build(), checkpoint.spec, Variant("fp16", islands="auto"))
