"""Which engines are loaded, what TensorRT really says of the others, and runs on the fake GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from aether_deploy.artifacts.opening import known_file, open_artifact, open_runner
from aether_deploy.engines.build import BuildRequest, build_engine
from aether_deploy.engines.profiles import Profile
from aether_deploy.engines.runner import CheckedEngine, EngineRunner, check_engine
from aether_deploy.engines.session import CACHE_SUFFIX
from aether_deploy.engines.targets import parse_gpus
from aether_deploy.errors import EngineError, ManifestError, OutOfMemoryError, RunnerError
from aether_deploy.network.aether import fuse_aether, read_spec
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof import manifest
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.engines import SMALL_PROFILE, fake_path
from tests.helpers.manifests import PARITY, SOURCE
from tests.helpers.networks import calm
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

LARGER_PROFILE = Profile((1, 3, 96, 96), (1, 3, 128, 128), (1, 3, 128, 160))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real engine of two profiles with its manifest, and the ONNX file of the same name beside it."""
    folder = tmp_path_factory.mktemp("built")
    network = fuse_aether(calm(scale=2, embed_dim=16, depths=(1, 1)))
    spec = read_spec(network.state_dict())
    engine = folder / "2x_Calm.engine"
    ir.save(onnx_model(network, spec, Variant()), engine.with_suffix(".onnx"))
    request = BuildRequest("tensorrt-rtx", (SMALL_PROFILE, LARGER_PROFILE), parse_gpus(["sm86"]))
    result = build_engine(engine.with_suffix(".onnx"), engine, request)
    manifest.Manifest(
        artifact=manifest.describe_artifact(engine, "engine"),
        source=SOURCE,
        network=spec.as_dict(),
        parity=None,
        variant=Variant(),
        engine=manifest.EngineRecord(
            flavour="tensorrt-rtx",
            version=result.version,
            compute_capabilities=["sm86"],
            profiles=[{**profile.as_dict(), "activation_bytes": {}} for profile in request.profiles],
            workspace=None,
            build_seconds=result.seconds,
            network=result.network,
            header=result.header.as_dict(),
            onnx={**manifest.describe_artifact(engine.with_suffix(".onnx"), "onnx"), "parity": PARITY},
        ),
    ).write(engine)
    return engine


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for file in built.parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / built.name


