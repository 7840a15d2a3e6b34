"""Half precision executed as its types say: against torch, ONNX Runtime itself, and a GPU where there is one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from aether_deploy.artifacts.opening import open_artifact, open_runner
from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import RunnerError
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.rounded_results import Rounded, RoundedResults
from aether_deploy.network.aether import read_spec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.proof.figures import figures_of
from aether_deploy.proof.photos import parity_photos
from aether_deploy.runners.devices import Device
from aether_deploy.runners.onnx_reading import OnnxModel, read_onnx
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.pytorch import TorchRunner
from aether_deploy.runners.rounded import RoundedRunner, graph_of, half_type_of
from tests.helpers.commands import Ran, error_line
from tests.helpers.graphs import tiny_graph, to_half, with_ffn, with_weight
from tests.helpers.networks import SAMPLE, save, tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
# Bits of the mantissa behind the point.
MANTISSA = {"fp16": 10, "bf16": 7}

STATIC = (1, 3, 48, 64)


def write(graph: ir.Model, path: Path, precision: str = "fp16", ffn: str = "linear", **options: str) -> Path:
    """An fp32 graph as a file of one variant."""
    model = with_ffn(graph, ffn)
    save_onnx(model if precision == "fp32" else to_half(model, precision, **options).model, path)
    return path


def scaled_norm_input(graph: ir.Model, factor: float) -> ir.Model:
    """A copy in which what the norm of one block reads is larger; the network's function is the same."""
    for name in ("weight", "bias"):
        graph = with_weight(
            graph, f"layers.1.0.conv.fused_conv.{name}", lambda array: np.multiply(array, factor, out=array)
        )
    return graph


def torch_half(network: Any, dtype: torch.dtype, islands: str) -> Any:
    """A copy in `.half()` or `.bfloat16()`, with the islands in float32."""
    network = copy.deepcopy(network).to(dtype)
    if islands == "none":
        network.register_forward_pre_hook(lambda _module, args: args[0].to(dtype))
        return network
    network.mean = network.mean.float()
    network.conv_first.register_forward_pre_hook(lambda _module, args: args[0].to(dtype))
    network.conv_last.float().register_forward_pre_hook(lambda _module, args: args[0].float())
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float().register_forward_pre_hook(lambda _module, args: args[0].float())
            module.register_forward_hook(lambda _module, _args, output: output.to(dtype))
    return network


@pytest.fixture(scope="module")
def sample() -> Any:
    """The packaged network, fused."""
    checkpoint = load_checkpoint(SAMPLE)
    return fuse_network(checkpoint.build(), checkpoint.spec)


@pytest.fixture(scope="module")
def graph(sample: Any) -> ir.Model:
    """Its graph, in fp32."""
    return export_onnx(sample, read_spec(sample.state_dict()), opset=22)


@pytest.fixture(scope="module")
def static_graph(sample: Any) -> ir.Model:
    """The same with one fixed shape, that of the photo."""
    return export_onnx(sample, read_spec(sample.state_dict()), opset=22, static=STATIC)


@pytest.fixture(scope="module")
def photo() -> Any:
    """(1, 3, 48, 64) of a photo."""
    return np.ascontiguousarray(parity_photos()[2][1][:, :, :48, :64])


@pytest.mark.parametrize("ffn", first_of(["linear", "conv1x1"]))
@pytest.mark.parametrize("islands", ["default", "none"])
@pytest.mark.parametrize("precision", DTYPES)
def test_the_whole_network_is_as_torch_computes_it(
    tmp_path: Path, sample: Any, graph: ir.Model, photo: Any, precision: str, islands: str, ffn: str
) -> None:
    """Both err from fp32 alike (0.4 to 1.7 dB apart, measured), and less from each other than from fp32."""
    runner = RoundedRunner(write(graph, tmp_path / "a.onnx", precision, ffn, islands=islands))
    assert runner.precision == precision
    with torch.no_grad():
        exact = sample(torch.from_numpy(photo)).numpy()
        torchs = torch_half(sample, DTYPES[precision], islands)(torch.from_numpy(photo)).float().numpy()
    ours = runner.run(photo)
    error, torch_error = figures_of(exact, ours), figures_of(exact, torchs)
    assert abs(error.psnr - torch_error.psnr) < 3
    assert figures_of(torchs, ours).psnr > min(error.psnr, torch_error.psnr)


