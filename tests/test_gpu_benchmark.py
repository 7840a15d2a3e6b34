"""The command for the first GPU: what runs without one, and what it says where there is none."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aether_deploy.engines.gpus import read_driver
from benchmarks import gpu


def _run(*words: str) -> str:
    ran = CliRunner().invoke(gpu.main, words, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.mark.skipif(bool(read_driver().gpus), reason="a GPU is here")
def test_without_a_gpu_it_says_what_it_would_do() -> None:
    said = _run()
    assert "On a machine with a GPU this would run:" in said
    assert all(f"- {name}: " in said for name in gpu.PARTS)


# The parts that a processor can do, on the packaged sample.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "shown"),
    [
        pytest.param("torch_half", "| torch_half | torch .half() | ", marks=pytest.mark.long),
        pytest.param("precisions", "| precisions | ONNX Runtime int8-fast CPU | passed: ", marks=pytest.mark.long),
        pytest.param("latency_256", "| latency_256 | ours, ONNX fp32, 1x3x16x24 | ", marks=pytest.mark.long),
        pytest.param("ffn_forms", "_ffn1x1.onnx, 1x3x16x24 | ", marks=pytest.mark.long),
        pytest.param("two_workers", "| two_workers | seconds with 2 | ", marks=pytest.mark.long),
        ("engine_rtx", "| engine_rtx | skipped | an engine needs a GPU |"),
    ],
)
def test_a_part(part: str, shown: str) -> None:
    assert shown in _run("--device", "cpu", "--network", "sample", "--small-sizes", "--only", part)


def test_a_part_that_fails_and_one_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "BUDGET", 6)
    found = dict(gpu.run_parts(("latency_256", "ffn_forms"), "sample", "cpu", small=True))
    assert "not done after" in found["latency_256"]["failed"]
    assert found["ffn_forms"] == {"skipped": "6 s are over"}
    table = gpu.as_markdown({"network": "sample", "machine": {"gpu": "none"}, "parts": found})
    assert "| latency_256 | failed | not done after" in table
    assert json.dumps(found)
