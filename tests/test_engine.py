"""Engines, really built by TensorRT-RTX on a machine without a GPU, and each way in which a build fails."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from aether_deploy.engines.build import BuildRequest, build_engine
from aether_deploy.engines.header import read_header
from aether_deploy.engines.log import explain, last_errors
from aether_deploy.engines.memory import activation_bytes
from aether_deploy.engines.process import EngineProcess, RefusedError, tensorrt_version
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.targets import SM75, ComputeCapability, parse_gpus
from aether_deploy.errors import EngineError
from aether_deploy.extras import install_extra
from aether_deploy.graphs.exporter import export_onnx
from aether_deploy.network.aether import fuse_aether, read_spec
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.definition import arch
from aether_deploy.precisions.forms import in_form
from aether_deploy.precisions.variant import Variant
from tests.helpers.engines import SMALL_PROFILE, SMALL_SHAPES
from tests.helpers.graphs import to_half
from tests.helpers.networks import SAMPLE, calm, save
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

RTX = parse_gpus(["sm86,sm89,sm120"])
NETWORKS = {
    "sample": {"scale": 2, "embed_dim": 32, "depths": (2, 2)},
    "small x2": {**arch.PRESETS["aether_small"], "scale": 2},
    "small x4": {**arch.PRESETS["aether_small"], "scale": 4},
}

FP32 = Variant()
OnnxFile = Callable[[str, Variant], Path]


def _network(name: str) -> Any:
    """The packaged sample as it was trained; the others with random weights."""
    return load_checkpoint(SAMPLE).build() if name == "sample" else calm(**NETWORKS[name])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> OnnxFile:
    """Makes the ONNX file of a network and variant; each network is traced once for each static shape."""
    folder = tmp_path_factory.mktemp("onnx")
    traced: dict[tuple[str, tuple[int, ...] | None], tuple[ir.Model, AetherSpec]] = {}

    def make(name: str, variant: Variant) -> Path:
        if (name, variant.static) not in traced:
            network = fuse_aether(_network(name))
            spec = read_spec(network.state_dict())
            traced[name, variant.static] = export_onnx(network, spec, static=variant.static), spec
        model = in_form(*traced[name, variant.static], variant)
        if variant.precision != "fp32":
            model = to_half(model, variant.precision, io=variant.io).model
        path = folder / f"{name}_{variant.precision}_{variant.io}_{variant.ffn}.onnx"
        ir.save(model, path)
        return path

    return make


def request(
    variant: Variant = FP32,
    capabilities: tuple[ComputeCapability, ...] = RTX,
    profiles: tuple[Profile, ...] = (SMALL_PROFILE,),
    workspace: int | None = None,
) -> BuildRequest:
    return BuildRequest(
        "tensorrt-rtx",
        profiles,
        capabilities,
        variant=variant,
        workspace=workspace,
    )


@pytest.mark.parametrize("name", first_of(NETWORKS))
def test_engines_for_gpus_that_are_not_here(name: str, onnx_file: OnnxFile, tmp_path: Path) -> None:
    """In one test, so that the network is traced once."""
    for capabilities, ffn in ((RTX, "linear"), ((SM75,), "conv1x1")):
        for precision in ("fp16", "fp32"):
            variant = Variant(precision, ffn=ffn)
            built = build_engine(onnx_file(name, variant), tmp_path / "x.engine", request(variant, capabilities))
            assert read_header(tmp_path / "x.engine").capabilities == capabilities
            assert built.header.version == built.version
            assert built.network["strongly_typed"]
            assert ("HALF" in built.network["types"]) == (precision == "fp16")
            # The batch is fixed, as vs-mlrt asks; height and width are not.
            for (end,), called in zip(
                (built.network["inputs"], built.network["outputs"]), ("input", "output"), strict=True
            ):
                assert end == {"name": called, "dtype": "FLOAT", "shape": [1, 3, -1, -1]}


def test_half_ends_several_profiles_and_a_batch(onnx_file: OnnxFile, tmp_path: Path) -> None:
    variant = Variant("fp16", io="fp16")
    batch = Profile((1, 3, 16, 16), (2, 3, 32, 32), (4, 3, 48, 48))
    asked = request(variant, RTX[:1], (SMALL_PROFILE, batch))
    built = build_engine(onnx_file("sample", variant), tmp_path / "x.engine", asked)
    assert built.network["inputs"] == [{"name": "input", "dtype": "HALF", "shape": [-1, 3, -1, -1]}]
    assert built.network["outputs"][0]["dtype"] == "HALF"


def test_static(onnx_file: OnnxFile, tmp_path: Path) -> None:
    variant = Variant(static=(1, 3, 32, 48))
    fixed = Profile(*[(1, 3, 32, 48)] * 3)
    built = build_engine(onnx_file("sample", variant), tmp_path / "x.engine", request(variant, RTX[:1], (fixed,)))
    assert built.network["outputs"][0]["shape"] == [1, 3, 64, 96]


class TestRefusals:
    """What fails, in one line that says what to do, and no engine."""

    def _fails(self, onnx_path: Path, asked: BuildRequest, folder: Path, said: str) -> None:
        with pytest.raises(EngineError, match=said) as caught:
            build_engine(onnx_path, folder / "x.engine", asked)
        assert "\n" not in str(caught.value)
        assert not (folder / "x.engine").exists()

    def test_no_profile_is_never_static_1x1(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        self._fails(onnx_file("sample", Variant()), request(profiles=()), tmp_path, "no profile; .* 1x1 pixels")

    def test_no_such_target(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        sm90 = (ComputeCapability(9, 0),)
        self._fails(onnx_file("sample", Variant()), request(capabilities=sm90), tmp_path, "has no sm90")

    def test_turing_with_matmul_before_the_build(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        self._fails(onnx_file("sample", Variant()), request(capabilities=(SM75,)), tmp_path, "add --ffn conv1x1")

    def test_turing_with_matmul_in_the_build(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        # The request says conv1x1, the file has MatMul: TensorRT's own refusal.
        claimed = request(Variant(ffn="conv1x1"), (SM75,))
        self._fails(onnx_file("sample", Variant()), claimed, tmp_path, "sm75 .* no kernel for a MatMul.*--ffn conv1x1")

    def test_out_of_memory_says_the_estimate(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        asked = dataclasses.replace(request(workspace=8 << 20), estimates=((1 << 20, 5 << 30),))
        said = r"out of memory: 1x3x64x96 needs about 5.0 GiB, --workspace allows 8.0 MiB; lower --max-shape"
        self._fails(onnx_file("sample", Variant()), asked, tmp_path, said)
        log = (tmp_path / "x.engine.log").read_text()
        assert "OutOfMemory" in log
        assert "Building engine with configuration" in log

    def test_the_estimate_is_near_what_a_build_needs(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        path = onnx_file("sample", Variant())
        spec = read_spec(fuse_aether(calm(**NETWORKS["sample"])).state_dict())
        profile = Profile((1, 3, 32, 32), (1, 3, 256, 256), (1, 3, 540, 960))
        estimate = activation_bytes(spec, "fp32", profile.max)
        build_engine(path, tmp_path / "x.engine", request(profiles=(profile,), workspace=int(estimate / 0.95)))
        (tmp_path / "x.engine").unlink()
        asked = request(profiles=(profile,), workspace=int(estimate / 1.45))
        self._fails(path, asked, tmp_path, "out of memory")

    def test_no_onnx(self, tmp_path: Path) -> None:
        # parse(b"") returns True.
        (tmp_path / "empty.onnx").touch()
        self._fails(tmp_path / "empty.onnx", request(), tmp_path, "gave 0 inputs and 0 outputs")
        (tmp_path / "text.onnx").write_text("no ONNX")
        self._fails(tmp_path / "text.onnx", request(), tmp_path, "does not parse; export it again")

    def test_fp32_under_the_name_of_fp16(self, onnx_file: OnnxFile, tmp_path: Path) -> None:
        asked = request(Variant("fp16"))
        with pytest.raises(EngineError, match="no tensor of the network is fp16"):
            build_engine(onnx_file("sample", Variant()), tmp_path / "x.engine", asked)

    def test_other_names(self, tmp_path: Path) -> None:
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("input", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["input"], ["y"])], "g", ends[:1], ends[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "o")
        with pytest.raises(EngineError, match=r"its output is y FLOAT .* expected output"):
            build_engine(tmp_path / "o", tmp_path / "x.engine", request())

    def test_a_worker_that_dies(self, tmp_path: Path) -> None:
        with EngineProcess("tensorrt-rtx") as process:
            process.ask("about")
            with pytest.raises(RefusedError, match="process died"):
                process.ask("build", onnx=str(tmp_path / "absent.onnx"))


class TestMissing:
    """A flavour that does not import, and what to install."""

    def _package(self, folder: Path, code: str) -> dict[str, str]:
        (folder / "tensorrt").mkdir()
        (folder / "tensorrt" / "__init__.py").write_text(code)
        return {"PYTHONPATH": str(folder)}

    def test_not_installed(self) -> None:
        said = f"TensorRT is not installed .*: {re.escape(install_extra('tensorrt'))}"
        with pytest.raises(EngineError, match=said):
            tensorrt_version("tensorrt")

    def test_the_placeholder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # What `import tensorrt` says with tensorrt-cu13-bindings 11.4 from PyPI and no libraries, measured.
        said = "libnvonnxparser.so.11: cannot open shared object file: No such file or directory"
        for name, value in self._package(tmp_path, f"raise ImportError({said!r})").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            EngineError, match=r"libnvonnxparser.so.11.*tensorrt-cu13-libs is a placeholder.*tensorrt-rtx"
        ):
            tensorrt_version("tensorrt")


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        ("[E] Error Code 2: OutOfMemory (Requested size was 17654168 bytes.)", "out of memory"),
        ("[E] x (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)", "no NVIDIA driver"),
        ("[E] OSError: libcuda.so.1: cannot open shared object file", "no NVIDIA driver"),
        (
            "[E] The engine plan file is not compatible with this version: Version tag does not match",
            "another TensorRT",
        ),
        ("[E] empty runtime-fusion MVMF for '__myl_Fc'", "build again"),
        ("[I] all is well", ""),
    ],
)
def test_what_a_log_means(log: str, meaning: str) -> None:
    assert meaning in explain(log)
    assert bool(explain(log)) == bool(meaning)


def test_the_last_errors_of_a_log() -> None:
    log = "[V] a\n[11/22/2026-15:48:41] [TRT] [E] one\n[E] two\n[E] two\n[!] three\n"
    assert last_errors(log, count=2) == ["two", "three"]


def test_leaving_a_build_cancels_it(onnx_file: OnnxFile, tmp_path: Path) -> None:
    """TensorRT itself stops, at the progress monitor's next step; nobody has to kill it."""
    phases = []

    def stop(phase: str, fraction: float) -> None:
        phases.append((phase, fraction))
        raise KeyboardInterrupt

    process = EngineProcess("tensorrt-rtx")
    words: dict[str, Any] = {
        "onnx": str(onnx_file("small x2", FP32)),
        "engine": str(tmp_path / "x.engine"),
        "profiles": [SMALL_PROFILE.as_dict()] * 4,
        "capabilities": [[8, 6], [8, 9], [12, 0]],
        "workspace": None,
    }
    with pytest.raises(KeyboardInterrupt), process:
        process.ask("build", progress=stop, **words)
    assert process._process.returncode == 0
    assert 0 <= phases[0][1] < 1
    assert not (tmp_path / "x.engine").exists()


