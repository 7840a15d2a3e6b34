"""What a file is, where it came from and what was proved of it: from the file itself, then from its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aether_deploy.inspect import inspect_file
from aether_deploy.manifest import Manifest, read_manifest, verify_artifact
from aether_deploy.spec import NetworkSpec

__all__ = ["describe_file"]

_METADATA = "aether_deploy."


def describe_file(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Everything that is known of a file, as plain values for JSON.

    Args:
        path: checkpoint, neosr's folder, ONNX file or engine.
        trust: one that is not what its manifest describes, too.
    Returns:
        What `inspect_file` gives, with `file` as a bare name, and besides: bytes, manifest; summary, network, source,
        created, and recorded: {of, before_rounding, **parity}, or None; precision, io, ffn, fp32_islands, tools and
        executed if known.
    Raises:
        ManifestError: not the file that was proved.
        AetherDeployError: see `inspect_file`.
    """
    manifest = (read_manifest if trust or not path.is_file() else verify_artifact)(path)
    found = inspect_file(path, trust=trust)
    file = Path(found["file"])
    unknown = {**dict.fromkeys(("summary", "network", "source", "created", "recorded")), "manifest": "none"}
    known = {**unknown, **found, "file": file.name, "bytes": file.stat().st_size}
    known |= _of_metadata(known.pop("metadata", {}))
    if manifest is not None:
        known |= _of_manifest(manifest, found["sha256"])
    if known["network"]:
        known["summary"] = NetworkSpec.from_dict(known["network"]).describe()
    return known


def _of_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """What an ONNX file of ours says of itself."""
    written = {key.removeprefix(_METADATA): value for key, value in metadata.items() if key.startswith(_METADATA)}
    known: dict[str, Any] = {key: written[key] for key in ("precision", "io", "ffn") if key in written}
    if "network" in written:
        known["network"] = json.loads(written["network"])
    if "source.file" in written:
        known["source"] = {key: written.get(f"source.{key}") for key in ("file", "sha256", "form")}
    return known


def _of_manifest(manifest: Manifest, sha256: str) -> dict[str, Any]:
    same = manifest.artifact["sha256"] == sha256
    known = {
        name: getattr(manifest, name) for name in ("network", "precision", "io", "ffn", "source", "tools", "created")
    }
    islands = manifest.fp32_islands
    of, proof = manifest.proof
    return {
        **known,
        "manifest": "sha256 matches" if same else "of another file: sha256 differs",
        "executed": manifest.engine.get("executed"),
        "fp32_islands": {key: islands[key] for key in ("policy", "ops", "casts") if key in islands},
        "recorded": proof
        and {"of": of if same else "another file", "before_rounding": islands.get("before_rounding"), **proof},
    }
