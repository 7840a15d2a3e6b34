"""Layers in 8 bits: made, proved in integers and in floats, and refused where they are wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from aether_deploy.artifacts import eight_bits
from aether_deploy.artifacts.onnx_proof import prove_again
from aether_deploy.artifacts.opening import known_file, open_known, open_runner
from aether_deploy.errors import ConfigError, ExportError, RunnerError
from aether_deploy.graphs import eight_bit_numbers, quantized_layers
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.graphs.quantized_layers import Observed, QuantizedLayers, linear_inputs
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.pictures.images import read_image, write_image
from aether_deploy.precisions.forms import fp32_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.calibration import calibration_inputs, ground_truths
from aether_deploy.proof.manifest import read_manifest
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.reference import Trained
from aether_deploy.proof.verdict import ParityError
from aether_deploy.samples import PHOTOS, SAMPLE
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, tiny

pytestmark = pytest.mark.slow

INT8, FAST = "2x_aether_sample_int8_op20.onnx", "2x_aether_sample_int8-fast_op20.onnx"
Damage = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> tuple[Path, Ran]:
    """The sample in both levels; no test changes them."""
    folder = tmp_path_factory.mktemp("int8")
    return folder, call("export", SAMPLE, "--precision", "int8", "--precision", "int8-fast", "-o", folder, "--json")


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The outputs of the sample, captured once."""
    return Trained(load_checkpoint(SAMPLE))


def test_each_level_passes_its_gate(made: tuple[Path, Ran]) -> None:
    folder, ran = made
    assert ran.code == 0, ran.err
    int8, fast = ran.json["artifacts"]
    for artifact, least in ((int8, 70), (fast, 60)):
        photos = [case for case in artifact["parity"]["cases"] if case["case"].startswith(("chelsea", "coffee"))]
        assert min(case["psnr"] for case in photos) >= least
        assert all(truth["lost"] <= 0.01 for truth in artifact["quantization"]["ground_truth"])
        assert {truth["photo"] for truth in artifact["quantization"]["ground_truth"]} == {"astronaut", "rocket"}
    # Every layer is named, and the fast level has more of them in 8 bits, those behind the activation among them.
    quantized = [
        {name for row in artifact["quantization"]["layers"] if row["eight_bits"] for name in row["layers"]}
        for artifact in (int8, fast)
    ]
    assert quantized[0] < quantized[1]
    assert not any("fc2" in name for name in quantized[0])
    assert any("fc2" in name for name in quantized[1])
    assert (folder / INT8).stat().st_size < 1.1e6


def test_integers_and_floats_give_the_same(made: tuple[Path, Ran]) -> None:
    """On every processor, since no pair of weights saturates; nothing is clipped on any case."""
    for artifact in made[1].json["artifacts"]:
        integers, floats = (artifact["quantization"]["executions"][name] for name in ("integers", "floats"))
        assert integers["figures"]["max_abs"] == pytest.approx(floats["figures"]["max_abs"], rel=1e-3)
        assert artifact["activations"]["headroom"] > 1


def test_what_is_clipped_is_counted(made: tuple[Path, Ran], tmp_path: Path) -> None:
    for artifact in made[1].json["artifacts"]:
        clipped = artifact["quantization"]["clipped"]
        assert len(clipped) == artifact["fp32_islands"]["casts"]
        assert set(clipped.values()) == {0}
    model = onnx.load(made[0] / INT8)
    _clipped(model)
    onnx.save(model, tmp_path / INT8)
    with eight_bits.AsWritten(tmp_path / INT8) as runner:
        noise = np.random.default_rng(0).random((1, 3, 24, 32), dtype=np.float32)
        runner.run(noise)
        once = dict(runner.clipped)
        runner.run(noise)
    assert any(once.values())
    assert runner.clipped == {name: 2 * count for name, count in once.items()}
    assert all((once[name] > 0) == (share > 1) for name, share in runner.shares.items())


def test_no_pair_of_weights_saturates(made: tuple[Path, Ran]) -> None:
    found = list(_weights(onnx.load(made[0] / FAST)))
    assert len(found) == 6
    for weights in found:
        size = np.abs(weights.astype(int))
        assert (size[0::2] + size[1::2]).max() <= 128


