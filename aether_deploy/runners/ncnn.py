"""An ncnn network, on the CPU or through Vulkan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.errors import RunnerError
from aether_deploy.extras import install_extra
from aether_deploy.runners.devices import Device
from aether_deploy.runners.memory_errors import memory_errors
from aether_deploy.runners.protocol import Runner, measured_scale

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec

__all__ = ["INPUT", "OUTPUT", "NcnnRunner", "require_ncnn"]

# The names that realesrgan-ncnn-vulkan and Upscayl look for.
INPUT, OUTPUT = "data", "output"


class NcnnRunner(Runner):
    """A `.param` file with its `.bin`.

    Args:
        path: of the `.param`; the caller vouches for both files, since ncnn does not check what it reads.
        precision: fp32, or fp16 if the weights are stored so. On the CPU both compute in fp32; through Vulkan, fp16
            keeps values between layers in fp16 and computes in fp32, as the programs of this field do.
        spec: of the network; None if it is not known, and then it has 3 channels.
        device: `cpu`, or `vulkan` with its number.
        threads: on the CPU; by default OMP_NUM_THREADS, or one per core.
        exact: on the CPU, without Winograd's algorithm, which is faster and errs more: by 1e-4 in a network of random
            weights that is within 6e-6 without it.
    Raises:
        RunnerError: ncnn is not installed, refuses a file, or finds no such device.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "fp32",
        spec: NetworkSpec | None = None,
        device: Device | None = None,
        threads: int | None = None,
        exact: bool = False,
    ) -> None:
        ncnn = require_ncnn()
        device = device or Device("cpu")
        vulkan = device.name == "vulkan"
        if vulkan and device.index >= ncnn.get_gpu_count():
            raise RunnerError(f"--device {device}: Vulkan finds {ncnn.get_gpu_count()} devices; choose --device cpu")
        self._ncnn = ncnn
        self._net: Any = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        options.use_vulkan_compute = vulkan
        options.use_winograd_convolution = not exact
        options.use_fp16_packed = options.use_fp16_storage = vulkan and precision == "fp16"
        options.use_fp16_arithmetic = options.use_bf16_storage = False
        if vulkan:
            self._net.set_vulkan_device(device.index)
        for file, load in ((path, self._net.load_param), (path.with_suffix(".bin"), self._net.load_model)):
            if not file.is_file() or load(str(file)) != 0:
                raise RunnerError(f"{file}: ncnn cannot load it; export it again")
        ends = self._net.input_names(), self._net.output_names()
        if ends != ([INPUT], [OUTPUT]):
            raise RunnerError(f"{path}: its ends are {ends[0]} and {ends[1]}; expected {INPUT} and {OUTPUT}")
        self.precision, self.spec, self.device = precision, spec, str(device)
        self.name = f"ncnn {precision} {'Vulkan' if vulkan else 'CPU'}"
        self.in_chans = spec.in_chans if spec is not None else 3
        self.scale = spec.scale if spec is not None else measured_scale(self.run, (1, 3, 16, 16))

    def run(self, lr: Array) -> Array:
        """See `Runner`; the pictures of a batch run one after the other."""
        with memory_errors(lr.shape, RuntimeError, MemoryError):
            return np.stack([self._run_one(picture) for picture in lr])

    def _run_one(self, picture: Array) -> Array:
        """(C, H, W) -> (C, scale*H, scale*W)."""
        values = np.ascontiguousarray(picture, np.float32)
        # A matrix over numpy's memory does not keep it alive, and its planes are not aligned: where height times width
        # is no multiple of 4, Vulkan reads them wrong, and the whole picture is garbage. A clone's planes are.
        given = self._ncnn.Mat(values).clone()
        with self._net.create_extractor() as extractor:
            extractor.input(INPUT, given)
            status, found = extractor.extract(OUTPUT)
            if status != 0:
                raise RunnerError(f"ncnn failed on an input of {values.shape} (status {status})")
            return np.array(found, np.float32)

    def close(self) -> None:
        """Frees the network."""
        self._net = None


def require_ncnn() -> Any:
    """The module; raises RunnerError if it is not installed."""
    try:
        import ncnn
    except ImportError as error:
        raise RunnerError(f"ncnn is not installed ({error}): {install_extra('ncnn')}") from error
    return ncnn
