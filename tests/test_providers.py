"""ONNX Runtime falls to the CPU without an error; a runner does not."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from aether_deploy.errors import RunnerError
from aether_deploy.runners.onnx_runtime import OnnxRunner


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


def test_a_provider_that_is_not_there(identity: Path) -> None:
    with pytest.raises(RunnerError, match=r"NoExecutionProvider is not in this ONNX Runtime, which has .*CPU"):
        OnnxRunner(identity, provider="NoExecutionProvider")


def test_a_silent_fall_to_the_cpu(identity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A provider whose library is missing: the session is made, on the CPU.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(RunnerError, match="did not load, ONNX Runtime fell back to CPUExecutionProvider"):
        OnnxRunner(identity, provider="CUDAExecutionProvider")