def test_onnxruntime_on_the_cpu_would_show_too_little(tmp_path: Path, sample: Any, graph: ir.Model, photo: Any) -> None:
    """Why there is an executor: without islands, the CPU provider shows under two thirds of the error."""
    path = write(graph, tmp_path / "a.onnx", islands="none")
    exact = TorchRunner(sample, in_chans=3, scale=2).run(photo)
    shown, true = (figures_of(exact, runner.run(photo)).max_abs for runner in (OnnxRunner(path), RoundedRunner(path)))
    assert shown < true / 1.5


@pytest.mark.skipif(not read_driver().gpus, reason="no GPU here")
@pytest.mark.parametrize("islands", ["default", "none"])
def test_as_a_gpu_computes_it(tmp_path: Path, sample: Any, graph: ir.Model, photo: Any, islands: str) -> None:
    path = write(graph, tmp_path / "a.onnx", islands=islands)
    exact = TorchRunner(sample, in_chans=3, scale=2).run(photo)
    gpu = OnnxRunner(path, device=Device("cuda")).run(photo)
    assert figures_of(exact, gpu).psnr > figures_of(exact, RoundedRunner(path).run(photo)).psnr - 3


@pytest.mark.parametrize("options", first_of([{"scale": 3}, {"scale": 1}, {"in_chans": 1}]), ids=str)
def test_in_fp32_it_is_the_network_itself(tmp_path: Path, options: dict[str, Any]) -> None:
    network = tiny(fused_init=True, **options)
    exported = export_onnx(network, read_spec(network.state_dict()), opset=17)
    path = write(exported, tmp_path / "a.onnx", "fp32")
    runner = RoundedRunner(path, ranges=True)
    channels, scale = options.get("in_chans", 3), options.get("scale", 2)
    assert (runner.precision, runner.in_chans, runner.scale) == ("fp32", channels, scale)
    lr = np.random.default_rng(0).random((2, channels, 9, 14), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(lr)).numpy()
    assert np.abs(runner.run(lr) - expected).max() < 1e-5
    # Nothing is rounded, so nothing is measured, and it is the file itself that runs.
    np.testing.assert_array_equal(runner.run(lr), OnnxRunner(path).run(lr))
    assert (runner.activations, runner.overflows(), runner.headroom()["headroom"]) == ({}, [], None)


@pytest.mark.parametrize("precision", DTYPES)
def test_every_value_is_one_of_its_type(tmp_path: Path, precision: str) -> None:
    """Without islands and with fp16 ends the output itself must be half."""
    path = write(tiny_graph(), tmp_path / "a.onnx", precision, islands="none", io="fp16")
    runner = RoundedRunner(path)
    assert runner.precision == precision
    output = torch.from_numpy(runner.run(np.random.default_rng(0).random((1, 3, 9, 14), dtype=np.float32)))
    assert torch.equal(output.half().float(), output)


def test_a_norm_in_half_overflows_inside_and_says_so(tmp_path: Path) -> None:
    scaled = scaled_norm_input(tiny_graph(), 1000)
    lr = np.random.default_rng(0).random((1, 3, 9, 14), dtype=np.float32)
    runner = RoundedRunner(write(scaled, tmp_path / "a.onnx", islands="none"), ranges=True)
    runner.run(lr)
    assert runner.overflows()[0] == ("layers.1.0.norm LayerNormalization", "LayerNormalization")
    runner = RoundedRunner(write(scaled, tmp_path / "b.onnx"), ranges=True)
    runner.run(lr)
    assert runner.overflows() == []


