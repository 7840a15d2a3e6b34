"""Tiles: the receptive field is the true one, exact is exact, the default shows no seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from aether_deploy.arrays import Pixels
from aether_deploy.errors import RunnerError
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.network.aether import fuse_aether, read_spec
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.pictures.edge_reach import effective_margin
from aether_deploy.pictures.images import Picture, list_images, read_picture
from aether_deploy.pictures.tiling import RAMP, Grid, plan_axis, plan_grid, stitch, stitched_rows
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.protocol import Runner
from aether_deploy.runners.pytorch import TorchRunner
from tests.helpers.networks import SAMPLE, tiny
from tests.helpers.runners import Identity
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

PHOTOS = SAMPLE.parent / "photos"


def _runner(**options: Any) -> TorchRunner:
    network = tiny(**options)
    spec = read_spec(network.state_dict())
    return TorchRunner(network, in_chans=3, scale=spec.scale, spec=spec)


def _field(runner: Runner) -> int:
    """The receptive field that the network's spec says it has."""
    assert runner.spec is not None
    assert runner.spec.receptive_field is not None
    return runner.spec.receptive_field


class TestReceptiveField:
    """Derived from the spec, seen in the network."""

    @pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
    @pytest.mark.parametrize(("depths", "kernel"), [((1, 2), 7), ((1,), 3), ((2, 1), 5)])
    def test_is_where_a_nan_stops(self, scale: int, depths: tuple[int, ...], kernel: int) -> None:
        runner = _runner(scale=scale, depths=depths, lk_kernel=kernel)
        field, centre = _field(runner), 20
        lr = np.zeros((1, 3, 3, 2 * centre + 1), np.float32)
        lr[..., centre] = np.nan
        reached = np.nonzero(np.isnan(runner.run(lr)).any(axis=(0, 1, 2)))[0]
        assert np.abs(reached // scale - centre).max() == field

    @pytest.mark.parametrize(("variant", "expected"), [("small", 85), ("medium", 185), ("large", 389)])
    def test_of_the_variants(self, variant: str, expected: int) -> None:
        from aether_deploy.network.definition import arch

        with torch.device("meta"):
            network = arch.AetherNet(scale=2, **arch.PRESETS[f"aether_{variant}"])
        assert read_spec(network.state_dict()).receptive_field == expected


class TestPlan:
    """Every pixel is covered with weights that sum to 1, and the margins hold."""

    @pytest.mark.parametrize("length", [1, 31, 64, 65, 100, 257])
    @pytest.mark.parametrize(("tile", "margin", "ramp"), [(64, 13, 16), (48, 23, 0), (64, 0, 0), (33, 16, 8)])
    @pytest.mark.parametrize("fixed", [False, True])
    def test_axis(self, length: int, tile: int, margin: int, ramp: int, fixed: bool) -> None:
        axis = plan_axis(length, tile, margin, ramp=ramp, fixed=fixed)
        total = np.zeros(length * 2)
        for index, start in enumerate(axis.starts):
            weights = axis.weights(index, 2)
            total[start * 2 : start * 2 + len(weights)] += weights
            used = np.nonzero(weights)[0]
            keep = 2 * margin - axis.ramp
            assert index == 0 or used[0] >= keep
            assert index == len(axis.starts) - 1 or len(weights) - 1 - used[-1] >= keep
        np.testing.assert_allclose(total, 1, atol=1e-6)
        assert axis.tile == tile if fixed else axis.tile <= tile

    def test_a_tile_within_its_margins(self) -> None:
        with pytest.raises(RunnerError, match="give one above 40"):
            plan_axis(100, 40, 20)

    def test_a_picture_that_fits_is_not_cut(self) -> None:
        assert len(plan_grid(100, 90, None, 30)) == 1
        assert len(plan_grid(10, 900, 100, 30)) == 1
        assert len(plan_grid(100, 101, 100, 30)) > 1

    def test_tiles_return_the_picture_itself(self) -> None:
        for kind in (np.uint8, np.uint16):
            pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (61, 83, 3), dtype=kind)
            grid = plan_grid(61, 83, 24, 8, ramp=RAMP, batch=3)
            assert len(grid) > 20
            expected = pixels.repeat(2, axis=0).repeat(2, axis=1)
            np.testing.assert_array_equal(stitch(Identity(), pixels, grid), expected)


@pytest.fixture(scope="module")
def sample() -> TorchRunner:
    """The packaged network, fused."""
    checkpoint = load_checkpoint(SAMPLE)
    network = fuse_network(checkpoint.build(), checkpoint.spec)
    return TorchRunner(network, in_chans=3, scale=checkpoint.spec.scale, spec=checkpoint.spec.as_fused())


@pytest.fixture(scope="module")
def sample_onnx(tmp_path_factory: pytest.TempPathFactory) -> OnnxRunner:
    """The packaged network as it is used, in ONNX Runtime."""
    path = tmp_path_factory.mktemp("onnx") / "sample.onnx"
    checkpoint = load_checkpoint(SAMPLE)
    network = fuse_network(checkpoint.build(), checkpoint.spec)
    save_onnx(export_onnx(network, checkpoint.spec.as_fused()), path)
    return OnnxRunner(path)


def _floats(runner: Runner, pixels: Pixels, grid: Grid) -> NDArray[np.floating[Any]]:
    """(3, H, W) before anything is rounded."""
    return np.concatenate([rows.copy() for _, rows in stitched_rows(runner, pixels, grid)], axis=1)


