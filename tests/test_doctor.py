"""What the doctor says of this machine, and of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aether_deploy.artifacts import examination, onnx_providers
from aether_deploy.artifacts.onnx_providers import examine_providers
from aether_deploy.engines.targets import ComputeCapability
from aether_deploy.extras import install_extra
from tests.helpers.commands import Ran
from tests.helpers.engines import driver


def _rows(ran: Ran) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in ran.json["findings"]}


@pytest.mark.slow
def test_here(call: Callable[..., Ran]) -> None:
    ran = call("doctor", "--json")
    assert ran.code == 0
    rows = _rows(ran)
    assert rows["TensorRT-RTX"]["works"] is True
    assert rows["CPUExecutionProvider"] == {
        "topic": "provider",
        "name": "CPUExecutionProvider",
        "works": True,
        "detail": "runs an operator, --device cpu",
        "remedy": "",
    }
    assert ran.json["versions"]["polygraphy"]


def test_what_is_missing_comes_with_a_pip_command(call: Callable[..., Ran]) -> None:
    rows = _rows(call("doctor", "--json"))
    if rows["TensorRT"]["works"]:
        pytest.skip("TensorRT is installed here")
    assert rows["TensorRT"]["remedy"] == install_extra("tensorrt")


def test_the_placeholder_by_name(call: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    row = _rows(call("doctor", "--json"))["TensorRT"]
    assert row["works"] is False
    assert "PyPI's tensorrt-cu13-libs is a placeholder" in str(row["detail"])


def test_a_gpu_and_what_it_takes(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "read_driver", lambda: driver(ComputeCapability(9, 0)))
    row = _rows(call("doctor", "--json"))["Test GPU"]
    assert row["detail"] == "sm90 (9.0), 24 GiB, --format tensorrt"


def test_a_provider_that_falls_to_the_cpu_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    class Session:
        def __init__(self, *words: object, **options: object) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(onnx_providers, "read_driver", lambda: driver(ComputeCapability(8, 9)))
    finding = next(found for found in examine_providers() if found.name == "CUDAExecutionProvider")
    assert not finding.works
    assert finding.detail == "CUDAExecutionProvider did not load, ONNX Runtime fell back to CPUExecutionProvider"
    assert "onnxruntime-gpu" in finding.remedy
