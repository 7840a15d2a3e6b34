"""The executor against torch in half precision, and against ONNX Runtime on a GPU where there is one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from aether_deploy.artifacts.opening import half_precision_of, open_faithful, open_runner
from aether_deploy.errors import RunnerError
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.half_precision import to_half
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_aether
from aether_deploy.network.spec import NetworkSpec
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.verdict import compare
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.pytorch import TorchRunner
from aether_deploy.runners.rounded import HalfRunner
from tests.helpers.graphs import tiny_graph, with_ffn, with_weight
from tests.helpers.networks import SAMPLE, save, tiny

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


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
    return fuse_aether(load_checkpoint(SAMPLE).build())


@pytest.fixture(scope="module")
def graph(sample: Any) -> ir.Model:
    """Its graph, in fp32."""
    return export_onnx(sample, NetworkSpec.from_state_dict(sample.state_dict()), opset=22)


@pytest.fixture(scope="module")
def photo() -> Any:
    """(1, 3, 48, 64) of a photo."""
    return np.ascontiguousarray(parity_photos()[2][1][:, :, :48, :64])


@pytest.mark.parametrize("ffn", ["linear", "conv1x1"])
@pytest.mark.parametrize("islands", ["default", "none"])
@pytest.mark.parametrize("precision", DTYPES)
def test_the_whole_network_is_as_torch_computes_it(
    tmp_path: Path, sample: Any, graph: ir.Model, photo: Any, precision: str, islands: str, ffn: str
) -> None:
    """Both err from fp32 alike (0.4 to 1.7 dB apart, measured), and less from each other than from fp32."""
    runner = HalfRunner(write(graph, tmp_path / "a.onnx", precision, ffn, islands=islands))
    assert runner.precision == precision
    with torch.no_grad():
        exact = sample(torch.from_numpy(photo)).numpy()
        torchs = torch_half(sample, DTYPES[precision], islands)(torch.from_numpy(photo)).float().numpy()
    ours = runner.run(photo)
    error, torch_error = compare(exact, ours), compare(exact, torchs)
    assert abs(error.psnr - torch_error.psnr) < 3
    assert compare(torchs, ours).psnr > min(error.psnr, torch_error.psnr)


def test_onnxruntime_on_the_cpu_would_show_too_little(tmp_path: Path, sample: Any, graph: ir.Model, photo: Any) -> None:
    """Why there is an executor: without islands, the CPU provider shows under two thirds of the error."""
    path = write(graph, tmp_path / "a.onnx", islands="none")
    exact = TorchRunner(sample, in_chans=3, scale=2).run(photo)
    shown, true = (compare(exact, runner.run(photo)).max_abs for runner in (OnnxRunner(path), HalfRunner(path)))
    assert shown < true / 1.5


@pytest.mark.skipif("CUDAExecutionProvider" not in ort.get_available_providers(), reason="no GPU in ONNX Runtime")
@pytest.mark.parametrize("islands", ["default", "none"])
def test_as_a_gpu_computes_it(tmp_path: Path, sample: Any, graph: ir.Model, photo: Any, islands: str) -> None:
    path = write(graph, tmp_path / "a.onnx", islands=islands)
    exact = TorchRunner(sample, in_chans=3, scale=2).run(photo)
    gpu = OnnxRunner(path, provider="CUDAExecutionProvider").run(photo)
    assert compare(exact, gpu).psnr > compare(exact, HalfRunner(path).run(photo)).psnr - 3


@pytest.mark.parametrize("options", [{"scale": 1}, {"scale": 3}, {"in_chans": 1}], ids=str)
def test_in_fp32_it_is_the_network_itself(tmp_path: Path, options: dict[str, Any]) -> None:
    network = tiny(fused_init=True, **options)
    exported = export_onnx(network, NetworkSpec.from_state_dict(network.state_dict()), opset=17)
    runner = HalfRunner(write(exported, tmp_path / "a.onnx", "fp32"))
    channels, scale = options.get("in_chans", 3), options.get("scale", 2)
    assert (runner.precision, runner.in_chans, runner.scale) == ("fp32", channels, scale)
    lr = np.random.default_rng(0).random((2, channels, 9, 14), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(lr)).numpy()
    assert np.abs(runner.run(lr) - expected).max() < 1e-5


@pytest.mark.parametrize("precision", DTYPES)
def test_every_value_is_one_of_its_type(tmp_path: Path, precision: str) -> None:
    """Without islands and with fp16 ends the output itself must be half."""
    path = write(tiny_graph(), tmp_path / "a.onnx", precision, islands="none", io="fp16")
    runner = HalfRunner(path)
    assert runner.precision == precision
    output = torch.from_numpy(runner.run(np.random.default_rng(0).random((1, 3, 9, 14), dtype=np.float32)))
    assert torch.equal(output.half().float(), output)


def test_a_norm_in_half_overflows_inside_and_says_so(tmp_path: Path) -> None:
    scaled = scaled_norm_input(tiny_graph(), 1000)
    lr = np.random.default_rng(0).random((1, 3, 9, 14), dtype=np.float32)
    runner = HalfRunner(write(scaled, tmp_path / "a.onnx", islands="none"))
    runner.run(lr)
    assert runner.overflows()[0] == ("layers.1.0.norm LayerNormalization", "LayerNormalization")
    runner = HalfRunner(write(scaled, tmp_path / "b.onnx"))
    runner.run(lr)
    assert runner.overflows() == []


def test_activations_are_those_of_the_network(tmp_path: Path) -> None:
    network = tiny(fused_init=True)
    runner = HalfRunner(write(tiny_graph(), tmp_path / "a.onnx"))
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
    assert not any("LayerNormalization" in name for name in ranges["ops"])
    runner.run(np.zeros((1, 3, 4, 4), np.float32))
    assert runner.activations["conv_after_body Conv"] == pytest.approx(seen["peak"], rel=1e-2)


class TestRefusals:
    """A file that it cannot run faithfully is refused."""

    def test_not_there_or_no_onnx(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        for name in ("text.onnx", "absent.onnx"):
            with pytest.raises(RunnerError, match="cannot be read as ONNX"):
                HalfRunner(tmp_path / name)

    def test_another_shape(self, tmp_path: Path) -> None:
        network = tiny(fused_init=True)
        spec = NetworkSpec.from_state_dict(network.state_dict())
        runner = HalfRunner(write(export_onnx(network, spec, static=(1, 3, 8, 8)), tmp_path / "a.onnx"))
        assert runner.static == (1, 3, 8, 8)
        with pytest.raises(RunnerError, match="the file takes"):
            runner.run(np.zeros((1, 3, 8, 9), np.float32))


def test_which_runner_a_file_gets(tmp_path: Path) -> None:
    files = {name: write(tiny_graph(), tmp_path / f"{name}.onnx", name) for name in ("fp32", "fp16", "bf16")}
    assert {name: half_precision_of(path) for name, path in files.items()} == {
        "fp32": None,
        "fp16": "fp16",
        "bf16": "bf16",
    }
    assert half_precision_of(save(tiny(), tmp_path / "net.pth")) is None
    assert isinstance(open_faithful(files["fp32"]), OnnxRunner)
    assert isinstance(open_faithful(files["fp16"]), HalfRunner)
    # Faster where only a picture is wanted; but ONNX Runtime has no bf16 on the CPU.
    assert isinstance(open_runner(files["fp16"]), OnnxRunner)
    assert isinstance(open_runner(files["bf16"]), HalfRunner)
