"""`export --format tensorrt-rtx`, really built; and `--format tensorrt`, through the thin fake of its API."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from aether_deploy.artifacts import engine_file as engine_export
from aether_deploy.artifacts.formats import FORMATS
from aether_deploy.artifacts.model import ExportOptions, Source
from aether_deploy.artifacts.opening import known_file
from aether_deploy.artifacts.pipeline import export_model, plan_export
from aether_deploy.engines import execution as engine_proof
from aether_deploy.engines import plan as engine_plan
from aether_deploy.engines.build import BuildRequest, build_engine
from aether_deploy.engines.gpus import Driver
from aether_deploy.engines.process import tensorrt_version
from aether_deploy.engines.targets import ComputeCapability
from aether_deploy.files import sha256_of
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.definition import arch
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.variant import variants
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.manifest import read_manifest
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.reference import capture_exact, capture_reference
from aether_deploy.proof.verdict import ParityError
from tests.helpers.commands import Ran, error_line
from tests.helpers.engines import SMALL_PROFILE, SMALL_SHAPES, driver, fake_path
from tests.helpers.networks import calm, save

pytestmark = pytest.mark.slow

Call = Callable[..., Ran]

STEM = "2x_Calm_fp16_trtrtx1.7_sm86+sm89_max64x96"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the sample's architecture, with random weights."""
    return save(calm(scale=2, embed_dim=16, depths=(1, 1)), tmp_path_factory.mktemp("checkpoint") / "2x_Calm.pth")


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one fp16 export for two GPUs."""
    folder = tmp_path_factory.mktemp("exported")
    options = engine_plan.EngineOptions(
        (SMALL_PROFILE.min,), (SMALL_PROFILE.opt,), (SMALL_PROFILE.max,), ("sm86,rtx40",), 4 << 30
    )
    wanted = ExportOptions(("tensorrt-rtx",), variants(("fp16",)), output=folder, engine=options)
    export_model(load_checkpoint(checkpoint), wanted)
    return folder


class TestRtx:
    """Without a GPU."""

    def test_the_engine_the_file_it_came_from_and_their_manifests(self, exported: Path) -> None:
        assert sorted(path.name for path in exported.iterdir()) == [
            "2x_Calm_fp16_op20.onnx",
            "2x_Calm_fp16_op20.onnx.json",
            f"{STEM}.engine",
            f"{STEM}.engine.json",
        ]

    def test_the_manifest_says_what_was_proved_and_that_nothing_was_executed(
        self, exported: Path, checkpoint: Path
    ) -> None:
        engine = exported / f"{STEM}.engine"
        manifest = read_manifest(engine)
        source = read_manifest(exported / "2x_Calm_fp16_op20.onnx")
        assert manifest is not None and source is not None
        assert manifest.parity is None
        assert manifest.artifact["sha256"] == sha256_of(engine)
        assert manifest.source["sha256"] == sha256_of(checkpoint)
        facts = manifest.engine
        assert facts is not None
        assert facts.executed is False
        assert facts.flavour == "tensorrt-rtx"
        assert facts.version == facts.header["version"] == manifest.tools["tensorrt_rtx"]
        assert facts.compute_capabilities == facts.header["compute_capabilities"] == ["sm86", "sm89"]
        assert facts.onnx["sha256"] == sha256_of(exported / "2x_Calm_fp16_op20.onnx")
        assert facts.onnx["parity"] == source.parity
        assert source.parity is not None and source.parity["passed"]
        (profile,) = facts.profiles
        assert profile["max"] == [1, 3, 64, 96]
        assert profile["activation_bytes"]["max"] > profile["activation_bytes"]["opt"] > 0
        assert facts.workspace == 4 << 30
        assert facts.network["types"]["HALF"] > facts.network["types"]["FLOAT"]

    def test_inspect_needs_no_tensorrt(self, exported: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("tensorrt", "tensorrt_rtx", "polygraphy"):
            monkeypatch.setitem(sys.modules, module, None)
        found = call("inspect", exported / f"{STEM}.engine", "--json").json
        assert found["targets"] == ["sm86", "sm89"]
        assert found["manifest"] == "sha256 matches"

    def test_command(self, checkpoint: Path, tmp_path: Path, call: Call) -> None:
        words = ["export", checkpoint, "-o", tmp_path, "--format", "tensorrt-rtx", "--format", "onnx", *SMALL_SHAPES]
        ran = call(*words, "--gpu", "rtx30", "--workspace", "4GiB", "--json")
        assert ran.code == 0, ran.err
        engine, file = ran.json["artifacts"]
        assert file["engine"] == {}
        assert engine["file"].endswith("2x_Calm_fp32_trtrtx1.7_sm86_max64x96.engine")
        assert engine["parity"] is None
        assert engine["engine"]["compute_capabilities"] == ["sm86"]
        assert "not executed" in ran.err
        # One ONNX file serves both.
        assert engine["engine"]["onnx"]["sha256"] == sha256_of(Path(file["file"]))
        assert len(list(tmp_path.iterdir())) == 4
        assert call("inspect", engine["file"], "--json").json["proved"].startswith("the ONNX file, max abs error")

    def test_dry_run_says_profiles_and_memory(self, checkpoint: Path, call: Call) -> None:
        ran = call("export", checkpoint, "--format", "tensorrt-rtx", "--dry-run", "--workspace", "1MiB")
        assert "2x_Calm_fp32_trtrtx1.7_sm86+sm89+sm120.engine" in ran.out
        assert "1x3x32x32 / 1x3x256x256 / 1x3x1080x1920: activations about" in ran.out
        assert "the largest shape needs about" in ran.out
        assert list(checkpoint.parent.glob("*.engine")) == []

    def test_turing_takes_convolutions(self, checkpoint: Path, call: Call) -> None:
        ran = call("export", checkpoint, "--format", "tensorrt-rtx", "--dry-run", "--gpu", "turing,sm86")
        assert "2x_Calm_fp32_trtrtx1.7_sm75+sm86_ffn1x1.engine" in ran.out
        assert "sm75 builds no MatMul: the FFN becomes 1x1 convolutions" in ran.out


def test_two_formats_and_precisions_run_the_trained_network_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its real forward passes are counted: one a case for four artifacts, and in float64 once for the fused weights."""
    exact = capture_exact(load_checkpoint(checkpoint))
    seen: dict[torch.dtype, list[tuple[int, ...]]] = {torch.float32: [], torch.float64: []}
    forward = arch.AetherNet.forward

    def counted(network: Any, x: torch.Tensor) -> torch.Tensor:
        if not network.fused_init:
            seen[x.dtype].append(tuple(x.shape))
        return forward(network, x)

    monkeypatch.setattr(arch.AetherNet, "forward", counted)
    options = engine_plan.EngineOptions((SMALL_PROFILE.min,), (SMALL_PROFILE.opt,), (SMALL_PROFILE.max,), ("sm86",))
    wanted = ExportOptions(("onnx", "tensorrt-rtx"), variants(("fp32", "fp16")), output=tmp_path, engine=options)
    made = export_model(load_checkpoint(checkpoint), wanted)
    assert [artifact.path.suffix for artifact in made] == [".onnx", ".onnx", ".engine", ".engine"]
    assert seen[torch.float32] == [case.lr.shape for case in parity_cases(parity_photos())]
    assert seen[torch.float64] == [case.lr.shape for case in exact.cases]
    assert len(exact.cases) == 2


