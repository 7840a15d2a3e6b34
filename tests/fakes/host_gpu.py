"""A thin fake of what needs a GPU: CUDA memory in host memory, and an engine that ONNX Runtime executes.

Everything else is real: Polygraphy's loaders and its `TrtRunner`, the worker, the pipes. FAKE_ENGINE_ONNX names
the file that an "engine" runs, FAKE_ENGINE_PROFILES its profiles as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any

import numpy as np


class HostCuda:
    """Polygraphy's CUDA wrapper, over host memory."""

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}

    def create_stream(self) -> int:
        return 1

    def stream_synchronize(self, ptr: int) -> None:
        pass

    def destroy_stream(self, ptr: int) -> None:
        pass

    def malloc(self, nbytes: int) -> int:
        block = ctypes.create_string_buffer(max(nbytes, 1))
        address = ctypes.addressof(block)
        self._blocks[address] = block
        return address

    def free(self, ptr: int) -> None:
        self._blocks.pop(ptr, None)

    def memcpy(self, dst: int, src: int, nbytes: int, kind: object, stream_ptr: int | None = None) -> None:
        ctypes.memmove(dst, src, nbytes)


def install(trt: Any) -> dict[str, Any]:
    """The names of the API that need a GPU, for a fake module to export over those of the real `trt`."""
    import onnxruntime as ort
    import polygraphy.cuda.cuda as polygraphy_cuda

    polygraphy_cuda.G_CUDA = HostCuda()

    class IRuntimeCache:
        def __init__(self) -> None:
            self.kept = b""

        def deserialize(self, kept: bytes) -> bool:
            self.kept = bytes(kept)
            return True

        def serialize(self) -> bytes:
            return self.kept or b"compiled kernels"

    class IRuntimeConfig:
        def create_runtime_cache(self) -> IRuntimeCache:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            print(f"fake: cache of {len(cache.kept)} bytes")
            return True

    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self.engine = engine
            self.active_optimization_profile = 0
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._allocators: dict[str, Any] = {}

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            self.active_optimization_profile = index
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._shapes.get(name, ())

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
            self._shapes[name] = tuple(shape)
            return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

        def get_tensor_address(self, name: str) -> int:
            return self._addresses.get(name, 0)

        def set_tensor_address(self, name: str, address: int) -> bool:
            self._addresses[name] = address
            return True

        def set_output_allocator(self, name: str, allocator: Any) -> bool:
            self._allocators[name] = allocator
            return True

        def execute_async_v3(self, stream: int) -> bool:
            shape, dtype = self._shapes["input"], self.engine.numpy_dtype
            lr = np.empty(shape, dtype)
            ctypes.memmove(lr.ctypes.data, self._addresses["input"], lr.nbytes)
            (output,) = self.engine.session.run(None, {"input": lr})
            output = np.ascontiguousarray(output)
            address = self._allocators["output"].reallocate_output_async("output", 0, output.nbytes, 256, stream)
            self._allocators["output"].notify_shape("output", output.shape)
            self._shapes["output"] = output.shape
            ctypes.memmove(address, output.ctypes.data, output.nbytes)
            return True

    class ICudaEngine:
        num_io_tensors = 2

        def __init__(self) -> None:
            self.session = ort.InferenceSession(os.environ["FAKE_ENGINE_ONNX"], providers=["CPUExecutionProvider"])
            self._half = self.session.get_inputs()[0].type == "tensor(float16)"
            self.numpy_dtype = np.float16 if self._half else np.float32
            self._profiles = json.loads(os.environ["FAKE_ENGINE_PROFILES"])
            self.num_optimization_profiles = len(self._profiles)

        def get_tensor_name(self, index: int) -> str:
            return ("input", "output")[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == "input" else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType.HALF if self._half else trt.DataType.FLOAT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (1, 3, -1, -1)

        def get_tensor_format(self, name: str, profile: int = 0) -> Any:
            return trt.TensorFormat.LINEAR

        def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
            return [tuple(self._profiles[index][which]) for which in ("min", "opt", "max")]

        def get_device_memory_size_for_profile_v2(self, index: int) -> int:
            return 1 << 20

        def is_shape_inference_io(self, name: str) -> bool:
            return False

        def create_runtime_config(self) -> IRuntimeConfig:
            return IRuntimeConfig()

        def create_execution_context(self, config: object = None) -> IExecutionContext:
            return IExecutionContext(self)

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine:
            return ICudaEngine()

    made = (IRuntimeCache, IRuntimeConfig, IExecutionContext, ICudaEngine, Runtime)
    return {item.__name__: item for item in made}