def test_what_the_runtime_executes_is_integers(made: tuple[Path, Ran], tmp_path: Path) -> None:
    """ONNX Runtime replaces every pair of DequantizeLinear and its MatMul by an integer kernel."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(made[0] / FAST, options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert ops.count("MatMulIntegerToFloat") == 6
    assert "DequantizeLinear" not in ops


def _weights(model: onnx.ModelProto) -> Iterator[NDArray[np.int8]]:
    for value in model.graph.initializer:
        if value.data_type == TensorProto.INT8 and len(value.dims) == 2:
            yield numpy_helper.to_array(value)


def _change(model: onnx.ModelProto, ending: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    found = [value for value in model.graph.initializer if value.name.endswith(ending)]
    assert found
    for value in found:
        value.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(value)), value.name))


def _random_ranges(model: onnx.ModelProto) -> None:
    """What comes of no calibration."""
    rng = np.random.default_rng(0)
    for scale in [value for value in model.graph.initializer if value.name.endswith("LayerNormalization_scale")]:
        by = np.float32(rng.uniform(2, 8))
        for ending in ("", "_back"):
            _change(model, f"{scale.name}{ending}", functools.partial(np.multiply, by))


def _clipped(model: onnx.ModelProto) -> None:
    _change(model, "LayerNormalization_scale", lambda old: np.asarray(old * 0.4, np.float32))
    _change(model, "LayerNormalization_scale_back", lambda old: np.asarray(old * 0.4, np.float32))


def _swapped_zero(model: onnx.ModelProto) -> None:
    """QuantizeLinear with the zero point of another tensor, DequantizeLinear with its own."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.int8), "other_zero"))
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    node.input[2] = "other_zero"


def _one_step_for_all(model: onnx.ModelProto) -> None:
    """Weights with one scale for the whole tensor."""
    values = {value.name: value for value in model.graph.initializer}
    for name in [name for name in values if name.endswith(".8_bits")]:
        scale = values[f"{name}_scale"]
        steps = numpy_helper.to_array(scale)
        integers = np.rint(numpy_helper.to_array(values[name]) * steps / steps.max() / 2).astype(np.int8)
        values[name].CopyFrom(numpy_helper.from_array(integers, name))
        scale.CopyFrom(numpy_helper.from_array(np.full_like(steps, steps.max() * 2), scale.name))


@pytest.mark.parametrize("damage", [_random_ranges, _clipped, _swapped_zero, _one_step_for_all])
def test_the_gate_closes(made: tuple[Path, Ran], trained: Trained, tmp_path: Path, damage: Damage) -> None:
    model = onnx.load(made[0] / INT8)
    damage(model)
    onnx.save(model, tmp_path / INT8)
    manifest = read_manifest(made[0] / INT8)
    assert manifest is not None
    prove_again(made[0] / INT8, manifest.variant, trained.reference, manifest.fp32_islands)
    with pytest.raises(ParityError):
        prove_again(tmp_path / INT8, manifest.variant, trained.reference, manifest.fp32_islands)


def test_a_file_that_quantizes_in_another_way_is_one_line(made: tuple[Path, Ran], tmp_path: Path) -> None:
    """A stranger's, whose manifest says that it is one of ours."""
    for inputs in (["input", "input_scale"], ["input", "input", "input"]):
        model = onnx.load(made[0] / INT8)
        node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
        del node.input[:]
        node.input.extend(inputs)
        onnx.save(model, tmp_path / INT8)
        with pytest.raises(RunnerError, match="export it again"):
            eight_bits.AsWritten(tmp_path / INT8)


def test_everything_in_8_bits_is_refused(trained: Trained, tmp_path: Path) -> None:
    checkpoint = trained.checkpoint
    variant = Variant("int8-fast")
    graph = fp32_model(fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused(), variant)
    calibration = calibration_inputs()
    observed = eight_bits._observe(graph, linear_inputs(graph), calibration.images)
    save_onnx(QuantizedLayers(observed)(graph).model, tmp_path / "all.onnx")
    with pytest.raises(ParityError, match="not the network"):
        prove_again(tmp_path / "all.onnx", variant, trained.reference, {"policy": "", "casts": 8})


