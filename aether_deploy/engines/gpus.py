"""The NVIDIA driver and the GPUs in this machine, queried through the driver's own library."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from aether_deploy.engines.targets import ComputeCapability
from aether_deploy.errors import RunnerError

__all__ = ["Driver", "Gpu", "read_driver"]

DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# Values of CUdevice_attribute in cuda.h.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; `memory` in bytes."""

    name: str
    capability: ComputeCapability
    memory: int


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver reports.

    Attributes:
        cuda: the newest CUDA version that it supports, such as "13.0"; "" without a driver.
        gpus: in the driver's order; the first is the current one.
        problem: why there is no GPU; "" if there is one.
    """

    cuda: str
    gpus: tuple[Gpu, ...]
    problem: str

    def require(self, index: int, what: str) -> None:
        """Raises RunnerError if there is no GPU of this number; `what` asked for it."""
        if self.problem:
            raise RunnerError(f"{what}: {self.problem}; or choose --device cpu")
        if index >= len(self.gpus):
            raise RunnerError(f"{what}: the driver finds {len(self.gpus)} GPUs, numbered from 0")

    @property
    def current(self) -> Gpu | None:
        """The GPU that is used; None if there is none."""
        return self.gpus[0] if self.gpus else None


def read_driver(library: str = DRIVER_LIBRARY) -> Driver:
    """Queries the driver; needs neither torch nor a CUDA toolkit, and does not raise if driver or GPU is missing."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        return Driver("", (), f"no NVIDIA driver here ({error}); install the driver for your GPU")
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    status = cuda.cuInit(0)
    if status == 0:
        status = cuda.cuDeviceGetCount(ctypes.byref(number))
    if status != 0:
        return Driver(version, (), f"the NVIDIA driver finds no usable GPU (CUDA error {status})")
    gpus = tuple(_gpu(cuda, index) for index in range(number.value))
    return Driver(version, gpus, "" if gpus else "the NVIDIA driver finds no GPU")


def _gpu(cuda: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), ComputeCapability(major.value, minor.value), memory.value)