def _processes_of(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in environment:
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for workers in /proc")
@pytest.mark.long
def test_ctrl_c_cancels_a_build_and_leaves_nothing(tmp_path: Path) -> None:
    """A real SIGINT to a real export, in the middle of a build for five GPUs, which takes several seconds."""
    save(calm(**NETWORKS["small x2"]), tmp_path / "2x_Big.pth")
    marker = f"AETHER_TEST={tmp_path.name}"
    # Started in the background of a shell, as by a CI, a process ignores SIGINT and hands that on.
    code = (
        "import signal, sys; from aether_deploy.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); main(sys.argv[1:])"
    )
    gpus = "sm80,sm86,sm89,sm120,sm121"
    shapes = SMALL_SHAPES * 12
    words = [
        "export",
        tmp_path / "2x_Big.pth",
        "--format",
        "tensorrt-rtx",
        "--gpu",
        gpus,
        *shapes,
        "-o",
        tmp_path / "out",
    ]
    ran = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "AETHER_TEST": tmp_path.name},
        text=True,
    )
    # The engine's file is not there before the build ends; its worker is.
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob(".staging-*/*.onnx.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    while len(_processes_of(marker)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    assert ran.poll() is None
    ran.send_signal(signal.SIGINT)
    _, error = ran.communicate(timeout=60)
    assert ran.returncode == 130
    assert "Traceback" not in error
    assert list((tmp_path / "out").iterdir()) == []
    assert _processes_of(marker) == []
