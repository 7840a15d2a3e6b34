"""Fuzzing guided by coverage, for some minutes; `python -m tests.fuzz` runs longer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", ["checkpoint", "onnx"])
def test_twenty_thousand_inputs(tmp_path: Path, target: str) -> None:
    options = ["-runs=20000", "-timeout=20", "-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    words = [sys.executable, "-m", "tests.fuzz", target, *options, str(tmp_path / "corpus")]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=1800, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]


def test_a_target_that_is_not_there() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "none"]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "usage: python -m tests.fuzz checkpoint|onnx" in ran.stderr or "atheris is not installed" in ran.stderr