class TestRefusals:
    """One line, exit code 1, and nothing in the folder."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--format", "tensorrt-rtx", "--gpu", "h100"], "TensorRT-RTX has no sm90"),
            (["--format", "tensorrt-rtx", "--gpu", "current"], "no GPU with a driver is here"),
            (
                ["--format", "tensorrt-rtx", "--gpu", "sm75", "--precision", "bf16"],
                "sm75 has no bf16; take another --precision",
            ),
            (["--format", "tensorrt-rtx", "--max-shape", "1x4x64x64"], "has 4 channels"),
            (
                ["--format", "tensorrt-rtx", "--min-shape", "1x3x512x512", "--opt-shape", "1x3x64x64"],
                "expected min <= opt",
            ),
            (["--gpu", "sm86", "--max-shape", "1x3x64x64"], "--max-shape, --gpu: for engines only"),
            (["--format", "tensorrt"], "TensorRT is not installed"),
        ],
    )
    def test_before_anything_is_exported(
        self, words: list[str], said: str, checkpoint: Path, tmp_path: Path, call: Call
    ) -> None:
        ran = call("export", checkpoint, "-o", tmp_path / "out", *words)
        assert ran.code == 1
        assert said in error_line(ran)
        assert not (tmp_path / "out").exists()

    def test_a_failed_build_leaves_its_log_alone(self, checkpoint: Path, tmp_path: Path, call: Call) -> None:
        words = ["export", checkpoint, "-o", tmp_path, "--format", "tensorrt-rtx", *SMALL_SHAPES, "--workspace", "4MiB"]
        ran = call(*words)
        assert ran.code == 1
        assert "out of memory: 1x3x64x96 needs about" in error_line(ran)
        (log,) = tmp_path.iterdir()
        assert log.suffix == ".log"
        assert str(log) in ran.err

    def test_workspace_is_a_size(self, checkpoint: Path, call: Call) -> None:
        assert call("export", checkpoint, "--workspace", "lots").code == 2


def _pretend(monkeypatch: pytest.MonkeyPatch, found: Driver) -> None:
    monkeypatch.setattr(engine_plan, "read_driver", lambda: found)
    monkeypatch.setattr(engine_export, "read_driver", lambda: found)


def _fake_gpu(monkeypatch: pytest.MonkeyPatch, which: str, onnx: Path, capability: ComputeCapability) -> None:
    monkeypatch.setenv("PYTHONPATH", fake_path(which))
    monkeypatch.setenv("FAKE_ENGINE_ONNX", str(onnx))
    monkeypatch.setenv("FAKE_ENGINE_PROFILES", json.dumps([SMALL_PROFILE.as_dict()]))
    monkeypatch.setenv("FAKE_TENSORRT_RECORD", str(onnx.parent / "record"))
    # ONNX Runtime on a CPU is no GPU.
    monkeypatch.setattr(engine_proof, "LATENCY_RUNS", {"opt": 5, "max": 5})
    _pretend(monkeypatch, driver(capability))


@pytest.fixture(scope="module")
def source(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The checkpoint with its reference and its fp32 ONNX file, made once: engines are built from that file."""
    loaded = load_checkpoint(checkpoint)
    made = Source(loaded, fuse_network(loaded.build(), loaded.spec), capture_reference(loaded))
    (target,) = plan_export(loaded, ExportOptions(output=tmp_path_factory.mktemp("onnx"))).targets
    FORMATS["onnx"].maker.export(made, target)
    return made


