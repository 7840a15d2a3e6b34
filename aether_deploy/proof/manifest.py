"""The JSON beside each artifact: what it is, where it came from, what was proved."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import ManifestError
from aether_deploy.files import sha256_of

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = [
    "SCHEMA",
    "Manifest",
    "describe_artifact",
    "describe_source",
    "manifest_path",
    "read_manifest",
    "tool_versions",
    "utc_now",
    "verify_artifact",
]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The fields of design's manifest; a value of None or an empty one is left out of the file.

    Attributes:
        artifact: {file, sha256, bytes, kind}.
        source: {file, sha256, param_key}.
        network: the spec.
        parity: {gate, passed, worst, figures, cases}; none of an engine that was not run.
        precision: fp32, fp16 or bf16.
        io: fp32 or fp16, the types at both ends.
        opset: of ONNX.
        shapes: {input, output} symbolic or fixed, or {min, opt, max} of an engine.
        ffn: linear or conv1x1.
        fp32_islands: {asked, policy, ops, casts, measured} of a half-precision graph.
        weights: {rounded, overflow, underflow, largest, worst} of a half-precision graph.
        activations: {limit, largest, at, headroom, ops} over the parity cases, of a half-precision graph.
        engine: {flavour, version, compute_capabilities, profiles, workspace, build_seconds, network, header,
            onnx: what it was built from and its parity, executed}; once executed {device, latency, device_memory} too.
        tools: {name: version}.
        created: UTC, ISO 8601.
        schema: of this file.
    """

    artifact: dict[str, Any]
    source: dict[str, Any]
    network: dict[str, Any]
    parity: dict[str, Any] | None
    precision: str
    io: str = "fp32"
    opset: int | None = None
    shapes: dict[str, Any] = field(default_factory=dict)
    ffn: str = "linear"
    fp32_islands: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    activations: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    created: str = ""
    schema: int = SCHEMA

    @property
    def proof(self) -> tuple[str, dict[str, Any] | None]:
        """(what was compared, the report on it); of an engine that was not run, the ONNX file that it comes from."""
        if self.parity is None and "onnx" in self.engine:
            return "the ONNX file", self.engine["onnx"]["parity"]
        return "the engine" if self.artifact["kind"] == "engine" else "the file", self.parity

    def write(self, artifact: Path) -> Path:
        """Writes `<artifact>.json`, replacing it whole."""
        target = manifest_path(artifact)
        values = {k: v for k, v in dataclasses.asdict(self).items() if v not in (None, "", {})}
        values = {"schema": values.pop("schema"), **values}
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(target)
        return target


def describe_artifact(path: Path, kind: str, *, name: str | None = None) -> dict[str, Any]:
    """{file, sha256, bytes, kind} of a file; `name` where it still has a temporary one."""
    return {"file": name or path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "kind": kind}


def describe_source(checkpoint: Checkpoint) -> dict[str, Any]:
    """{file, sha256, param_key, form} of the checkpoint that an artifact was made from."""
    form = "fused" if checkpoint.spec.fused else "unfused"
    return {
        "file": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "param_key": checkpoint.param_key,
        "form": form,
    }


def manifest_path(artifact: Path) -> Path:
    """`<artifact>.json`."""
    return artifact.with_name(artifact.name + ".json")


def read_manifest(artifact: Path) -> Manifest | None:
    """The manifest beside an artifact; None if there is none.

    Raises:
        ManifestError: a file that is none, or of another schema.
    """
    path = manifest_path(artifact)
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ManifestError(f"{path}: schema {values['schema']}, expected {SCHEMA}; export the artifact again")
        return Manifest(**{"parity": None, **values})
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{path}: no manifest of aether_deploy ({error}); export the artifact again") from error


def verify_artifact(artifact: Path) -> Manifest | None:
    """The manifest beside an artifact, after its sha256 was compared; None if there is none.

    Raises:
        ManifestError: the file is not the one that was proved, or is not there.
    """
    manifest = read_manifest(artifact)
    if manifest is not None:
        if not artifact.is_file():
            raise ManifestError(f"{artifact}: not there, only its manifest is; export it again")
        seen = describe_artifact(artifact, "")["sha256"]
        expected = manifest.artifact["sha256"]
        if seen != expected:
            raise ManifestError(
                f"{artifact}: sha256 {seen[:12]}..., but its manifest says {expected[:12]}...: "
                "not the file that was proved; export it again"
            )
    return manifest


def tool_versions(*packages: str) -> dict[str, str]:
    """Versions of aether-deploy, Python and the named distributions, those that are installed."""
    versions = {"python": platform.python_version()}
    for package in ("aether-deploy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
