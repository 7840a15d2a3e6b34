"""What the driver says: really without one, and through a fake of its library."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from aether_deploy.engines import gpus
from aether_deploy.engines.gpus import read_driver
from aether_deploy.engines.targets import ComputeCapability


def test_no_driver_is_a_value_that_says_why() -> None:
    driver = read_driver("libcuda_that_is_not_here.so.1")
    assert driver.current is None
    assert "no NVIDIA driver here (libcuda_that_is_not_here.so.1" in driver.problem


class FakeLibrary:
    """The functions of libcuda that are asked; `status` is what cuInit returns."""

    def __init__(self, status: int, count: int) -> None:
        self.cuInit = lambda flags: status
        self._count = count

    def cuDriverGetVersion(self, out: Any) -> int:  # noqa: N802
        out._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:  # noqa: N802
        out._obj.value = self._count
        return 0

    def cuDeviceGet(self, out: Any, index: int) -> int:  # noqa: N802
        out._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: object) -> int:  # noqa: N802
        name.value = b"NVIDIA Test"
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: object) -> int:  # noqa: N802
        out._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: object) -> int:  # noqa: N802
        out._obj.value = {75: 8, 76: 9}[attribute]
        return 0


@pytest.mark.parametrize(
    ("status", "count", "problem"),
    [(0, 1, ""), (0, 0, "the NVIDIA driver finds no GPU"), (100, 0, "finds no usable GPU (CUDA error 100)")],
)
def test_what_the_library_says(monkeypatch: pytest.MonkeyPatch, status: int, count: int, problem: str) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeLibrary(status, count))
    driver = gpus.read_driver()
    assert driver.cuda == "13.0"
    assert problem in driver.problem
    assert [(gpu.name, gpu.capability, gpu.memory) for gpu in driver.gpus] == [
        ("NVIDIA Test", ComputeCapability(8, 9), 8 << 30)
    ] * count