def test_activations_are_those_of_the_network(tmp_path: Path) -> None:
    network = tiny(fused_init=True)
    path = write(tiny_graph(), tmp_path / "a.onnx")
    runner = RoundedRunner(path, ranges=True)
    assert runner.activations == {}
    seen: dict[str, float] = {}
    network.conv_after_body.register_forward_hook(
        lambda _module, _args, output: seen.update(peak=output.abs().max().item())
    )
    lr = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
    with torch.no_grad():
        network(torch.from_numpy(lr))
    runner.run(lr)
    assert runner.activations["conv_after_body Conv"] == pytest.approx(seen["peak"], rel=1e-2)
    ranges = runner.headroom()
    assert ranges["limit"] == 65504
    assert ranges["headroom"] == pytest.approx(65504 / ranges["largest"])
    assert ranges["largest"] == max(ranges["ops"].values()) == max(ranges["operators"].values())
    # The norms compute in fp32 here, so they have no limit to keep; the Cast behind each has.
    assert "LayerNormalization" not in ranges["operators"]
    runner.run(np.zeros((1, 3, 4, 4), np.float32))
    assert runner.activations["conv_after_body Conv"] == pytest.approx(seen["peak"], rel=1e-2)
    # Measuring changes nothing, and is left out where it is not asked for.
    unmeasured = RoundedRunner(path)
    np.testing.assert_array_equal(unmeasured.run(lr), runner.run(lr))
    assert unmeasured.activations == {}


class TestRefusals:
    """A file that it cannot run faithfully is refused."""

    def test_not_there_or_no_onnx(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        for name in ("text.onnx", "absent.onnx"):
            with pytest.raises(RunnerError, match="cannot be read as ONNX"):
                RoundedRunner(tmp_path / name)

    def test_another_shape(self, tmp_path: Path) -> None:
        network = tiny(fused_init=True)
        spec = read_spec(network.state_dict())
        runner = RoundedRunner(write(export_onnx(network, spec, static=(1, 3, 8, 8)), tmp_path / "a.onnx"))
        assert runner.static == (1, 3, 8, 8)
        with pytest.raises(RunnerError, match=r"input \(1, 3, 8, 9\) was refused"):
            runner.run(np.zeros((1, 3, 8, 9), np.float32))


def test_which_runner_a_file_gets(tmp_path: Path) -> None:
    files = {name: write(tiny_graph(), tmp_path / f"{name}.onnx", name) for name in ("fp32", "fp16", "bf16")}
    kinds = {name: half_type_of(graph_of(read_onnx(path), path)) for name, path in files.items()}
    assert kinds == {"fp32": None, **TYPES}
    assert type(open_artifact(save(tiny(), tmp_path / "net.pth"), faithful=True).runner) is TorchRunner
    assert type(open_artifact(files["fp32"], faithful=True).runner) is OnnxRunner
    assert type(open_artifact(files["fp16"], faithful=True).runner) is RoundedRunner
    assert type(open_artifact(files["bf16"], faithful=True).runner) is RoundedRunner
    # Faster where only a picture is wanted; but ONNX Runtime has no bf16 on the CPU.
    assert type(open_runner(files["fp16"])) is OnnxRunner
    assert type(open_runner(files["bf16"])) is RoundedRunner


@pytest.mark.parametrize(
    ("precision", "islands", "io"),
    [("fp16", "none", "fp16"), ("fp16", "all-norms", "fp32"), ("bf16", "none", "fp16"), ("bf16", "default", "fp16")],
)
def test_the_type_of_a_graph_is_not_that_of_its_ends(tmp_path: Path, precision: str, islands: str, io: str) -> None:
    path = write(tiny_graph(), tmp_path / "a.onnx", precision, islands=islands, io=io)
    assert half_type_of(graph_of(read_onnx(path), path)) == TYPES[precision]
    assert type(open_runner(path)) is {"fp16": OnnxRunner, "bf16": RoundedRunner}[precision]
    runner = RoundedRunner(path, ranges=True)
    runner.run(np.zeros((1, 3, 4, 4), np.float32))
    assert runner.precision == precision
    assert runner.headroom()["limit"] == torch.finfo(DTYPES[precision]).max


def _half_casts(graph: ir.Graph) -> int:
    return sum(
        node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()) in TYPES.values() for node in graph
    )