@pytest.fixture
def on_fake_gpu(engine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine, on a machine with the fake GPU, which executes its ONNX file."""
    profiles = [profile.as_dict() for profile in (SMALL_PROFILE, LARGER_PROFILE)]
    monkeypatch.setenv("PYTHONPATH", fake_path("rtx"))
    monkeypatch.setenv("FAKE_ENGINE_ONNX", str(engine.with_suffix(".onnx")))
    monkeypatch.setenv("FAKE_ENGINE_PROFILES", json.dumps(profiles))
    return engine


def _check(engine: Path, *, trust: bool = False) -> CheckedEngine:
    """As a file is opened: its sha256 first, then what its header and its manifest say."""
    known = known_file(engine, trust=trust)
    return check_engine(known.path, known.manifest, trust=trust)


class TestChecks:
    """Before TensorRT sees a byte."""

    def test_the_file_that_was_built(self, engine: Path) -> None:
        checked = _check(engine)
        assert checked.flavour == "tensorrt-rtx"
        assert checked.manifest is not None

    def test_one_flipped_byte(self, engine: Path) -> None:
        data = bytearray(engine.read_bytes())
        data[len(data) // 2] ^= 1
        engine.write_bytes(data)
        for refuse in (known_file, open_artifact, open_runner):
            with pytest.raises(ManifestError, match="not the file that was proved"):
                refuse(engine)
        assert _check(engine, trust=True).manifest is not None

    def test_cut_off(self, engine: Path) -> None:
        engine.write_bytes(engine.read_bytes()[:1000])
        with pytest.raises(EngineError, match="cut off"):
            _check(engine, trust=True)

    def test_no_manifest(self, engine: Path) -> None:
        manifest.manifest_path(engine).unlink()
        with pytest.raises(EngineError, match=r"nobody vouches for it, and an engine is code; .*--trust"):
            _check(engine)
        assert _check(engine, trust=True).manifest is None

    def test_the_manifest_of_something_else(self, engine: Path) -> None:
        path = manifest.manifest_path(engine)
        written = json.loads(path.read_text())
        del written["engine"]
        path.write_text(json.dumps(written))
        with pytest.raises(EngineError, match="its manifest is not that of an engine"):
            _check(engine)

    def test_another_version(self, engine: Path) -> None:
        path = manifest.manifest_path(engine)
        path.write_text(path.read_text().replace('"version": "1.7', '"version": "1.6'))
        with pytest.raises(EngineError, match=r"built by TensorRT-RTX 1\.6.*, installed is 1\.7.*export it again"):
            _check(engine)

    def test_another_flavour(self, engine: Path) -> None:
        path = manifest.manifest_path(engine)
        path.write_text(path.read_text().replace('"flavour": "tensorrt-rtx"', '"flavour": "tensorrt-xyz"'))
        with pytest.raises(EngineError, match="flavour 'tensorrt-xyz'; expected tensorrt or tensorrt-rtx"):
            _check(engine)


class TestRefusedByTensorrt:
    """The real runtime, on a machine without a GPU; a machine with one would run the engine."""

    def test_no_driver(self, engine: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
        ran = call("upscale", engine, PHOTOS / "coffee.png", "-o", tmp_path / "out.png")
        if ran.code == 0 or "other GPUs" in ran.err:
            pytest.skip("a GPU is here")
        assert ran.code == 1
        assert "no NVIDIA driver that this TensorRT can use" in error_line(ran)
        assert "cudaError 35" in ran.err or "libcuda" in ran.err
        assert not (tmp_path / "out.png").exists()

    def test_a_foreign_file_with_the_right_header(self, engine: Path) -> None:
        size = engine.stat().st_size
        engine.write_bytes(engine.read_bytes()[:36].ljust(size, b"\0"))
        with pytest.raises(EngineError, match="no engine of this TensorRT, or a damaged one"):
            EngineRunner(engine, manifest.read_manifest(engine), trust=True)


def test_an_engine_is_not_run_where_it_was_not_asked_to(engine: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Refused before TensorRT is started; what asks for no device opens it, as the tests below do."""
    with pytest.raises(RunnerError, match="an engine for --device cpu; it runs only on the GPU"):
        open_runner(engine, device="cpu")
    ran = call("upscale", engine, PHOTOS / "coffee.png", "-o", tmp_path / "out.png", "--device", "cpu")
    assert ran.code == 1
    assert "leave --device out, or give the ONNX file" in error_line(ran)
    assert not (tmp_path / "out.png").exists()
    ran = call("parity", engine.with_suffix(".onnx"), engine, "--device", "cpu")
    assert ran.code == 1
    assert "an engine for --device cpu" in error_line(ran)


class TestRuns:
    """Everything but the GPU and TensorRT's runtime is real: the process, the pipes, Polygraphy's runner."""

    @pytest.mark.parametrize("device", first_of(["cuda", None, "auto"]))
    def test_as_the_onnx_file_in_both_profiles(self, on_fake_gpu: Path, device: str | None) -> None:
        runner = open_runner(on_fake_gpu, device=device)
        assert isinstance(runner, EngineRunner)
        expected = OnnxRunner(on_fake_gpu.with_suffix(".onnx"))
        assert (runner.scale, runner.in_chans, runner.static, runner.precision) == (2, 3, None, "fp32")
        for shape in ((1, 3, 37, 53), (1, 3, 96, 101), (1, 3, 32, 32)):
            lr = np.random.default_rng(0).random(shape, dtype=np.float32)
            np.testing.assert_array_equal(runner.run(lr), expected.run(lr))
        runner.close()

    def test_outside_the_profiles(self, on_fake_gpu: Path) -> None:
        runner = EngineRunner(on_fake_gpu, manifest.read_manifest(on_fake_gpu), cache=False)
        for shape in ((1, 3, 16, 64), (2, 3, 48, 64), (1, 3, 1080, 1920)):
            with pytest.raises(RunnerError, match=r"is outside its profiles .* --tile"):
                runner.run(np.zeros(shape, np.float32))
        # Larger than all, so that tiles are halved until they fit.
        with pytest.raises(OutOfMemoryError):
            runner.run(np.zeros((1, 3, 1080, 1920), np.float32))
        runner.close()

    def test_parity_leaves_out_what_the_profiles_do_not_take_and_says_so(
        self, on_fake_gpu: Path, call: Callable[..., Ran]
    ) -> None:
        ran = call("parity", on_fake_gpu.with_suffix(".onnx"), on_fake_gpu, "--json")
        assert ran.code == 0, ran.err
        assert "noise 1x3x1x1" in ran.json["left_out"]
        assert "outside the engine's profiles, so not run: noise" in ran.err
        shapes = {case["case"] for case in ran.json["cases"]}
        assert "noise 1x3x48x64" in shapes
        # At the smallest shape what is drawn runs all the same.
        assert "checkerboard 1x3x32x32" in shapes

    def test_a_picture_larger_than_the_profiles_is_tiled(
        self, on_fake_gpu: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        words = [
            "upscale",
            on_fake_gpu,
            PHOTOS / "coffee.png",
            "-o",
            tmp_path / "out.png",
            "--tile",
            256,
            "--overlap",
            16,
        ]
        ran = call(*words)
        assert ran.code == 0, ran.err
        assert (tmp_path / "out.png").is_file()

    @pytest.mark.long
    def test_measured(self, on_fake_gpu: Path) -> None:
        runner = EngineRunner(on_fake_gpu, manifest.read_manifest(on_fake_gpu), cache=False)
        measured = runner.measure((1, 3, 48, 64), 5)
        assert measured["runs"] == 5
        assert 0 < measured["median_ms"] <= measured["p99_ms"]
        runner.close()

    def test_without_a_manifest_the_scale_is_measured(self, on_fake_gpu: Path) -> None:
        manifest.manifest_path(on_fake_gpu).unlink()
        runner = EngineRunner(on_fake_gpu, manifest.read_manifest(on_fake_gpu), trust=True, cache=False)
        assert runner.scale == 2
        runner.close()

    @pytest.mark.long
    def test_kernels_are_kept_and_only_whole_ones_of_this_engine_are_used(self, on_fake_gpu: Path) -> None:
        cache = on_fake_gpu.with_name(on_fake_gpu.name + CACHE_SUFFIX)
        kept = b"compiled kernels"

        def used() -> bytes:
            runner = EngineRunner(on_fake_gpu, manifest.read_manifest(on_fake_gpu))
            runner.run(np.zeros((1, 3, 32, 32), np.float32))
            log = runner._process.log()
            runner.close()
            return log.split("fake: cache of ")[1].split(" bytes")[0].encode()

        assert used() == b"0"
        assert cache.read_bytes().endswith(kept)
        assert used() == str(len(kept)).encode()
        cache.write_bytes(cache.read_bytes()[:-1] + b"X")
        assert used() == b"0"
