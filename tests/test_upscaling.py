"""Pictures of every kind through a network; memory that runs out; devices that are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aether_deploy.arrays import Pixels
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.errors import OutOfMemoryError, RunnerError
from aether_deploy.graphs.exporter import save_onnx
from aether_deploy.network.aether import fuse_aether, read_spec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.pictures.images import Picture, read_picture, write_picture
from aether_deploy.pictures.upscaling import Upscaler, auto_tile, available_memory, bytes_per_pixel
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.runners.pytorch import TorchRunner
from aether_deploy.runners.rounded import RoundedRunner
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import calm, save, tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def runner(checkpoint_file: Path) -> TorchRunner:
    """A tiny network."""
    opened = open_runner(checkpoint_file)
    assert isinstance(opened, TorchRunner)
    return opened


def _picture(channels: int, kind: Any = np.uint8) -> Picture:
    rng = np.random.default_rng(channels)
    return Picture(rng.integers(0, np.iinfo(kind).max, (12, 17, channels), dtype=kind), b"profile")


def _noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


class TestKinds:
    """The kind of a picture survives."""

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_shape_depth_and_profile(self, runner: TorchRunner, channels: int, kind: Any) -> None:
        result = Upscaler(runner)(_picture(channels, kind))
        assert result.pixels.shape == (24, 34, channels)
        assert result.pixels.dtype == kind
        assert result.icc == b"profile"

    def test_values_are_those_of_the_network(self, runner: TorchRunner) -> None:
        picture = _picture(3, np.uint16)
        expected = runner.run(picture.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 65535)[0]
        result = Upscaler(runner)(picture).pixels.transpose(2, 0, 1).astype(np.float64) / 65535
        assert np.abs(result - np.clip(expected, 0, 1)).max() <= 1e-5

    def test_grey_is_the_mean_of_the_channels(self, runner: TorchRunner) -> None:
        picture = _picture(1, np.uint16)
        three = picture.pixels.repeat(3, axis=2).transpose(2, 0, 1)[None].astype(np.float32) / 65535
        expected = np.clip(runner.run(three)[0].mean(axis=0), 0, 1)
        assert np.abs(Upscaler(runner)(picture).pixels[:, :, 0] / 65535 - expected).max() <= 2e-5

    def test_transparency_goes_through_the_network_and_leaves_colour_alone(self, runner: TorchRunner) -> None:
        picture = _picture(4)
        result = Upscaler(runner)(picture).pixels
        colour = Upscaler(runner)(Picture(picture.pixels[:, :, :3])).pixels
        alpha = Upscaler(runner)(Picture(picture.pixels[:, :, 3:])).pixels
        np.testing.assert_array_equal(result, np.concatenate([colour, alpha], axis=2))

    @pytest.mark.parametrize("value", [0, 255])
    def test_transparency_that_is_one_value_stays_exactly_that(self, runner: TorchRunner, value: int) -> None:
        picture = _picture(4)
        picture.pixels[:, :, 3] = value
        assert set(np.unique(Upscaler(runner)(picture).pixels[:, :, 3])) == {value}

    def test_tiles_are_the_same_for_every_kind(self, runner: TorchRunner) -> None:
        rng = np.random.default_rng(0)
        picture = Picture(rng.integers(0, 255, (70, 60, 4), dtype=np.uint8))
        tiled = Upscaler(runner, tile=40, overlap="exact", batch=2)(picture).pixels
        assert np.abs(tiled.astype(int) - Upscaler(runner)(picture).pixels).max() <= 1

    def test_another_number_of_channels_is_refused(self) -> None:
        grey = TorchRunner(tiny(in_chans=1), in_chans=1, scale=2)
        with pytest.raises(RunnerError, match="1 channels; pictures need one of 3"):
            Upscaler(grey)

    def test_exact_needs_to_know_the_network(self) -> None:
        with pytest.raises(RunnerError, match="give --overlap auto or a number"):
            Upscaler(TorchRunner(tiny(), in_chans=3, scale=2), overlap="exact")


def _run_short_of_memory(
    model: Path, source: Path, target: Path, *, mebibytes: int
) -> subprocess.CompletedProcess[str]:
    """Upscales 512x512 pixels in a process that may have so much more memory, once it has run a small picture."""
    write_picture(source, Picture(np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)))
    code = (
        "import resource, sys, logging\n"
        "from pathlib import Path\n"
        "from aether_deploy.pictures.images import *\n"
        "from aether_deploy.artifacts.opening import open_runner\n"
        "from aether_deploy.pictures.upscaling import Upscaler\n"
        "logging.basicConfig(level=logging.WARNING)\n"
        "model, source, target = map(Path, sys.argv[1:4])\n"
        "upscaler = Upscaler(open_runner(model, threads=1), tile=512, overlap=28)\n"
        "picture = read_picture(source)\n"
        "write_picture(target, upscaler(Picture(picture.pixels[:64, :64])))\n"
        "now = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[4]) * 2**20,) * 2)\n"
        "write_picture(target, upscaler(picture))\n"
    )
    words = [sys.executable, "-c", code, *map(str, (model, source, target, mebibytes))]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def _onnx_file(path: Path, variant: Variant) -> Path:
    network = fuse_aether(tiny())
    save_onnx(onnx_model(network, read_spec(network.state_dict()), variant), path)
    return path


class TestMemory:
    """Tiles from what is free, smaller ones when it runs out."""

    def test_auto_tile_follows_the_memory(self) -> None:
        assert auto_tile(2**40, 4000, 0, "cpu") == 518
        assert auto_tile(2**40, 4000, 900, "cpu") == 900
        assert auto_tile(2**29, 4000, 900, "cpu") == 259
        assert auto_tile(0, 4000, 0, "cpu") == 32
        assert auto_tile(8 * 2**30, 4000, 0, "cuda") == 1036

    def test_more_channels_and_scale_need_more(self, runner: TorchRunner) -> None:
        needs = [
            bytes_per_pixel(read_spec(tiny(**options).state_dict()))
            for options in (
                {"embed_dim": 12, "scale": 2},
                {"embed_dim": 12, "scale": 4},
                {"embed_dim": 400, "scale": 4},
            )
        ]
        assert needs == sorted(needs)
        assert available_memory("cpu") > 0

    @pytest.mark.parametrize("precision", first_of(["fp32", "", "bf16"]), ids=["fp32", "checkpoint", "bf16"])
    def test_out_of_memory_halves_the_tile_and_goes_on(
        self, precision: str, checkpoint_file: Path, tmp_path: Path
    ) -> None:
        model = _onnx_file(tmp_path / f"{precision}.onnx", Variant(precision)) if precision else checkpoint_file
        ran = _run_short_of_memory(model, tmp_path / "x.png", tmp_path / "y.png", mebibytes=350)
        assert ran.returncode == 0, ran.stderr
        assert "out of memory with tiles of 512x512; going on with 256" in ran.stderr
        part = Picture(read_picture(tmp_path / "x.png").pixels[:120, :120])
        # What bf16 rounds is more than a level.
        with open_runner(model if precision == "bf16" else checkpoint_file) as runner:
            expected = Upscaler(runner)(part).pixels[:200, :200]
        assert np.abs(read_picture(tmp_path / "y.png").pixels[:200, :200].astype(int) - expected).max() <= 1

    @pytest.mark.parametrize("precision", first_of(["", "bf16"]), ids=["checkpoint", "bf16"])
    def test_what_no_tile_helps_is_a_known_error(self, precision: str, checkpoint_file: Path, tmp_path: Path) -> None:
        """Not even the pixels of the result fit."""
        model = _onnx_file(tmp_path / f"{precision}.onnx", Variant(precision)) if precision else checkpoint_file
        ran = _run_short_of_memory(model, tmp_path / "x.png", tmp_path / "y.png", mebibytes=2)
        assert ran.returncode == 1
        assert ran.stderr.splitlines()[-1].startswith(
            "aether_deploy.errors.OutOfMemoryError: out of memory for 512x512 pixels in tiles of "
        )

    def test_nothing_smaller_is_left(self, runner: TorchRunner) -> None:
        class Full(TorchRunner):
            def run(self, lr: Any) -> Any:
                raise OutOfMemoryError("out of memory")

        full = Full(tiny(), in_chans=3, scale=2, spec=runner.spec)
        with pytest.raises(OutOfMemoryError):
            Upscaler(full, overlap="exact")(Picture(np.zeros((200, 200, 3), np.uint8)))


class TestDevices:
    """The provider that runs is the one that was asked for."""

    def test_a_device_that_is_not_there_is_an_error(
        self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is one here")
        assert call("export", checkpoint_file, "-o", tmp_path).code == 0
        (model,) = tmp_path.glob("*.onnx")
        write_picture(tmp_path / "x.png", _picture(3))
        for device in ("cuda", "tensorrt"):
            ran = call("upscale", model, tmp_path / "x.png", "-o", tmp_path / "y.png", "--device", device)
            assert ran.code == 1
            assert f"--device {device}: no NVIDIA driver here" in error_line(ran)
            assert not (tmp_path / "y.png").exists()
        ran = call("upscale", checkpoint_file, tmp_path / "x.png", "-o", tmp_path / "y.png", "--device", "cuda")
        assert "sees no CUDA device 0" in error_line(ran)
        ran = call("upscale", model, tmp_path / "x.png", "-o", tmp_path / "y.png", "--threads", "1")
        assert ran.code == 0
        assert "ONNX Runtime fp32 CPU" in ran.out


class TestCommand:
    """`upscale` of one picture."""

    def test_format_by_suffix_and_overwrite(
        self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        write_picture(tmp_path / "x.png", _picture(4, np.uint16))
        ran = call("upscale", checkpoint_file, tmp_path / "x.png", "-o", tmp_path / "new" / "y.tif", "--json")
        assert ran.code == 0, ran.err
        assert ran.json["output"].endswith("y.tif")
        assert read_picture(tmp_path / "new" / "y.tif").pixels.shape == (24, 34, 4)
        assert read_picture(tmp_path / "new" / "y.tif").bits == 16
        written = (tmp_path / "new" / "y.tif").read_bytes()
        again = call("upscale", checkpoint_file, tmp_path / "x.png", "-o", tmp_path / "new" / "y.tif")
        assert again.code == 1
        assert "add --overwrite" in error_line(again)
        assert (tmp_path / "new" / "y.tif").read_bytes() == written
        third = call("upscale", checkpoint_file, tmp_path / "x.png", "-o", tmp_path / "new" / "y.tif", "--overwrite")
        assert third.code == 0
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["y.tif"]

    def test_exact_tiles_of_a_file_in_bf16(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        """It says what network it is, as every file of ours does, though only the faithful executor runs it here."""
        source = save(calm(scale=2, embed_dim=12, depths=(1,)), tmp_path / "2x_Calm.pth")
        assert call("export", source, "--precision", "bf16").code == 0
        model = tmp_path / "2x_Calm_bf16_op22.onnx"
        with open_runner(model) as runner:
            assert isinstance(runner, RoundedRunner)
            assert runner.spec == load_checkpoint(source).spec.as_fused()
        write_picture(tmp_path / "x.png", Picture(_noise(70, 60)))
        for name, words in {"tiled": ("--tile", 48), "whole": ()}.items():
            target = tmp_path / f"{name}.png"
            ran = call("upscale", model, tmp_path / "x.png", "-o", target, "--overlap", "exact", *words)
            assert ran.code == 0, ran.err
            assert "(faithful bf16 on the CPU)" in ran.out
        tiled, whole = (read_picture(tmp_path / f"{name}.png").pixels.astype(int) for name in ("tiled", "whole"))
        assert np.abs(tiled - whole).max() <= 1

    def test_what_the_format_cannot_hold_is_said_before_the_network_runs(
        self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        write_picture(tmp_path / "x.png", _picture(4))
        ran = call("upscale", checkpoint_file, tmp_path / "x.png", "-o", tmp_path / "y.jpg")
        assert "no transparency" in error_line(ran)
        assert not (tmp_path / "y.jpg").exists()

    def test_a_changed_model_is_refused(self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        assert call("fuse", checkpoint_file, "-o", tmp_path / "fused.pth").code == 0
        save(tiny(scale=2, depths=(1, 1)), tmp_path / "fused.pth")
        write_picture(tmp_path / "x.png", _picture(3))
        ran = call("upscale", tmp_path / "fused.pth", tmp_path / "x.png", "-o", tmp_path / "y.png")
        assert ran.code == 1
        assert "not the file that was proved" in error_line(ran)
        assert not (tmp_path / "y.png").exists()

    def test_a_model_of_which_only_the_manifest_is_left(
        self, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        assert call("export", checkpoint_file, "-o", tmp_path).code == 0
        (model,) = tmp_path.glob("*.onnx")
        model.unlink()
        write_picture(tmp_path / "any.png", _picture(3))
        ran = call("upscale", model, tmp_path / "any.png", "-o", tmp_path / "x.png")
        assert ran.code == 1
        assert "not there, only its manifest is" in error_line(ran)

    @pytest.mark.parametrize(
        "words", [("--tile", "3"), ("--overlap", "much"), ("--device", "gpu"), ("--format", "gif")]
    )
    def test_usage(self, words: tuple[str, str], checkpoint_file: Path, call: Callable[..., Ran]) -> None:
        assert call("upscale", checkpoint_file, "x.png", *words).code == 2
