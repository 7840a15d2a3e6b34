"""What is written into a manifest is what is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from aether_deploy.errors import ManifestError
from aether_deploy.network.aether import read_spec
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.manifest import EngineRecord, Manifest, manifest_path, read_manifest, require_match
from tests.helpers.manifests import PARITY, SHA256, SOURCE
from tests.helpers.networks import tiny

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
        (("precision",), "fp8", "fp8"),
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