@pytest.mark.long
def test_neighbours_that_saturate_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Ran]
) -> None:
    """Without the rule for pairs, integers and floats differ by levels on a processor that adds pairs in 16 bits."""
    if any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_vnni", "avx_vnni")):
        pytest.skip("this processor adds in 32 bits")
    monkeypatch.setattr(eight_bit_numbers, "_PAIR_STEPS", 10**6)
    ran = call("export", SAMPLE, "--precision", "int8", "-o", tmp_path, "--json")
    if ran.code == 0:
        (artifact,) = ran.json["artifacts"]
        integers, floats = (artifact["quantization"]["executions"][name]["figures"] for name in ("integers", "floats"))
        assert integers["max_abs"] > 2 * floats["max_abs"]
    else:
        assert "use fp16" in error_line(ran)


@pytest.fixture
def small_photo(tmp_path: Path) -> Path:
    """A folder with one, since a network that is run operator by operator takes its time."""
    photos = tmp_path / "photos"
    photos.mkdir()
    write_image(photos / "small.png", np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, :40, :56]))
    return photos


def test_fp8_runs_as_it_is_written(
    trained: Trained, small_photo: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    """ONNX Runtime's optimizer takes 8-bit floats for integers, so that it gets the file operator by operator."""
    ran = call("export", SAMPLE, "--precision", "fp8", "--calibration", small_photo, "-o", tmp_path, "--json")
    assert ran.code == 0, ran.err
    (artifact,) = ran.json["artifacts"]
    assert artifact["quantization"]["executions"].keys() == {"floats"}
    (path,) = tmp_path.glob("*.onnx")
    assert {value.data_type for value in onnx.load(path).graph.initializer} > {TensorProto.FLOAT8E4M3FN}
    manifest = read_manifest(path)
    assert manifest is not None
    model = onnx.load(path)
    _change(model, "_scale", lambda old: old * np.float32(0.3))
    onnx.save(model, path)
    with pytest.raises(ParityError):
        prove_again(path, manifest.variant, trained.reference, manifest.fp32_islands)


def test_fp16_around_integers(trained: Trained, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Strongly typed, as engines take it; one graph in which each gate closes: of the types, and of the integers."""
    ran = call("export", SAMPLE, "--precision", "int8-fp16", "-o", tmp_path, "--json", "--verbose")
    assert ran.code == 0, ran.err
    (artifact,) = ran.json["artifacts"]
    # ONNX Runtime has no integer kernels for it on the CPU.
    assert artifact["quantization"]["executions"].keys() == {"floats"}
    assert set(artifact["quantization"]["clipped"].values()) == {0}
    assert artifact["activations"]["limit"] == 65504
    assert artifact["fp32_islands"]["ops"]["LayerNormalization"] == 5
    (path,) = tmp_path.glob("*.onnx")
    model = onnx.load(path)
    kinds = {value.name: value.data_type for value in model.graph.initializer}
    assert TensorProto.INT8 in kinds.values()
    # Norms are in fp32, and so is what reads them in 8 bits; what comes out of 8 bits is in fp16.
    for op, kind in (("QuantizeLinear", TensorProto.FLOAT), ("DequantizeLinear", TensorProto.FLOAT16)):
        nodes = [node for node in model.graph.node if node.op_type == op]
        assert nodes and all(kinds[node.input[1]] == kind for node in nodes)
    with open_known(known_file(path), faithful=True) as runner:
        assert runner.precision == "int8-fp16"
    manifest = read_manifest(path)
    assert manifest is not None
    scale = next(value for value in model.graph.initializer if value.name.endswith("_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(3), scale.name))
    onnx.save(model, path)
    with pytest.raises(ParityError):
        prove_again(path, manifest.variant, trained.reference, manifest.fp32_islands)


@pytest.mark.long
@pytest.mark.parametrize(("precision", "room"), [("fp8", False), ("int8-fp16", True)])
def test_commands_take_it(
    precision: str, room: bool, small_photo: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    """`room`: whether the page also says how much room fp16 has."""
    words = ["--precision", precision, "--calibration", small_photo, "-o", tmp_path]
    assert call("export", SAMPLE, *words).code == 0
    (path,) = tmp_path.glob("*.onnx")
    assert call("parity", SAMPLE, path).code == 0
    assert call("verify", path).code == 0
    assert call("report", path, SAMPLE, "-o", tmp_path / "x.html").code == 0
    page = (tmp_path / "x.html").read_text()
    assert "Layers in 8 bits" in page and ("Room for large numbers" in page) == room


@pytest.mark.long
@pytest.mark.parametrize(("precision", "kind"), [("int8", "INT8"), ("int8-fp16", "INT8"), ("fp8", "FP8")])
def test_rtx_builds_an_engine(precision: str, kind: str, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Its parser takes the layers in 8 bits, as the network that it read back says; no GPU has run it."""
    words = ("--format", "tensorrt-rtx", "--gpu", "sm89", "--max-shape", "1x3x64x64", "--opt-shape", "1x3x32x32")
    ran = call("export", SAMPLE, *words, "--min-shape", "1x3x32x32", "--precision", precision, "-o", tmp_path, "--json")
    assert ran.code == 0, ran.err
    engine = ran.json["artifacts"][0]["engine"]
    assert engine["network"]["types"][kind] > 0
    assert engine["executed"] is False


@pytest.mark.long
def test_twice_is_byte_identical(made: tuple[Path, Ran], tmp_path: Path, call: Callable[..., Ran]) -> None:
    assert call("export", SAMPLE, "--precision", "int8", "-o", tmp_path).code == 0
    assert (tmp_path / INT8).read_bytes() == (made[0] / INT8).read_bytes()


@pytest.mark.long
def test_more_quality_keeps_more_in_fp32(made: tuple[Path, Ran], tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("export", SAMPLE, "--precision", "int8", "--quality", "73.2", "-o", tmp_path, "--json")
    assert ran.code == 0, ran.err
    (artifact,), (before, _) = ran.json["artifacts"], made[1].json["artifacts"]
    assert artifact["parity"]["tolerance"]["min_psnr"] == 73.2
    assert artifact["fp32_islands"]["ops"]["MatMul"] > before["fp32_islands"]["ops"]["MatMul"]
    assert "need at least 70" in error_line(call("export", SAMPLE, "--precision", "int8", "--quality", "69.9"))
    ran = call("export", SAMPLE, "--precision", "int8", "--quality", "120", "-o", tmp_path / "no", "--json")
    assert ran.code == 1
    assert "in every layer" in error_line(ran)
    assert not list(tmp_path.glob("no/*"))


@pytest.mark.long
def test_less_that_may_be_lost_keeps_more_in_fp32(
    made: tuple[Path, Ran], tmp_path: Path, call: Callable[..., Ran]
) -> None:
    (before, _) = made[1].json["artifacts"]
    worst = max(row["lost"] for row in before["quantization"]["ground_truth"])
    assert 0 < worst < 0.01
    budget = worst / 2
    ran = call("export", SAMPLE, "--precision", "int8", "--max-lost", budget, "-o", tmp_path, "--json")
    assert ran.code == 0, ran.err
    (artifact,) = ran.json["artifacts"]
    assert all(row["lost"] <= budget for row in artifact["quantization"]["ground_truth"])
    assert artifact["fp32_islands"]["ops"]["MatMul"] > before["fp32_islands"]["ops"]["MatMul"]
    assert "may lose up to 0.01" in error_line(call("export", SAMPLE, "--precision", "int8", "--max-lost", "0.1"))


def test_what_the_options_are_for(checkpoint_file: Path, call: Callable[..., Ran]) -> None:
    for words, says in (
        (("--quality", "70"), "are for 8 bits"),
        (("--max-lost", "0.001"), "are for 8 bits"),
        (("--calibration", PHOTOS), "are for 8 bits"),
        (("--precision", "int8", "--ffn", "conv1x1"), "is for linear layers"),
        (("--precision", "int8", "--io", "fp16"), "are for half precision"),
    ):
        assert says in error_line(call("export", checkpoint_file, *words))
        assert not list(checkpoint_file.parent.glob("*.onnx"))


def test_own_photos_calibrate_and_none_of_them_judges(tmp_path: Path, call: Callable[..., Ran]) -> None:
    checkpoint, photos, judged = save(tiny(), tmp_path / "2x_T.pth"), tmp_path / "mine", tmp_path / "judged"
    for folder, names in ((photos, ("coffee", "rocket")), (judged, ("chelsea", "rocket"))):
        folder.mkdir()
        for name in names:
            write_image(folder / f"{name}.png", read_image(PHOTOS / f"{name}.png"))
    words = ("export", checkpoint, "--precision", "int8", "--calibration", photos, "--images", judged, "--json")
    ran = call(*words)
    assert ran.code == 1
    assert "rocket.png calibrates and" in error_line(ran)
    (photos / "rocket.png").unlink()
    ran = call(*words)
    # A random network may err too much in every layer; what the photos are is seen all the same.
    if ran.code == 0:
        (artifact,) = ran.json["artifacts"]
        assert artifact["quantization"]["calibration"] == "mine"
        assert {truth["photo"] for truth in artifact["quantization"]["ground_truth"]} == {"chelsea", "rocket"}
    else:
        assert "in every layer" in error_line(ran)


def test_calibration_is_not_what_is_judged() -> None:
    """No calibration picture is a part of what the parity check shows the network."""
    crops = [crop for _, crop in parity_photos()]
    calibration = calibration_inputs()
    for photo in calibration.photos:
        rows = {row.tobytes() for row in photo[0, 0, :, :16]}
        assert not any(row.tobytes() in rows for crop in crops for row in crop[0, 0, :, :16])
    assert {truth.name for truth in ground_truths(None, None, scale=2)} == {"astronaut", "rocket"}
    with pytest.raises(ConfigError, match="they are one photo"):
        ground_truths(PHOTOS, PHOTOS, scale=2)


@pytest.mark.parametrize("static", [None, (2, 3, 20, 24)])
@pytest.mark.parametrize("channels", [1, 3])
def test_inputs_have_the_networks_shape(channels: int, static: Any) -> None:
    calibration = calibration_inputs(in_chans=channels, static=static and (2, channels, 20, 24))
    for image in calibration.images:
        assert image.dtype == np.float32
        assert image.shape[1] == channels
        assert static is None or image.shape == (2, channels, 20, 24)
    for truth in ground_truths(None, None, scale=3, in_chans=channels, static=static and (2, channels, 20, 24)):
        assert truth.hr.shape == (*truth.lr.shape[:2], 3 * truth.lr.shape[2], 3 * truth.lr.shape[3])


def test_equalizing_changes_nothing_but_the_rounding() -> None:
    """With steps so small that nothing is rounded, the layer computes what it computed before."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((64, 6)) * np.array([1, 2, 4, 8, 16, 32])
    weight = rng.standard_normal((6, 4)) / np.array([1, 2, 4, 8, 16, 32])[:, None]
    factors = quantized_layers._factors(Observed(np.abs(rows).max(axis=0), rows), [weight])
    assert np.allclose((rows / factors) @ (weight * factors[:, None]), rows @ weight)
    # What was of a wide range is of a narrower one.
    spread = np.abs(rows).max(axis=0), np.abs(rows / factors).max(axis=0)
    assert spread[1].max() / spread[1].min() < spread[0].max() / spread[0].min()


def test_upscale_and_parity_know_it(made: tuple[Path, Ran], tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("parity", SAMPLE, made[0] / INT8, "--json")
    assert (ran.code, ran.json["gate"]) == (0, "int8")
    with open_runner(made[0] / INT8) as runner:
        assert runner.precision == "int8"
    assert call("upscale", made[0] / INT8, PHOTOS / "rocket.png", "-o", tmp_path / "x.png").code == 0
    found = call("inspect", made[0] / INT8, "--json").json
    assert found["operators"]["QuantizeLinear"] == 2
    assert call("verify", made[0] / INT8).code == 0
    assert call("report", made[0] / INT8, SAMPLE, "-o", tmp_path / "x.html").code == 0
    page = (tmp_path / "x.html").read_text()
    assert "Layers in 8 bits" in page and "layers.1.0.ffn.fc1_gate" in page
    assert "Room for large numbers" not in page


def test_a_network_without_linear_layers_is_one_line(trained: Trained) -> None:
    with pytest.raises(ExportError, match="is for linear layers"):
        Variant("int8", ffn="conv1x1")
    empty = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    with pytest.raises(ExportError, match="no linear layer"):
        next(
            eight_bits.quantized_graphs(
                empty, trained.checkpoint.spec, Variant("int8"), calibration_inputs(), Variant("int8").row.tolerance
            )
        )
