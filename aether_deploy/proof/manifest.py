"""The JSON beside each artifact: what it is, where it came from, and what was proved."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import AetherDeployError, ManifestError
from aether_deploy.files import replacing, sha256_of
from aether_deploy.network.families import spec_from_dict
from aether_deploy.precisions.choices import MIRROR
from aether_deploy.precisions.variant import Variant
from aether_deploy.text import printable

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = [
    "SCHEMA",
    "EngineRecord",
    "Manifest",
    "describe_artifact",
    "describe_source",
    "manifest_path",
    "read_manifest",
    "require_match",
    "tool_versions",
    "utc_now",
]

SCHEMA = 1
# Bytes; those of large networks have some 50 kB.
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What a manifest says about an engine.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        version: of the TensorRT that built it, the only one that runs it.
        compute_capabilities: those that it is for, such as `sm86`.
        profiles: {min, opt, max, activation_bytes} of each.
        workspace: limit of activation memory in bytes; None for all the memory there was.
        build_seconds: duration of the build.
        network: inputs, outputs, layers and types, read back from the parsed network.
        header: what the file's first bytes say.
        onnx: {file, sha256, bytes, kind, parity} of the file that it was built from.
        executed: whether it was run, so that `parity` is its own.
        device: {gpu, compute_capability, cuda} that it ran on.
        latency: {shape, runs, median_ms, p99_ms} of each measured shape.
        device_memory: activation memory of each profile in bytes, as the engine reports it.
    """

    flavour: str
    version: str
    compute_capabilities: list[str]
    profiles: list[dict[str, Any]]
    workspace: int | None
    build_seconds: float
    network: dict[str, Any]
    header: dict[str, Any]
    onnx: dict[str, Any]
    executed: bool = False
    device: dict[str, Any] | None = None
    latency: list[dict[str, Any]] | None = None
    device_memory: list[int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON, without the fields that only an executed engine has if this one was not."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None or name == "workspace"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest; values that are None or empty are left out of the file.

    Attributes:
        artifact: {file, sha256, bytes, kind}.
        source: {file, sha256, param_key, form}.
        network: the spec.
        parity: {gate, passed, worst, figures, cases}; None for an engine that was not run.
        variant: precision, types of input and output, islands, FFN, padding and opset; in the file each is a
            field of its own.
        shapes: {input, output}, symbolic or fixed; or {min, opt, max} of an engine.
        fp32_islands: {asked, policy, ops, casts, measured} of a half-precision graph.
        weights: {rounded, overflow, underflow, largest, worst} of a half-precision graph.
        activations: {limit, largest, at, headroom, ops} over the parity cases, of a half-precision graph; of one with 8
            bits in fp32 as shares of what is not clipped.
        quantization: {calibration, layers, ground_truth, executions, clipped} of a graph with layers in 8 bits.
        engine: only of an engine.
        tools: {name: version}.
        created: UTC, ISO 8601.
        schema: version of this format.
    """

    artifact: dict[str, Any]
    source: dict[str, Any]
    network: dict[str, Any]
    parity: dict[str, Any] | None
    variant: Variant
    shapes: dict[str, Any] = field(default_factory=dict)
    fp32_islands: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    activations: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    engine: EngineRecord | None = None
    tools: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema: int = SCHEMA

    @property
    def proof(self) -> tuple[str, dict[str, Any] | None]:
        """(what was compared, its report); for an engine that was not run, the ONNX file that it was built from."""
        if self.parity is None and self.engine is not None:
            return "the ONNX file", self.engine.onnx["parity"]
        return "the engine" if self.artifact["kind"] == "engine" else "the file", self.parity

    def as_dict(self) -> dict[str, Any]:
        """Its contents as in the file."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del values["variant"]
        return {
            "schema": values.pop("schema"),
            "artifact": values.pop("artifact"),
            "source": values.pop("source"),
            "network": values.pop("network"),
            "parity": values.pop("parity"),
            **self.variant.as_dict(),
            "opset": None if self.artifact["kind"] == "checkpoint" else self.variant.opset,
            **values,
            "engine": self.engine and self.engine.as_dict(),
        }

    def write(self, artifact: Path) -> Path:
        """Writes `<artifact>.json`, to be published together with the file; returns its path."""
        target = manifest_path(artifact)
        values = {name: value for name, value in self.as_dict().items() if value not in (None, "", {})}
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return target


def describe_artifact(path: Path, kind: str, *parts: Path) -> dict[str, Any]:
    """{file, sha256, bytes, kind} of a file; with `parts`, the other files that belong to it, of all of them."""
    files = (path, *parts)
    return {
        "file": printable(path.name),
        "sha256": sha256_of(*files),
        "bytes": sum(file.stat().st_size for file in files),
        "kind": kind,
    }


def describe_source(checkpoint: Checkpoint) -> dict[str, Any]:
    """{file, sha256, param_key, form} of the checkpoint that an artifact was made from."""
    form = "fused" if checkpoint.spec.fused else "unfused"
    return {
        "file": printable(checkpoint.path.name),
        "sha256": checkpoint.sha256,
        "param_key": printable(checkpoint.param_key),
        "form": form,
    }


def manifest_path(artifact: Path) -> Path:
    """`<artifact>.json`."""
    return artifact.with_name(artifact.name + ".json")


def read_manifest(artifact: str | os.PathLike[str]) -> Manifest | None:
    """The manifest beside an artifact; None if there is none.

    Raises:
        ManifestError: the file is not a manifest, or has another schema.
    """
    from aether_deploy.proof.manifest_schema import parse_manifest

    path = manifest_path(Path(artifact))
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ManifestError(f"{path.stat().st_size} bytes, at most {_LARGEST} are expected")
        values = parse_manifest(path.read_bytes())
        if values["schema"] != SCHEMA:
            raise ManifestError(f"schema {values['schema']}, expected {SCHEMA}")
        spec_from_dict(values["network"])
        return _from_dict(values)
    except (OSError, AetherDeployError) as error:
        raise ManifestError(f"{path}: no manifest of aether_deploy ({error}); export the artifact again") from error


def _from_dict(values: dict[str, Any]) -> Manifest:
    """The inverse of `Manifest.as_dict`."""
    known = dict(values)
    static = known.get("shapes", {}).get("input")
    fixed = static is not None and all(isinstance(size, int) for size in static)
    variant = Variant(
        known.pop("precision"),
        io=known.pop("io", "fp32"),
        islands=known.get("fp32_islands", {}).get("asked", "default"),
        ffn=known.pop("ffn", "linear"),
        opset=known.pop("opset", 0),
        static=tuple(static) if fixed else None,
        pad=known.pop("pad", "") == MIRROR,
    )
    engine = known.pop("engine", None)
    return Manifest(**{"parity": None, **known, "variant": variant, "engine": engine and EngineRecord(**engine)})


def require_match(artifact: Path, manifest: Manifest, sha256: str) -> None:
    """Checks that a file is the one that its manifest describes.

    Args:
        artifact: the file, for messages.
        manifest: beside it.
        sha256: of the file, hexadecimal.
    Raises:
        ManifestError: it is not.
    """
    expected = manifest.artifact["sha256"]
    if sha256 != expected:
        raise ManifestError(
            f"{artifact}: sha256 {sha256[:12]}..., but its manifest says {expected[:12]}...: "
            "not the file that was proved; export it again"
        )


def tool_versions(*packages: str) -> dict[str, str]:
    """Versions of Python, aether-deploy and the named distributions, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in ("aether-deploy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def utc_now() -> str:
    """The current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