def _worst_line(tiled: Pixels, whole: NDArray[np.int_]) -> float:
    """The share of differing values in the row or column that has most of them: a seam is a line."""
    different = tiled != whole
    return float(max(different.mean(axis=(0, 2)).max(), different.mean(axis=(1, 2)).max()))


class TestStitch:
    """Against the untiled result."""

    @pytest.mark.parametrize("batch", [1, 3])
    def test_exact(self, batch: int) -> None:
        runner = _runner()
        field = _field(runner)
        pixels = np.random.default_rng(0).integers(0, 65535, (70, 91, 3), dtype=np.uint16)
        grid = plan_grid(70, 91, 2 * field + 11, field, batch=batch)
        assert len(grid) > 12
        whole = _floats(runner, pixels, plan_grid(70, 91, None, 0))
        assert np.abs(_floats(runner, pixels, grid) - whole).max() <= 1e-5

    @pytest.mark.parametrize(("height", "width"), first_of([(230, 240), (300, 450)]))
    def test_exact_on_the_trained_network(
        self, sample: TorchRunner, sample_onnx: OnnxRunner, height: int, width: int
    ) -> None:
        """A part of a photo, and all of it."""
        field = _field(sample)
        pixels = read_picture(PHOTOS / "chelsea.png").pixels[:height, :width]
        whole = _floats(sample_onnx, pixels, plan_grid(height, width, None, 0))
        exact = plan_grid(height, width, 2 * field + 30, field)
        assert len(exact) >= height * width / 10_000
        assert np.abs(_floats(sample_onnx, pixels, exact) - whole).max() <= 1e-5
        # And it would show: a trained network's influence dies off, but a third of the field errs by 2.8e-4.
        less = plan_grid(height, width, 2 * field + 30, field // 3)
        assert np.abs(_floats(sample_onnx, pixels, less) - whole).max() > 1e-4

    def test_one_pixel_less_than_exact_shows(self) -> None:
        """The field is not merely large enough: three blocks' worth less of it changes the output."""
        runner = _runner()
        margin = _field(runner) - 9
        pixels = np.random.default_rng(0).integers(0, 65535, (20, 91, 3), dtype=np.uint16)
        whole = stitch(runner, pixels, plan_grid(20, 91, None, 0))
        cut = stitch(runner, pixels, plan_grid(20, 91, 40, margin))
        assert np.abs(cut.astype(int) - whole).max() > 10

    @pytest.mark.parametrize("tile", first_of([64, 100]))
    @pytest.mark.parametrize("photo", first_of(list_images(PHOTOS)), ids=lambda path: path.stem)
    def test_default_overlap_is_within_a_level_and_has_no_seam(
        self, sample: TorchRunner, photo: Path, tile: int
    ) -> None:
        picture = Picture(read_picture(photo).pixels[:128, :160])
        whole = Upscaler(sample, tile=160)(picture).pixels.astype(int)
        tiled = Upscaler(sample, tile=tile)(picture).pixels
        assert np.abs(tiled - whole).max() <= 1
        assert _worst_line(tiled, whole) <= 0.02

    @pytest.mark.parametrize("name", first_of(["chelsea", "astronaut", "coffee", "rocket"]))
    def test_default_overlap_on_whole_photos(self, sample_onnx: OnnxRunner, name: str) -> None:
        """Tiles of 200 pixels, six to twelve of them; measured: at most 0.21% of a line differ, by one level."""
        picture = Picture(getattr(data, name)())
        whole = Upscaler(sample_onnx, tile=1024)(picture).pixels.astype(int)
        tiled = Upscaler(sample_onnx, tile=200)(picture).pixels
        assert np.abs(tiled - whole).max() <= 1
        assert _worst_line(tiled, whole) <= 0.01

    def test_without_overlap_there_is_a_seam(self, sample: TorchRunner) -> None:
        pixels = read_picture(PHOTOS / "coffee.png").pixels[:96, :96]
        whole = stitch(sample, pixels, plan_grid(96, 96, None, 0)).astype(int)
        cut = stitch(sample, pixels, plan_grid(96, 96, 48, 0))
        assert np.abs(cut - whole).max() > 5
        assert _worst_line(cut, whole) > 0.5

    def test_static_network_of_any_picture(self, tmp_path: Path) -> None:
        network = fuse_aether(tiny())
        spec = read_spec(network.state_dict())
        save_onnx(export_onnx(network, spec, static=(2, 3, 40, 56)), tmp_path / "static.onnx")
        static = OnnxRunner(tmp_path / "static.onnx")
        free = TorchRunner(network, in_chans=3, scale=2)
        for height, width in ((100, 130), (40, 56)):
            pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
            grid = plan_grid(height, width, None, spec.receptive_field, static=static.static)
            whole = stitch(free, pixels, plan_grid(height, width, None, 0)).astype(int)
            assert np.abs(stitch(static, pixels, grid) - whole).max() <= 1
        small = np.full((11, 9, 3), 200, np.uint8)
        assert stitch(static, small, plan_grid(11, 9, None, 14, static=static.static)).shape == (22, 18, 3)

    def test_measured_margin_of_a_static_network(self, tmp_path: Path) -> None:
        network = fuse_aether(tiny())
        spec = read_spec(network.state_dict())
        save_onnx(export_onnx(network, spec, static=(1, 3, 64, 80)), tmp_path / "static.onnx")
        free = TorchRunner(network, in_chans=3, scale=2, spec=spec)
        assert abs(effective_margin(OnnxRunner(tmp_path / "static.onnx")) - effective_margin(free)) <= 2