@pytest.fixture(scope="module")
def onnx_copy(source: Source) -> Path:
    """That ONNX file, which a fake engine executes."""
    (artifact,) = source.proved.values()
    return artifact.path


def _export(source: Source, kind: str, folder: Path, *gpus: str) -> Path:
    """Exports an engine as `export_model` does, without making the ONNX file again."""
    options = engine_plan.EngineOptions((SMALL_PROFILE.min,), (SMALL_PROFILE.opt,), (SMALL_PROFILE.max,), gpus)
    (target,) = plan_export(source.checkpoint, ExportOptions((kind,), output=folder, engine=options)).targets
    return FORMATS[kind].maker.export(source, target).path


class TestPlans:
    """`--format tensorrt`: its libraries cannot be had here, so a thin fake of its module stands over the real RTX."""

    def test_built_run_and_measured(
        self, onnx_copy: Path, checkpoint: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = "11.4.0.106"
        _fake_gpu(monkeypatch, "plan", onnx_copy, ComputeCapability(9, 0))
        monkeypatch.setenv("FAKE_TENSORRT_VERSION", version)
        ran = call("export", checkpoint, "-o", tmp_path / "out", "--format", "tensorrt", *SMALL_SHAPES)
        assert ran.code == 0, ran.err
        short = ".".join(version.split(".")[:2])
        manifest = read_manifest(tmp_path / "out" / f"2x_Calm_fp32_trt{short}_sm90_max64x96.engine")
        assert manifest is not None and manifest.parity is not None
        facts = manifest.engine
        assert facts is not None and facts.latency is not None
        assert facts.executed is True
        assert facts.version == version
        assert facts.device == {"gpu": "Test GPU", "compute_capability": "sm90", "cuda": "13.0"}
        assert [row["shape"] for row in facts.latency] == [[1, 3, 48, 64], [1, 3, 64, 96]]
        assert all(0 < row["median_ms"] <= row["p99_ms"] for row in facts.latency)
        cases = [case["case"] for case in manifest.parity["cases"]]
        # min, opt, max and an odd size; the batch of 2 and the single pixel are outside the profile.
        for shape in ("1x3x32x32", "1x3x48x64", "1x3x64x96", "1x3x37x53"):
            assert f"noise {shape}" in cases
        assert not any("2x3x" in case or "1x1" in case.split()[-1][3:] for case in cases)

    @pytest.mark.long
    def test_in_a_repository_for_triton(
        self, onnx_copy: Path, checkpoint: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _fake_gpu(monkeypatch, "plan", onnx_copy, ComputeCapability(9, 0))
        ran = call("export", checkpoint, "-o", tmp_path, "--format", "triton-tensorrt", *SMALL_SHAPES, "--json")
        assert ran.code == 0, ran.err
        place = tmp_path / "2x_Calm_fp32"
        assert ran.json["artifacts"][0]["file"] == str(place / "1" / "model.plan")
        assert known_file(place / "1" / "model.plan").matches
        config = text_format.Parse((place / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 0)
        assert (list(config.input[0].dims), list(config.output[0].dims)) == ([1, 3, -1, -1], [1, 3, -1, -1])
        (group,) = config.instance_group
        assert (group.kind, list(group.profile)) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, ["0"])

    @pytest.mark.parametrize("version", ["11.4.0.106", "10.12.0.36"])
    def test_strongly_typed_in_every_version(
        self, version: str, onnx_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _fake_gpu(monkeypatch, "plan", onnx_copy, ComputeCapability(9, 0))
        monkeypatch.setenv("FAKE_TENSORRT_VERSION", version)
        monkeypatch.setenv("FAKE_TENSORRT_RECORD", str(tmp_path / "record"))
        asked = BuildRequest("tensorrt", (SMALL_PROFILE,), (ComputeCapability(9, 0),))
        built = build_engine(onnx_copy, tmp_path / "x.engine", asked)
        assert built.version == version
        assert built.network["strongly_typed"]
        assert (tmp_path / "record").read_text().split() == ["STRONGLY_TYPED"]

    def test_an_engine_that_differs_is_not_left_behind(
        self, source: Source, onnx_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damaged = onnx.load(onnx_copy)
        bias = next(item for item in damaged.graph.initializer if "conv_last.bias" in item.name)
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name))
        onnx.save(damaged, tmp_path / "damaged.onnx")
        _fake_gpu(monkeypatch, "plan", tmp_path / "damaged.onnx", ComputeCapability(9, 0))
        with pytest.raises(ParityError, match=r"trt11\.4_sm90"):
            _export(source, "tensorrt", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_no_gpu(self, checkpoint: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        _fake_gpu(monkeypatch, "plan", tmp_path / "none", ComputeCapability(9, 0))
        _pretend(monkeypatch, Driver("", (), "no NVIDIA driver here"))
        ran = call("export", checkpoint, "-o", tmp_path / "out", "--format", "tensorrt")
        assert "--format tensorrt builds on the GPU that the plan is for: no NVIDIA driver here" in error_line(ran)

    def test_gpu_names_are_for_rtx(
        self, checkpoint: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _fake_gpu(monkeypatch, "plan", tmp_path / "none", ComputeCapability(9, 0))
        ran = call("export", checkpoint, "-o", tmp_path / "out", "--format", "tensorrt", "--gpu", "sm86")
        assert "--gpu is for --format tensorrt-rtx" in error_line(ran)


def test_an_rtx_engine_on_its_gpu_keeps_its_kernels(
    source: Source, onnx_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real build; a fake runtime, so the cache's file and its checks are what is seen here."""
    _fake_gpu(monkeypatch, "rtx", onnx_copy, ComputeCapability(8, 9))
    engine = _export(source, "tensorrt-rtx", tmp_path / "out", "current")
    assert engine.name == "2x_Calm_fp32_trtrtx1.7_sm89_max64x96.engine"
    assert engine.with_name(f"{engine.name}.cache").read_bytes().endswith(b"compiled kernels")
    manifest = read_manifest(engine)
    assert manifest is not None and manifest.engine is not None and manifest.engine.executed is True


def test_planning_asks_for_no_build(checkpoint: Path) -> None:
    (target,) = plan_export(load_checkpoint(checkpoint), ExportOptions(("tensorrt-rtx",), variants(("fp16",)))).targets
    assert target.engine is not None
    version = tensorrt_version("tensorrt-rtx")
    assert target.engine.tag == f"trtrtx{'.'.join(version.split('.')[:2])}_sm86+sm89+sm120"
    assert target.onnx is not None and target.onnx.path.name == "2x_Calm_fp16_op20.onnx"
