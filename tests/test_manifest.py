"""What is written into a manifest is what is read."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from aether_deploy.errors import ManifestError
from aether_deploy.files import sha256_of
from aether_deploy.network.aether import read_spec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.manifest import (
    EngineRecord,
    Manifest,
    describe_source,
    manifest_path,
    read_manifest,
    require_match,
)
from tests.helpers.commands import Ran
from tests.helpers.manifests import PARITY, SHA256, SOURCE
from tests.helpers.networks import save, tiny

ISLANDS = {"asked": "tail", "policy": "tail", "ops": {"Conv": 1}, "casts": 3, "measured": []}
ARTIFACT = {"file": "a.onnx", "sha256": SHA256, "bytes": 5, "kind": "onnx"}
FIXED = {"input": [2, 3, 16, 24], "output": [2, 3, 32, 48]}
RANGE = {which: [1, 3, 32, 32] for which in ("min", "opt", "max")}
ENGINE = EngineRecord(
    flavour="tensorrt-rtx",
    version="1.7",
    compute_capabilities=["sm86"],
    profiles=[{**RANGE, "activation_bytes": {"opt": 1, "max": 2}}],
    workspace=None,
    build_seconds=1.5,
    network={"inputs": [], "outputs": [], "layers": 3, "types": {"HALF": 3}, "strongly_typed": True},
    header={"magic": "vtrt", "version": "1.7", "bytes": 5, "compute_capabilities": ["sm86"]},
    onnx={**ARTIFACT, "parity": PARITY},
)


def manifest(**changes: Any) -> Manifest:
    spec = read_spec(tiny(fused_init=True).state_dict())
    whole = Manifest(
        dict(ARTIFACT), SOURCE, spec.as_dict(), dict(PARITY), Variant(), created="2026-01-01T00:00:00+00:00"
    )
    return dataclasses.replace(whole, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "variant": Variant(opset=17, static=(2, 3, 16, 24)),
            "shapes": {"input": [2, 3, 16, 24], "output": [2, 3, 32, 48]},
        },
        {"shapes": {"input": ["batch", 3, "height", "width"], "output": ["batch", 3, "h", "w"]}},
        {"variant": Variant("fp16", io="fp16", islands="tail", ffn="conv1x1"), "fp32_islands": ISLANDS},
        {"parity": None, "engine": ENGINE, "shapes": RANGE, "artifact": {**ARTIFACT, "kind": "engine"}},
        {
            "engine": dataclasses.replace(
                ENGINE,
                executed=True,
                device={"gpu": "G", "compute_capability": "sm86", "cuda": "13.0"},
                latency=[{"shape": [1, 3, 32, 32], "runs": 9, "median_ms": 1.0, "p99_ms": 2.0}],
                device_memory=[5],
            )
        },
        {"tools": {"torch": "2.13"}},
    ],
)
def test_read_as_it_was_written(changes: dict[str, Any], tmp_path: Path) -> None:
    written = manifest(**changes)
    assert written.write(tmp_path / "a.onnx") == tmp_path / "a.onnx.json" == manifest_path(tmp_path / "a.onnx")
    assert read_manifest(tmp_path / "a.onnx") == written
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx.json"]


def test_what_is_empty_is_left_out(tmp_path: Path) -> None:
    values = json.loads(manifest().write(tmp_path / "a.onnx").read_text())
    assert not values.keys() & {"engine", "weights", "activations", "fp32_islands", "shapes", "tools"}
    assert values["schema"] == 1
    assert (values["precision"], values["io"], values["ffn"], values["opset"]) == ("fp32", "fp32", "linear", 20)


def test_a_checkpoint_has_no_opset(tmp_path: Path) -> None:
    values = json.loads(manifest(artifact={**ARTIFACT, "kind": "checkpoint"}).write(tmp_path / "a.pth").read_text())
    assert "opset" not in values
    read = read_manifest(tmp_path / "a.pth")
    assert read is not None
    assert read.variant == Variant()


def test_none_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "a.onnx") is None


def test_whose_proof_it_is() -> None:
    assert manifest().proof == ("the file", PARITY)
    engine = {"engine": ENGINE, "artifact": {**ARTIFACT, "kind": "engine"}}
    assert manifest(**engine).proof == ("the engine", PARITY)
    assert manifest(**engine, parity=None).proof == ("the ONNX file", PARITY)


def test_another_file() -> None:
    require_match(Path("a.onnx"), manifest(), SHA256)
    with pytest.raises(ManifestError, match=r"a\.onnx: sha256 ffffffffffff\.\.\., but its manifest says 0123456789ab"):
        require_match(Path("a.onnx"), manifest(), "f" * 64)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("schema",), 2, "schema 2, expected 1"),
        (("artifact", "sha256"), "abc", r"artifact\.sha256"),
        (("parity", "cases", 0, "max_abs"), "1", r"parity\.cases\.0\.max_abs"),
        (("network", "scale"), 7, "scale"),
        (("network", "family"), "esrgan", "esrgan"),
        (("precision",), "fp4", "fp4"),
        (("surplus",), 1, "surplus"),
    ],
)
def test_a_wrong_field_is_named(place: tuple[Any, ...], value: Any, said: str, tmp_path: Path) -> None:
    path = manifest().write(tmp_path / "a.onnx")
    values = json.loads(path.read_text())
    holder = values
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "a.onnx")


def test_of_a_fused_file(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """All of it but figures and hashes."""
    given = save(tiny(), tmp_path / "2x_T.pth")
    assert call("fuse", given, "-o", tmp_path / "f.pth").code == 0
    text = (tmp_path / "f.pth.json").read_text()
    assert text.startswith('{\n  "schema": 1,\n  "artifact": {\n    "file": "f.pth",')
    assert text.endswith("}\n")
    values = json.loads(text)
    assert list(values) == [
        "schema",
        "artifact",
        "source",
        "network",
        "parity",
        "precision",
        "io",
        "ffn",
        "tools",
        "created",
    ]
    assert values["artifact"] == {
        "file": "f.pth",
        "sha256": sha256_of(tmp_path / "f.pth"),
        "bytes": (tmp_path / "f.pth").stat().st_size,
        "kind": "checkpoint",
    }
    assert values["source"] == {
        "file": "2x_T.pth",
        "sha256": sha256_of(given),
        "param_key": "params",
        "form": "unfused",
    }
    assert values["network"] == {
        "family": "aether",
        "variant": "aether",
        "scale": 2,
        "in_chans": 3,
        "embed_dim": 12,
        "depths": [1, 2],
        "hidden": 24,
        "lk_kernel": 7,
        "sk_kernel": None,
        "fused": True,
        "img_range": 1.0,
        "mlp_ratio": 2.0,
    }
    assert list(values["tools"]) == ["python", "aether-deploy", "torch", "numpy"]
    assert values["tools"]["python"] == platform.python_version()
    assert values["tools"]["aether-deploy"] == version("aether-deploy")
    made = datetime.fromisoformat(values["created"])
    assert made.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=2)


def test_of_a_file_made_from_a_fused_one(tmp_path: Path) -> None:
    fused = load_checkpoint(save(tiny(fused_init=True), tmp_path / "2x_T.pth"))
    assert describe_source(fused)["form"] == "fused"


def test_what_an_old_manifest_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    values = json.loads(manifest(variant=Variant("fp16")).write(path).read_text())
    for key in ("io", "ffn", "opset"):
        del values[key]
    manifest_path(path).write_text(json.dumps(values))
    read = read_manifest(path)
    assert read is not None
    assert (read.variant.io, read.variant.ffn, read.variant.opset) == ("fp32", "linear", 20)


def test_no_nan_is_ever_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest(activations={"largest": float("nan")}).write(tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_largest_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    text = manifest().write(path).read_text()
    manifest_path(path).write_text(text + " " * ((1 << 24) - len(text)))
    assert read_manifest(path) is not None
    manifest_path(path).write_text(text + " " * ((1 << 24) - len(text) + 1))
    with pytest.raises(ManifestError):
        read_manifest(path)
