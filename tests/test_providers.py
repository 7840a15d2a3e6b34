"""ONNX Runtime falls to the CPU without an error; a runner does not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from aether_deploy.artifacts.opening import open_runner
from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import RunnerError
from aether_deploy.extras import is_installed
from aether_deploy.runners.devices import DEVICES, PROVIDERS, Device, device_of
from aether_deploy.runners.onnx_runtime import OnnxRunner


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


def test_a_provider_that_is_not_there(identity: Path) -> None:
    with pytest.raises(RunnerError, match=r"CoreMLExecutionProvider is not in this ONNX Runtime, which has .*CPU"):
        OnnxRunner(identity, device=Device("coreml"))


def test_a_plugin_that_is_not_there(identity: Path) -> None:
    with pytest.raises(RunnerError, match=r"onnxruntime-ep-migraphx (is not installed|holds no plug-in) .*pip install"):
        OnnxRunner(identity, device=Device("migraphx"))


def test_a_plugin_runs_or_says_why_not(identity: Path) -> None:
    pytest.importorskip("onnxruntime_ep_openvino")
    lr = np.random.default_rng(0).random((1, 3, 5, 7), np.float32)
    try:
        runner = OnnxRunner(identity, device=Device("openvino"))
    except RunnerError as error:
        # Its plug-in knows only Intel's processors.
        assert "OpenVINOExecutionProvider finds 0 devices here" in str(error)
    else:
        assert np.abs(runner.run(lr) - lr).max() < 1e-6
        assert "OpenVINO" in runner.name


@pytest.mark.parametrize("text", ["", "gpu", "cpu:1", "auto:0", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "cuda:99999"])
def test_devices_that_are_none(text: str) -> None:
    with (
        pytest.raises(RunnerError, match=rf"device '{text}'; expected auto, cpu, cuda, .*cuda:1")
        if text
        else (contextlib.nullcontext())
    ):
        assert device_of(text) == Device("cpu")


def test_every_device_has_numbers_but_the_cpu() -> None:
    assert [str(device_of(name)) for name in DEVICES] == list(DEVICES)
    assert {str(device_of(f"{name}:2")) for name in DEVICES[2:]} == {f"{name}:2" for name in DEVICES[2:]}
    assert device_of("CUDA:1") == Device("cuda", 1)
    assert {name for name in DEVICES if Device(name).nvidia} == {"cuda", "tensorrt", "tensorrt-rtx"}


def test_the_number_reaches_the_provider(identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session:
        def __init__(self, *_: object, providers: list[object], enable_fallback: int) -> None:
            assert not enable_fallback
            asked.extend(providers)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Session)
    with pytest.raises(RunnerError, match="fell back to CPU"):
        OnnxRunner(identity, device=Device("cuda", 1))
    assert asked == [("CUDAExecutionProvider", {"device_id": "1"})]


@pytest.mark.skipif(bool(read_driver().gpus), reason="a GPU is here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt", "tensorrt-rtx", "vulkan"])
def test_a_gpu_that_is_not_here_is_refused_before_anything_loads(device: str, identity: Path) -> None:
    with pytest.raises(RunnerError, match=rf"--device {device}"):
        open_runner(identity, device=device)


def test_plugins_are_named_after_their_packages() -> None:
    assert PROVIDERS["openvino"].plugin == "onnxruntime_ep_openvino"
    assert not PROVIDERS["cuda"].plugin


def test_a_silent_fall_to_the_cpu(identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A provider whose library is missing: the session is made, on the CPU.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(RunnerError, match="did not load, ONNX Runtime fell back to CPUExecutionProvider"):
        OnnxRunner(identity, device=Device("cuda"))


@pytest.mark.skipif("TensorrtExecutionProvider" not in ort.get_available_providers(), reason="built without TensorRT")
@pytest.mark.skipif(is_installed("tensorrt-cu13"), reason="TensorRT is here")
def test_a_provider_without_its_libraries_is_one_line_and_no_chatter(
    identity: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Left alone, ONNX Runtime prints a banner to stdout, into what `--json` writes, and goes on with the CPU.
    with pytest.raises(RunnerError, match=r"^TensorrtExecutionProvider did not load \(.*TensorRT"):
        OnnxRunner(identity, device=Device("tensorrt"))
    assert not capfd.readouterr().out
