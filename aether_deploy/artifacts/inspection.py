"""What a file is, where it came from and what was proved about it, from the file itself and then its manifest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.formats import KnownFile
from aether_deploy.artifacts.opening import known_file
from aether_deploy.network.families import spec_from_dict

if TYPE_CHECKING:
    from aether_deploy.proof.manifest import Manifest

__all__ = ["describe_file", "inspect_file"]

_METADATA = "aether_deploy."


def inspect_file(path: str | os.PathLike[str], *, trust: bool = False, **reading: Any) -> dict[str, Any]:
    """What a file is, as plain values for JSON: `file`, `kind`, the fields of its kind, `manifest` and `sha256`.

    Args:
        path: a checkpoint, neosr's folder, an ONNX file or an engine.
        trust: accept a file that is not the one that its manifest describes.
        reading: param_key, img_range and options of a checkpoint; see `load_checkpoint`.
    Raises:
        AetherDeployError: see `known_file` and `FormatModule.describe`.
    """
    return _inspect(known_file(path, trust=trust), reading)


def _inspect(file: KnownFile, reading: dict[str, Any]) -> dict[str, Any]:
    none = "none: it will not be loaded without --trust" if file.format.kind == "engine" else "none"
    other = none if file.manifest is None else "of another file: sha256 differs"
    found = {
        "file": str(file.path),
        "kind": file.format.kind,
        **file.format.maker.describe(file, reading=reading),
    }
    if file.format.kind != "checkpoint" or file.manifest is not None:
        found["manifest"] = "sha256 matches" if file.matches else other
    return {**found, "sha256": file.sha256}


def describe_file(file: KnownFile) -> dict[str, Any]:
    """Everything that is known about a file, as plain values for JSON.

    Returns:
        the result of `inspect_file`, with `file` as a bare name, and: bytes and manifest; summary, network, source,
        created, and recorded: {of, before_rounding, **parity}, each None if unknown; precision, io, ffn, pad,
        fp32_islands, tools and executed if known.
    Raises:
        AetherDeployError: see `FormatModule.describe`.
    """
    found = _inspect(file, {})
    unknown = {**dict.fromkeys(("summary", "network", "source", "created", "recorded")), "manifest": "none"}
    known = {**unknown, **found, "file": file.path.name, "bytes": file.path.stat().st_size}
    known |= _of_metadata(known.pop("metadata", {}))
    if file.manifest is not None:
        known |= _of_manifest(file.manifest, same=file.matches)
    if known["network"]:
        known["summary"] = spec_from_dict(known["network"]).describe()
    return known


def _of_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """What one of our ONNX files says about itself."""
    written = {key.removeprefix(_METADATA): value for key, value in metadata.items() if key.startswith(_METADATA)}
    known: dict[str, Any] = {key: written[key] for key in ("precision", "io", "ffn", "pad") if key in written}
    from aether_deploy.runners.onnx_reading import network_of

    if (spec := network_of(metadata)) is not None:
        known["network"] = spec.as_dict()
    if "source.file" in written:
        known["source"] = {key: written.get(f"source.{key}") for key in ("file", "sha256", "form")}
    return known


def _of_manifest(manifest: Manifest, *, same: bool) -> dict[str, Any]:
    islands = manifest.fp32_islands
    of, proof = manifest.proof
    return {
        **manifest.variant.as_dict(),
        **{name: getattr(manifest, name) for name in ("network", "source", "tools", "created")},
        "executed": manifest.engine.executed if manifest.engine else None,
        "fp32_islands": {key: islands[key] for key in ("policy", "ops", "casts") if key in islands},
        "activations": manifest.activations,
        "quantization": manifest.quantization,
        "recorded": proof
        and {"of": of if same else "another file", "before_rounding": islands.get("before_rounding"), **proof},
    }
