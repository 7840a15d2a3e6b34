"""An engine on the GPU: deserialized, run, measured. It lives in the process of `worker` and needs a GPU."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aether_deploy.files import replacing

__all__ = ["CACHE_SUFFIX", "Session"]

WARM_UP_RUNS = 10

CACHE_SUFFIX = ".cache"
_DIGEST_SIZE = hashlib.sha256().digest_size


class Session:
    """A deserialized engine and its execution context, in Polygraphy's runner.

    Args:
        trt: the module, `tensorrt` or `tensorrt_rtx`.
        flavour: `tensorrt` or `tensorrt-rtx`.
        engine: the file; the caller has compared its sha256.
        cache: keep the kernels that RTX compiles in `<engine>.cache` beside the file.
    Raises:
        PolygraphyException: TensorRT refuses the engine, or there is no GPU.
    """

    def __init__(self, trt: Any, flavour: str, engine: Path, cache: bool) -> None:
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        plan = engine.read_bytes()
        self._engine = EngineFromBytes(plan)()
        self._cache: Any = None
        self._cache_file = engine.with_name(engine.name + CACHE_SUFFIX)
        self._key = hashlib.sha256(plan).digest()
        context: Any = self._engine
        if flavour == "tensorrt-rtx" and cache:
            context = self._cached_context()
        self._runner = TrtRunner(context)
        self._runner.activate()
        dtype = self._engine.get_tensor_dtype("input")
        self._dtype: type[np.floating[Any]] = np.float16 if dtype.name == "HALF" else np.float32
        self._profile = 0

    def about(self) -> dict[str, Any]:
        """Inputs, outputs, profiles, and each profile's activation memory in bytes, as the engine reports them."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        count = engine.num_optimization_profiles
        return {
            "tensors": {
                name: {"dtype": engine.get_tensor_dtype(name).name, "shape": list(engine.get_tensor_shape(name))}
                for name in names
            },
            "profiles": [
                dict(
                    zip(("min", "opt", "max"), map(list, engine.get_tensor_profile_shape("input", index)), strict=True)
                )
                for index in range(count)
            ],
            "device_memory": [int(engine.get_device_memory_size_for_profile_v2(index)) for index in range(count)],
        }

    def run(self, shape: list[int], profile: int, payload: bytes) -> NDArray[np.float32]:
        """Bytes of a float32 (N, C, H, W) of `shape` -> float32 output."""
        self._select(profile)
        lr = np.frombuffer(payload, np.float32).reshape(shape).astype(self._dtype)
        output = self._runner.infer({"input": lr})["output"]
        self._keep_cache()
        return np.ascontiguousarray(output, dtype=np.float32)

    def measure(self, shape: list[int], profile: int, runs: int) -> dict[str, Any]:
        """Latency in ms with input and output on the device, including kernel launches and synchronization."""
        from polygraphy.cuda import DeviceArray, Stream

        self._select(profile)
        with Stream() as stream, DeviceArray(tuple(shape), self._dtype) as lr:
            lr.copy_from(np.full(shape, 0.5, self._dtype), stream)
            stream.synchronize()
            times = []
            for _ in range(WARM_UP_RUNS + runs):
                began = time.perf_counter()
                self._runner.infer({"input": lr}, copy_outputs_to_host=False)
                times.append((time.perf_counter() - began) * 1e3)
        self._keep_cache()
        kept = times[WARM_UP_RUNS:]
        p99 = statistics.quantiles(kept, n=100, method="inclusive")[98]
        return {"runs": runs, "median_ms": round(statistics.median(kept), 4), "p99_ms": round(p99, 4)}

    def _select(self, profile: int) -> None:
        if profile != self._profile:
            self._runner.set_profile(profile)
            self._profile = profile

    def _cached_context(self) -> Any:
        """A context that reuses compiled kernels; Polygraphy cannot make one with a runtime configuration."""
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        kept = self._read_cache()
        if kept:
            self._cache.deserialize(kept)
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _read_cache(self) -> bytes:
        """The cached kernels, if they are this engine's and intact: a flipped byte would run as code."""
        if not self._cache_file.is_file():
            return b""
        digest, kept = (data := self._cache_file.read_bytes())[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        return kept if digest == hashlib.sha256(self._key + kept).digest() else b""

    def _keep_cache(self) -> None:
        if self._cache is None:
            return
        kept = bytes(self._cache.serialize())
        data = hashlib.sha256(self._key + kept).digest() + kept
        if not self._cache_file.is_file() or self._cache_file.stat().st_size != len(data):
            with replacing(self._cache_file) as temporary:
                temporary.write_bytes(data)
