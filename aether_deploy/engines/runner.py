"""An engine as a `Runner`: checked against its manifest, then run in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aether_deploy.arrays import Array, Shape
from aether_deploy.engines.build import translated
from aether_deploy.engines.header import PLAN_MAGICS, EngineHeader, read_header
from aether_deploy.engines.log import OUT_OF_MEMORY, explain
from aether_deploy.engines.process import FLAVOURS, EngineProcess, RefusedError, tensorrt_version
from aether_deploy.engines.profiles import Profile
from aether_deploy.errors import EngineError, OutOfMemoryError, RunnerError
from aether_deploy.network.families import spec_from_dict
from aether_deploy.proof.manifest import Manifest
from aether_deploy.runners.devices import Device
from aether_deploy.runners.protocol import Runner, measured_scale

__all__ = ["CheckedEngine", "EngineRunner", "check_engine"]


@dataclass(frozen=True, slots=True)
class CheckedEngine:
    """An engine that may be loaded.

    Attributes:
        path: the file.
        flavour: `tensorrt` or `tensorrt-rtx`.
        header: of the file.
        manifest: of the file; None only where the caller trusts it without one.
    """

    path: Path
    flavour: str
    header: EngineHeader
    manifest: Manifest | None


def check_engine(path: Path, manifest: Manifest | None, *, trust: bool = False) -> CheckedEngine:
    """Decides whether an engine may be loaded, before TensorRT sees a byte of it: an engine is code.

    Args:
        path: the file.
        manifest: of the file, whose sha256 the caller has compared; None if there is none.
        trust: load it without a manifest, or whatever version built it.
    Raises:
        EngineError: the file is not an engine, is cut off, has no manifest for an engine, or was built by another
            version.
    """
    header = read_header(path)
    if manifest is None:
        if not trust:
            raise EngineError(
                f"{path}: no manifest beside it, so nobody vouches for it, and an engine is code; "
                "export it here, or add --trust if you know where it comes from"
            )
        return CheckedEngine(path, "tensorrt" if header.magic.encode() in PLAN_MAGICS else "tensorrt-rtx", header, None)
    if manifest.engine is None:
        raise EngineError(f"{path}: its manifest is not that of an engine; export it again")
    flavour = manifest.engine.flavour
    if flavour not in FLAVOURS:
        raise EngineError(f"{path}: its manifest says flavour {flavour!r}; expected {' or '.join(FLAVOURS)}")
    if not trust:
        _require_version(path, flavour, manifest.engine.version)
    return CheckedEngine(path, flavour, header, manifest)


def _require_version(path: Path, flavour: str, built_by: str) -> None:
    installed = tensorrt_version(flavour)
    if built_by != installed:
        title = FLAVOURS[flavour].title
        raise EngineError(
            f"{path}: built by {title} {built_by}, installed is {installed}; an engine runs in its own version only: "
            f"export it again, or install that version"
        )


class EngineRunner(Runner):
    """An engine on the GPU in this machine.

    Args:
        path: the file.
        manifest, trust: see `check_engine`.
        cache: keep RTX's compiled kernels in `<engine>.cache` beside the file.
        gpu: which of several, by the driver's number.
    Raises:
        EngineError: see `check_engine`; or TensorRT refuses it: no driver, another GPU, a damaged file.
    """

    def __init__(
        self, path: Path, manifest: Manifest | None, *, trust: bool = False, cache: bool = True, gpu: int = 0
    ) -> None:
        checked = check_engine(path, manifest, trust=trust)
        self._what = path.name
        self._process = EngineProcess(checked.flavour, gpu)
        self.device = str(Device("cuda", gpu))
        try:
            with translated(self._what):
                answer, _ = self._process.ask("open", engine=str(path.resolve()), cache=cache)
        except BaseException:
            self._process.close()
            raise
        self.about: dict[str, Any] = answer
        self.profiles = tuple(_profile(values) for values in answer["profiles"])
        first = self.profiles[0]
        self.static = first.max if first.min == first.max and len(self.profiles) == 1 else None
        self.smallest = first.min
        self.in_chans = first.max[1]
        self.spec = spec_from_dict(manifest.network) if manifest else None
        self.precision = manifest.variant.precision if manifest else "fp16"
        self.name = f"{FLAVOURS[checked.flavour].title} {self.precision}"
        try:
            self.scale = self.spec.scale if self.spec else measured_scale(self.run, first.min)
        except BaseException:
            self.close()
            raise

    def run(self, lr: Array) -> Array:
        """See `Runner`.

        Raises:
            OutOfMemoryError: too large for every profile or for the memory; a smaller input may run.
            RunnerError: outside every profile in another way, where TensorRT has been seen to hang.
            EngineError: TensorRT failed.
        """
        values = np.ascontiguousarray(lr, np.float32)
        shape, profile = list(lr.shape), self._profile_of(lr.shape)
        with translated(self._what):
            try:
                answer, data = self._process.ask("run", values.data.cast("B"), shape=shape, profile=profile)
            except RefusedError as refusal:
                if explain(refusal.log) == OUT_OF_MEMORY:
                    seen = "x".join(map(str, shape))
                    raise OutOfMemoryError(f"out of memory for an input of {seen}; give a smaller tile") from refusal
                raise
        return np.frombuffer(data, np.float32).reshape(answer["shape"])

    def measure(self, shape: Shape, runs: int) -> dict[str, Any]:
        """{runs, median_ms, p99_ms} of `runs` runs of one shape, input and output staying on the device.

        Raises:
            RunnerError, EngineError: see `run`.
        """
        with translated(self._what):
            answer, _ = self._process.ask("measure", shape=list(shape), profile=self._profile_of(shape), runs=runs)
        return {key: answer[key] for key in ("runs", "median_ms", "p99_ms")}

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether any profile takes the shape."""
        return any(profile.takes(shape) for profile in self.profiles)

    def close(self) -> None:
        """Frees the GPU; the runner cannot be used afterwards."""
        self._process.close()

    def _profile_of(self, shape: tuple[int, ...]) -> int:
        for index, profile in enumerate(self.profiles):
            if profile.takes(shape):
                return index
        known = "; ".join(map(str, self.profiles))
        larger = not any(p.max[2] >= shape[2] and p.max[3] >= shape[3] for p in self.profiles)
        # An input that is too large is reported as a lack of memory, since halving the tile helps here too.
        raise (OutOfMemoryError if larger else RunnerError)(
            f"{self._what}: input {'x'.join(map(str, shape))} is outside its profiles ({known}); upscale with --tile, "
            "or export it with another --min-shape or --max-shape"
        )


def _profile(values: dict[str, list[int]]) -> Profile:
    shapes = [(n, c, h, w) for n, c, h, w in (values["min"], values["opt"], values["max"])]
    return Profile(*shapes)