def _optimized(model: ir.Model, level: Any, path: Path, lr: Any) -> tuple[int, Any]:
    """(Casts to half in the graph that ONNX Runtime really runs, what it gives)."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    data = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return _half_casts(ir.load(path).graph), session.run(None, {"input": lr})[0]


class TestOptimizations:
    """ONNX Runtime drops pairs of Casts from files; those of the pass it must keep."""

    @pytest.mark.parametrize("ffn", first_of(["linear", "conv1x1"]))
    @pytest.mark.parametrize("islands", ["default", "none"])
    @pytest.mark.parametrize("precision", DTYPES)
    def test_every_rounding_is_kept(
        self, tmp_path: Path, graph: ir.Model, photo: Any, precision: str, islands: str, ffn: str
    ) -> None:
        """And nothing else comes of them than another order of sums, which can turn a rounding the other way."""
        photo = 0.9 * photo
        path = write(graph, tmp_path / "a.onnx", precision, ffn, islands=islands)
        rounded = RoundedResults()(ir.load(path))
        assert isinstance(rounded, Rounded)
        assert rounded.casts == _half_casts(rounded.model.graph) > 35
        levels = ort.GraphOptimizationLevel
        (kept, plain), (kept_fused, fused), (kept_all, blocked) = (
            _optimized(rounded.model, level, tmp_path / "optimized.onnx", photo)
            for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL)
        )
        assert kept == kept_fused == kept_all == rounded.casts
        np.testing.assert_array_equal(RoundedRunner(path).run(photo), blocked)

        assert 0.5 < plain.max() < 1
        step = 2.0 ** -(1 + MANTISSA[precision])
        if ffn == "linear":
            # Nothing between two roundings is reordered; in fp32 islands it is, by the last bit.
            assert np.abs(fused - plain).max() <= (0 if islands == "none" else 2.0**-23)
        # The convolutions of the last level sum in blocks.
        assert max(np.abs(other - plain).max() for other in (fused, blocked)) <= step
        # Without its roundings it would be that far away.
        unrounded = figures_of(OnnxRunner(path).run(photo) if precision == "fp16" else _exact(graph, photo), plain)
        assert min(figures_of(plain, other).psnr for other in (fused, blocked)) > unrounded.psnr + 10

    @pytest.mark.parametrize("ranges", [False, True])
    @pytest.mark.parametrize("always", [True, False])
    def test_one_that_is_dropped_is_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ranges: bool, always: bool
    ) -> None:
        """By any graph: an error. By the optimized one alone: the graph runs as it is written."""
        path = write(tiny_graph(), tmp_path / "a.onnx")
        start = OnnxRunner.__init__

        def dropping(self: OnnxRunner, path: Path, *, model: OnnxModel, **options: Any) -> None:
            if not always and options["as_written"]:
                start(self, path, model=model, **options)
                return
            changed = ir.from_proto(model.proto)
            pair = next(
                (narrow, use.node)
                for narrow in changed.graph
                if narrow.op_type == "Cast" and narrow.attributes["to"].as_int() == ir.DataType.FLOAT16
                for use in narrow.outputs[0].uses()
            )
            source = pair[0].inputs[0]
            assert source is not None
            pair[1].outputs[0].replace_all_uses_with(source)
            changed.graph.remove(pair[::-1], safe=True)
            proto = ir.to_proto(changed)
            start(self, path, model=OnnxModel(proto, proto.SerializeToString()), **options)

        lr = np.random.default_rng(0).random((1, 3, 9, 7), dtype=np.float32)
        expected = RoundedRunner(path, ranges=ranges).run(lr)
        monkeypatch.setattr(OnnxRunner, "__init__", dropping)
        if not always:
            assert np.abs(RoundedRunner(path, ranges=ranges).run(lr) - expected).max() < 1e-2
            return
        with pytest.raises(
            RunnerError, match=r"ONNX Runtime keeps (\d+) of (\d+) roundings; it proves nothing"
        ) as said:
            RoundedRunner(path, ranges=ranges)
        kept, wanted = (int(word) for word in str(said.value).split() if word.isdecimal())
        assert wanted - kept == 1

    def test_a_graph_in_fp32_is_left_as_it_is(self) -> None:
        model = tiny_graph().clone()
        rounded = RoundedResults(ranges=True)(model)
        assert isinstance(rounded, Rounded)
        assert (rounded.modified, rounded.casts, rounded.ranges) == (False, 0, {})
        assert ir.to_proto(model).SerializeToString() == ir.to_proto(tiny_graph()).SerializeToString()


def _exact(graph: ir.Model, lr: Any) -> Any:
    """What an fp32 graph gives."""
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": lr})[0]


def _convs(graph: ir.Graph, name: str = "") -> list[ir.Node]:
    """Those whose weights are called so, in order."""
    return [node for node in graph if node.op_type == "Conv" and name in str(getattr(node.inputs[1], "name", ""))]


def _set(node: ir.Node, **attributes: list[int] | str) -> None:
    for name, value in attributes.items():
        node.attributes[name] = ir.AttrString(name, value) if isinstance(value, str) else ir.AttrInt64s(name, value)


def norm_axis(graph: ir.Graph) -> None:
    """Norms over width and channels."""
    for node in graph:
        if node.op_type == "LayerNormalization":
            node.attributes["axis"] = ir.AttrInt64("axis", -2)


def dilations(graph: ir.Graph) -> None:
    """Depthwise kernels twice as wide."""
    for node in _convs(graph, "fused_conv"):
        _set(node, dilations=[2, 2], pads=[2 * pad for pad in node.attributes["pads"].as_ints()])


def auto_pad_valid(graph: ir.Graph) -> None:
    """A convolution without pads, and so much more at the next that the size is right again."""
    before, last = _convs(graph)[-2:]
    del before.attributes["pads"]
    _set(before, auto_pad="VALID")
    _set(last, pads=[3, 3, 3, 3])


def uneven_pads(graph: ir.Graph) -> None:
    """All pads at one side, which shifts the picture."""
    for node in _convs(graph, "fused_conv"):
        top, left, bottom, right = node.attributes["pads"].as_ints()
        _set(node, pads=[0, 0, top + bottom, left + right])


def strides(graph: ir.Graph) -> None:
    """Every second pixel of a picture with a wide border of zeros: for one shape the size is right."""
    first = _convs(graph)[0]
    (_, _, *sizes), (*_, kernel) = STATIC, first.attributes["kernel_shape"].as_ints()
    needed = [size + kernel - 2 for size in sizes]
    before = [need // 2 for need in needed]
    _set(first, strides=[2, 2], pads=[*before, *(need - low for need, low in zip(needed, before, strict=True))])


def shuffle_mode(graph: ir.Graph) -> None:
    """Channels are shuffled in the other order."""
    for node in graph:
        if node.op_type == "DepthToSpace":
            _set(node, mode="DCR")


def foreign_operator(graph: ir.Graph) -> None:
    """One that no AetherNet has."""
    for node in graph:
        if node.op_type == "LeakyRelu":
            node.op_type = "Softplus"
            node.attributes.clear()


DAMAGES = (
    norm_axis,
    dilations,
    auto_pad_valid,
    uneven_pads,
    strides,
    shuffle_mode,
    foreign_operator,
)
# These change the size of a single pixel's output, so they are for one shape.
FIXED = (auto_pad_valid, strides)


class TestWhatTheFileSays:
    """A file is run as it is, and not as the network it was made from: every attribute and every operator counts."""

    @pytest.mark.parametrize("islands", first_of(["default", "none"]))
    @pytest.mark.parametrize("damage", first_of(DAMAGES, 4))
    def test_as_onnxruntime_runs_it(
        self,
        tmp_path: Path,
        graph: ir.Model,
        static_graph: ir.Model,
        photo: Any,
        islands: str,
        damage: Callable[[ir.Graph], None],
    ) -> None:
        path = write(static_graph if damage in FIXED else graph, tmp_path / "whole.onnx", islands=islands)
        whole = RoundedRunner(path).run(photo)
        damaged = ir.load(path)
        damage(damaged.graph)
        save_onnx(damaged, tmp_path / "damaged.onnx")
        ours = RoundedRunner(tmp_path / "damaged.onnx").run(photo)
        error = figures_of(OnnxRunner(tmp_path / "damaged.onnx").run(photo), ours)
        assert error.max_abs < 1 / 255
        assert figures_of(whole, ours).max_abs > max(10 * error.max_abs, 3 / 255)

    @pytest.mark.parametrize("damage", first_of(DAMAGES, 2))
    def test_parity_closes(
        self,
        tmp_path: Path,
        graph: ir.Model,
        static_graph: ir.Model,
        call: Callable[..., Ran],
        damage: Callable[[ir.Graph], None],
    ) -> None:
        """And is open to the file before it was damaged."""
        path = write(static_graph if damage in FIXED else graph, tmp_path / "a.onnx")
        ran = call("parity", SAMPLE, path, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["gate"] == "fp16"
        damaged = ir.load(path)
        damage(damaged.graph)
        save_onnx(damaged, path)
        ran = call("parity", SAMPLE, path, "--json")
        assert ran.code == 3, ran.err
        assert "is not the network as it was trained" in error_line(ran)
        assert ran.json["parity"]["gate"] == "fp16"
        assert ran.json["parity"]["figures"]["max_abs"] > 3 / 255

    def test_auto_pad_beside_pads_is_no_onnx(self, tmp_path: Path) -> None:
        model = to_half(tiny_graph()).model
        _set(_convs(model.graph)[0], auto_pad="VALID")
        save_onnx(model, tmp_path / "a.onnx")
        for runner in (OnnxRunner, RoundedRunner):
            with pytest.raises(RunnerError, match=r"cannot load it .*has both 'auto_pad' and 'pads'"):
                runner(tmp_path / "a.onnx")

    def test_pads_of_onnxruntimes_own(self, tmp_path: Path, graph: ir.Model, photo: Any) -> None:
        """For kernels of odd size they are the same; with dilations ONNX Runtime has none."""
        path = write(graph, tmp_path / "a.onnx")
        model = ir.load(path)
        for node in _convs(model.graph):
            del node.attributes["pads"]
            _set(node, auto_pad="SAME_UPPER")
        save_onnx(model, tmp_path / "same.onnx")
        np.testing.assert_array_equal(RoundedRunner(tmp_path / "same.onnx").run(photo), RoundedRunner(path).run(photo))
        _set(_convs(model.graph)[1], dilations=[2, 2])
        save_onnx(model, tmp_path / "dilated.onnx")
        for runner in (OnnxRunner, RoundedRunner):
            with pytest.raises(RunnerError, match=r"was refused: .*Dilation not supported"):
                runner(tmp_path / "dilated.onnx")

    @pytest.mark.parametrize(("axis", "same"), [(2, True), (2, False), (3, True), (3, False)])
    def test_an_axis_counted_from_the_front(self, tmp_path: Path, axis: int, *, same: bool) -> None:
        """In a norm in half, which is taken apart."""
        outputs = []
        for written in (axis, axis - 4 if same else 5 - axis):
            model = to_half(tiny_graph(), islands="none").model
            for node in model.graph:
                if node.op_type == "LayerNormalization":
                    node.attributes["axis"] = ir.AttrInt64("axis", written)
            save_onnx(model, tmp_path / "a.onnx")
            outputs.append(RoundedRunner(tmp_path / "a.onnx").run(np.full((1, 3, 9, 14), 0.3, np.float32)))
        first, second = outputs
        assert np.array_equal(first, second) == same

    def test_a_norm_below_opset_18(self, tmp_path: Path) -> None:
        """Where ReduceMean has its axes as an attribute; GELU is more operators there, so it is rounded more often."""
        lr = np.random.default_rng(0).random((1, 3, 9, 14), dtype=np.float32)
        old, new = (
            RoundedRunner(write(tiny_graph(opset), tmp_path / f"{opset}.onnx", islands="none")).run(lr)
            for opset in (17, 22)
        )
        exact = OnnxRunner(write(tiny_graph(), tmp_path / "a.onnx", "fp32")).run(lr)
        assert abs(figures_of(exact, old).psnr - figures_of(exact, new).psnr) < 3
