"""One call for paths, PIL images and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aether_deploy.arrays import Pixels
from aether_deploy.errors import AetherDeployError, ImageError
from aether_deploy.pictures.upscale_any import upscale
from tests.helpers.runners import Identity


def _pixels(channels: int, kind: type[np.unsignedinteger[Any]] = np.uint8) -> Pixels:
    peak = np.iinfo(kind).max
    return np.random.default_rng(0).integers(0, peak + 1, (9, 13, channels), dtype=kind)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_come_back_as_they_went_in(channels: int, kind: type[np.unsignedinteger[Any]]) -> None:
    pixels = _pixels(channels, kind)
    assert np.array_equal(upscale(Identity(), pixels), pixels.repeat(2, axis=0).repeat(2, axis=1))


def test_a_plane_stays_a_plane() -> None:
    plane = _pixels(1)[:, :, 0]
    assert np.array_equal(upscale(Identity(), plane), plane.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_pil_images(mode: str, channels: int) -> None:
    pixels = _pixels(channels)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    assert image.mode == mode
    large = upscale(Identity(), image)
    assert isinstance(large, Image.Image)
    assert (large.mode, large.size) == (mode, (26, 18))
    assert np.array_equal(np.asarray(large), np.asarray(image).repeat(2, axis=0).repeat(2, axis=1))


def test_a_path_and_what_is_there_already(tmp_path: Path) -> None:
    Image.fromarray(_pixels(3)).save(tmp_path / "in.png")
    done = upscale(Identity(), str(tmp_path / "in.png"), tmp_path / "out.png")
    assert (done.output, done.size) == (tmp_path / "out.png", (26, 18))
    with pytest.raises(AetherDeployError, match="there already"):
        upscale(Identity(), tmp_path / "in.png", tmp_path / "out.png")
    assert upscale(Identity(), tmp_path / "in.png", tmp_path / "out.png", overwrite=True).size == (26, 18)


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(_pixels(3)).save(tmp_path / "in" / f"{name}.png")
    done = upscale(Identity(), tmp_path / "in", tmp_path / "out")
    assert done.folder is not None
    assert sorted(path.name for path in done.folder.written) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.float32), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4, 5), np.uint8)]
)
def test_other_arrays_are_refused(pixels: Any) -> None:
    with pytest.raises(ImageError, match="expected"):
        upscale(Identity(), pixels)


def test_another_mode_is_refused() -> None:
    with pytest.raises(ImageError, match="mode CMYK"):
        upscale(Identity(), Image.new("CMYK", (4, 4)))
