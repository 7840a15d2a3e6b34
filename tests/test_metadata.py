"""EXIF and dots per inch: what is carried over is still true, what is not true any more is gone."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from aether_deploy.pictures.images import Picture, read_picture, write_picture
from aether_deploy.pictures.metadata import dpi_of
from tests.helpers.commands import Ran

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 20, 3), np.uint8)
TEXTS = {"Make": "Maker", "Model": "Camera", "Artist": "Somebody", "Copyright": "(c) somebody"}
EXPOSURE = {"ExposureTime": (1, 125), "DateTimeOriginal": "2024:01:02 03:04:05", "ISOSpeedRatings": 100}
THUMBNAIL = b"\xff\xd8a thumbnail\xff\xd9"


def _block() -> bytes:
    """As a camera writes it: turned, with a thumbnail, its size, and a note of its maker."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.update({ExifTags.Base[name]: text for name, text in TEXTS.items()})
    folder = exif.get_ifd(ExifTags.IFD.Exif)
    folder.update({ExifTags.Base[name]: value for name, value in EXPOSURE.items()})
    folder.update({ExifTags.Base.ExifImageWidth: 20, ExifTags.Base.ExifImageHeight: 16})
    folder[ExifTags.Base.MakerNote] = b"offsets"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.5)})
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    entries = struct.unpack_from(">H", tiff, 8)[0]
    place = len(tiff) + len(tiff) % 2
    second = struct.pack(">HHHIIHHIII", 2, 0x201, 4, 1, place + 30, 0x202, 4, 1, len(THUMBNAIL), 0)
    linked = bytearray(tiff.ljust(place, b"\0"))
    struct.pack_into(">I", linked, 8 + 2 + 12 * entries, place)
    return b"Exif\0\0" + bytes(linked) + second + THUMBNAIL


@pytest.fixture(params=[".jpg", ".png", ".webp"])
def photo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A photo of a camera."""
    path = tmp_path / f"in{request.param}"
    Image.fromarray(PIXELS).save(path, exif=_block(), lossless=True)
    assert THUMBNAIL in path.read_bytes()
    return path


def _seen(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[int, Any]]:
    """First level, folder of the exposure, folder of the place."""
    exif = Image.Exif()
    if path.suffix == ".tif":
        with path.open("rb") as file:
            exif.load_from_fp(file)
            return _named(exif), _named(exif.get_ifd(ExifTags.IFD.Exif)), exif.get_ifd(ExifTags.IFD.GPSInfo)
    with Image.open(path) as image:
        exif = image.getexif()
        return _named(exif), _named(exif.get_ifd(ExifTags.IFD.Exif)), exif.get_ifd(ExifTags.IFD.GPSInfo)


def _named(values: Any) -> dict[str, Any]:
    return {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in values.items()}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_carried_over_and_true(photo: Path, suffix: str, bits: int, tmp_path: Path) -> None:
    picture = read_picture(photo)
    if bits == 16:
        picture = dataclasses.replace(picture, pixels=picture.pixels.astype(np.uint16) * np.uint16(257))
    target = tmp_path / f"out{suffix}"
    write_picture(target, picture)
    first, exposure, place = _seen(target)
    assert TEXTS.items() <= first.items()
    assert exposure == EXPOSURE
    assert place == {1: "N", 2: (1.0, 2.0, 3.5)}
    assert "Orientation" not in first
    assert THUMBNAIL not in target.read_bytes()
    assert read_picture(target).pixels.shape == (20, 16, 3)  # turned once
    assert read_picture(target).exif is not None


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_keeps_the_texts(photo: Path, bits: int, tmp_path: Path) -> None:
    picture = read_picture(photo)
    if bits == 16:
        picture = dataclasses.replace(picture, pixels=picture.pixels.astype(np.uint16))
    write_picture(tmp_path / "out.tif", picture)
    first, exposure, place = _seen(tmp_path / "out.tif")
    assert TEXTS.items() <= first.items()
    assert first.get("Orientation", 1) == 1
    assert (exposure, place) == ({}, {})
    again = read_picture(tmp_path / "out.tif")
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    write_picture(tmp_path / "out.png", again)
    assert {"ImageWidth", "StripOffsets", "BitsPerSample"}.isdisjoint(_seen(tmp_path / "out.png")[0])
    assert TEXTS.items() <= _seen(tmp_path / "out.png")[0].items()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_dots_per_inch(suffix: str, kind: Any, tmp_path: Path) -> None:
    write_picture(tmp_path / f"x{suffix}", Picture(PIXELS.astype(kind), dpi=(300.0, 150.0)))
    assert read_picture(tmp_path / f"x{suffix}").dpi == pytest.approx((300, 150), abs=0.02)
    write_picture(tmp_path / f"y{suffix}", Picture(PIXELS.astype(kind)))
    assert read_picture(tmp_path / f"y{suffix}").dpi in (None, pytest.approx((96, 96), abs=0.02))


@pytest.mark.parametrize("dpi", [None, (0, 0), (72,), ("a", "b"), (float("nan"), 72), (1e9, 1e9)])
def test_dots_that_cannot_be(dpi: Any) -> None:
    assert dpi_of({"dpi": dpi}) is None
    assert dpi_of({}) is None


def test_a_tiff_in_centimetres(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", PIXELS.astype(np.uint16), photometric="rgb", resolution=(100, 100), resolutionunit=3
    )
    assert read_picture(tmp_path / "x.tif").dpi == pytest.approx((254, 254))


def test_what_is_too_long_for_jpeg_is_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    write_picture(tmp_path / "x.jpg", Picture(PIXELS, exif=exif.tobytes()))
    assert read_picture(tmp_path / "x.jpg").exif is None
    write_picture(tmp_path / "x.png", Picture(PIXELS, exif=exif.tobytes()))
    assert len(read_picture(tmp_path / "x.png").exif or b"") > 70_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda block: block.replace(b"Exif\0\0MM", b"Exif\0\0XX"),
        # Text whose type says that it is floats.
        lambda block: block.replace(struct.pack(">HHI", 271, 2, 6), struct.pack(">HHI", 271, 11, 1)),
    ],
    ids=["header", "type"],
)
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_damage_costs_the_exif_and_not_the_picture(
    suffix: str, damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = damage(_block())
    assert damaged != _block()
    Image.fromarray(PIXELS).save(tmp_path / f"x{suffix}", exif=damaged, lossless=True)
    picture = read_picture(tmp_path / f"x{suffix}")
    assert set(picture.pixels.shape) == {16, 20, 3}
    assert picture.exif is None
    assert "its EXIF data is damaged" in caplog.text


def test_through_the_command(photo: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("upscale", checkpoint_file, photo, "-o", tmp_path / "out.jpg")
    assert ran.code == 0, ran.err
    first, exposure, _ = _seen(tmp_path / "out.jpg")
    assert TEXTS.items() <= first.items()
    assert exposure == EXPOSURE
    memory = io.BytesIO((tmp_path / "out.jpg").read_bytes())
    with Image.open(memory) as image:
        assert image.size == (32, 40)
