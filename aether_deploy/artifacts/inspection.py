"""What a file is, where it came from and what was proved of it: from the file itself, then from its manifest."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.network.spec import NetworkSpec
from aether_deploy.proof.manifest import Manifest, read_manifest, verify_artifact

if TYPE_CHECKING:
    from aether_deploy.proof.manifest import Manifest

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


def inspect_file(
    file: Path,
    *,
    param_key: str = "auto",
    img_range: float | None = None,
    opt: Path | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """What a file is, by its suffix: plain values for JSON, `file`, `kind`, `sha256` and what its kind has besides.

    Args:
        file: checkpoint, neosr's folder, ONNX file or engine.
        param_key, img_range, opt: of a checkpoint; see `load_checkpoint`.
        trust: describe a file that is not the one its manifest describes, too.
    Raises:
        CheckpointError, ConfigError, RunnerError, EngineError, ManifestError: see the function of each kind.
    """
    if file.suffix == ".engine":
        return inspect_engine(file, trust=trust)
    if file.suffix == ".onnx":
        return inspect_onnx(file, trust=trust)
    return inspect_checkpoint(file, param_key, img_range, opt)


def inspect_checkpoint(file: Path, param_key: str, img_range: float | None, opt: Path | None) -> dict[str, Any]:
    """What the weights show.

    Raises:
        CheckpointError, ConfigError: see `load_checkpoint`.
    """
    from aether_deploy.network.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(file, param_key=param_key, img_range=img_range, options=opt)
    return {
        "file": str(checkpoint.path),
        "kind": "checkpoint",
        "summary": checkpoint.spec.describe(),
        "param_key": checkpoint.param_key,
        "dtype": checkpoint.dtype,
        "parameters": sum(value.numel() for value in checkpoint.state_dict.values()),
        "network": checkpoint.spec.as_dict(),
        "sha256": checkpoint.sha256,
    }


def inspect_onnx(file: Path, *, trust: bool = False) -> dict[str, Any]:
    """Ends, opset, operators and metadata of an ONNX file, and whether it is the one its manifest describes.

    Raises:
        RunnerError: not there, or no ONNX.
        ManifestError: see `verify_artifact`.
    """
    import onnx
    from google.protobuf.message import DecodeError

    from aether_deploy.errors import RunnerError

    manifest = _manifest_of(file, trust=trust) if file.is_file() else None
    try:
        model = onnx.load(file)
    except (OSError, DecodeError) as error:
        raise RunnerError(f"{file}: cannot be read as ONNX ({error}); check the path, or export it again") from error

    def end(value: onnx.ValueInfoProto) -> str:
        tensor = value.type.tensor_type
        dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
        return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} ({dims})"

    return {
        "file": str(file),
        "kind": "onnx",
        "opset": next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
        "inputs": {value.name: end(value) for value in model.graph.input},
        "outputs": {value.name: end(value) for value in model.graph.output},
        "nodes": len(model.graph.node),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "metadata": {item.key: item.value for item in model.metadata_props},
        **_identity(file, manifest, "none"),
    }


def inspect_engine(file: Path, *, trust: bool = False) -> dict[str, Any]:
    """Header, manifest and digest of an engine, and whether it can be loaded here; TensorRT may be missing.

    Raises:
        EngineError: not there, no engine, or cut off.
        ManifestError: see `verify_artifact`.
    """
    from aether_deploy.engines.header import read_header
    from aether_deploy.engines.process import FLAVOURS, tensorrt_version
    from aether_deploy.errors import EngineError

    header = read_header(file)
    manifest = _manifest_of(file, trust=trust)
    engine = manifest.engine if manifest else {}
    flavour = engine.get("flavour", "tensorrt-rtx" if header.version else "tensorrt")
    try:
        installed = tensorrt_version(flavour)
    except EngineError as error:
        installed = str(error)
    built_by = engine.get("version", header.version)
    if installed == built_by:
        installed += ", the version that built it"
    found: dict[str, Any] = {
        "file": str(file),
        "kind": "engine",
        "flavour": FLAVOURS[flavour].title,
        "version": built_by or "unknown",
        "installed": installed,
        "targets": engine.get("compute_capabilities") or list(map(str, header.capabilities)) or "unknown",
        "header": header.as_dict(),
    }
    if manifest:
        what, parity = manifest.proof
        assert parity is not None  # an engine comes from a file that was proved
        found |= {
            "network": manifest.network,
            "precision": manifest.precision,
            "profiles": engine["profiles"],
            "executed": engine["executed"],
            "built_from": engine["onnx"]["file"],
            "proved": f"{what}, max abs error {parity['figures']['max_abs']:.1e}",
        }
    return {**found, **_identity(file, manifest, "none: it will not be loaded without --trust")}


def _manifest_of(file: Path, *, trust: bool) -> Manifest | None:
    from aether_deploy.proof.manifest import read_manifest, verify_artifact

    return read_manifest(file) if trust else verify_artifact(file)


def _identity(file: Path, manifest: Manifest | None, none: str) -> dict[str, str]:
    """{manifest, sha256}: whether a file is the one that its manifest describes, which a trusted one need not be."""
    from aether_deploy.files import sha256_of

    sha256 = sha256_of(file)
    if manifest is None:
        return {"manifest": none, "sha256": sha256}
    same = manifest.artifact["sha256"] == sha256
    return {"manifest": "sha256 matches" if same else "of another file: sha256 differs", "sha256": sha256}
