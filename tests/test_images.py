"""Reading and writing every kind of picture, with round-trips."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from aether_deploy.arrays import quantize
from aether_deploy.errors import ImageError
from aether_deploy.pictures.deep_images import read_deep
from aether_deploy.pictures.images import Picture, read_image, read_picture, write_picture
from aether_deploy.samples import PHOTOS

LOSSLESS = (".png", ".tif", ".webp")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _random(channels: int, kind: Any = np.uint8, size: tuple[int, int] = (7, 9)) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(kind).max, (*size, channels), dtype=kind, endpoint=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_png_and_tiff_keep_every_bit_and_the_profile(channels: int, kind: Any, suffix: str, tmp_path: Path) -> None:
    picture = Picture(_random(channels, kind), ICC)
    write_picture(tmp_path / f"x{suffix}", picture)
    again = read_picture(tmp_path / f"x{suffix}")
    assert again.pixels.dtype == kind
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert again.icc == ICC


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_is_lossless_also_below_transparency(channels: int, tmp_path: Path) -> None:
    picture = Picture(_random(channels), ICC)
    write_picture(tmp_path / "x.webp", picture)
    again = read_picture(tmp_path / "x.webp")
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert again.icc == ICC


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_near_and_has_full_chroma(channels: int, tmp_path: Path) -> None:
    photo = read_picture(PHOTOS / "coffee.png").pixels[:, :, :channels]
    write_picture(tmp_path / "x.jpg", Picture(photo, ICC))
    again = read_picture(tmp_path / "x.jpg")
    assert again.pixels.shape == photo.shape
    assert np.abs(again.pixels.astype(int) - photo).mean() < 2
    assert again.icc == ICC
    if channels == 3:
        with Image.open(tmp_path / "x.jpg") as image:
            assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_sixteen_bits_become_eight_by_rounding(suffix: str, tmp_path: Path) -> None:
    deep = np.repeat(np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16, 1), 3, axis=2)
    write_picture(tmp_path / f"x{suffix}", Picture(deep))
    again = read_picture(tmp_path / f"x{suffix}").pixels
    assert again.dtype == np.uint8
    tolerance = 4 if suffix == ".jpg" else 0
    assert np.abs(again[:, :, 0].astype(int) - np.arange(256).reshape(16, 16)).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied(orientation: int, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(_random(3))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x{suffix}", exif=exif)
    with Image.open(tmp_path / f"x{suffix}") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_picture(tmp_path / f"x{suffix}").pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_of_sixteen_bits(orientation: int, suffix: str, tmp_path: Path) -> None:
    deep = _random(3, np.uint16)
    path = tmp_path / f"x{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        write_picture(path, Picture(deep))
        path.write_bytes(_with_exif(path.read_bytes(), orientation))
    # Pillow knows the eight ways; it is asked with an 8-bit picture of the same layout.
    shallow = Image.fromarray((deep >> 8).astype(np.uint8))
    exif = shallow.getexif()
    exif[0x0112] = orientation
    memory = io.BytesIO()
    shallow.save(memory, "png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(memory)))
    np.testing.assert_array_equal(read_picture(path).pixels >> 8, expected)


def _with_exif(png: bytes, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return png[:33] + chunk + png[33:]


def test_palettes_and_one_bit(tmp_path: Path) -> None:
    rgb = Image.fromarray(_random(3, size=(16, 16))).quantize(16)
    rgb.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png").pixels, np.asarray(rgb.convert("RGB")))
    rgb.save(tmp_path / "t.png", transparency=3)
    with Image.open(tmp_path / "t.png") as image:
        np.testing.assert_array_equal(read_picture(tmp_path / "t.png").pixels, np.asarray(image.convert("RGBA")))
    Image.fromarray(_random(1, size=(16, 16))[:, :, 0]).convert("1").save(tmp_path / "b.png")
    bits = read_picture(tmp_path / "b.png").pixels
    assert bits.shape == (16, 16, 1)
    assert set(np.unique(bits)) == {0, 255}


def test_a_transparent_colour_of_rgb_and_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(tmp_path / "c.png", transparency=(7, 7, 7))
    assert read_picture(tmp_path / "c.png").pixels[0, 0].tolist() == [7, 7, 7, 0]
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "g.png", transparency=7)
    assert read_picture(tmp_path / "g.png").pixels[0, 0].tolist() == [7, 0]


def test_cmyk_becomes_rgb_without_a_profile_that_no_longer_fits(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg")
    picture = read_picture(tmp_path / "x.jpg")
    red, green, blue = picture.pixels[4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 15
    assert picture.icc is None


# A profile made here says when: as a name it would differ from process to process.
@pytest.mark.parametrize("icc", [ICC, b"no profile"], ids=["sRGB", "none"])
def test_cmyk_with_a_profile_of_another_kind(icc: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As some cameras' software writes it: converted without the profile."""
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", icc_profile=icc)
    picture = read_picture(tmp_path / "x.jpg")
    assert picture.pixels[4, 4, 0] > 240 > 15 > picture.pixels[4, 4, 1:].max()
    assert picture.icc is None
    assert "its colour profile is not for CMYK" in caplog.text


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"planarconfig": "separate"}, {"byteorder": ">"}])
def test_tiffs_of_other_programs(options: dict[str, Any], tmp_path: Path) -> None:
    deep = _random(3, np.uint16)
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(tmp_path / "x.tif", deep.transpose(2, 0, 1) if planar else deep, photometric="rgb", **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif").pixels, deep)


def test_white_is_zero(tmp_path: Path) -> None:
    deep = _random(1, np.uint16)[:, :, 0]
    tifffile.imwrite(tmp_path / "x.tif", deep, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif").pixels[:, :, 0], 65535 - deep)


def test_read_image_is_float_rgb_of_any_kind(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", Picture(np.full((2, 3, 2), 65535, np.uint16)))
    image = read_image(tmp_path / "x.png")
    assert image.shape == (1, 3, 2, 3)
    assert image.dtype == np.float32
    assert float(image.min()) == float(image.max()) == 1.0


def test_quantize_clamps_rounds_and_survives_nan() -> None:
    values = np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf], np.float32)
    assert quantize(values, 8).tolist() == [0, 0, 128, 255, 255, 0, 255]
    assert quantize(values, 16).tolist() == [0, 0, 32768, 65535, 65535, 0, 65535]


class TestErrors:
    """What cannot be held or read is said before anything is lost."""

    @pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
    def test_no_transparency(self, suffix: str, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"no transparency.*choose \.png"):
            write_picture(tmp_path / f"x{suffix}", Picture(_random(4)))

    def test_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"no format for \.gif; expected \.bmp, \.jpeg"):
            write_picture(tmp_path / "x.gif", Picture(_random(3)))

    def test_too_large_for_webp(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="at most 16383"):
            write_picture(tmp_path / "x.webp", Picture(np.zeros((1, 16384, 3), np.uint8)))

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    @pytest.mark.parametrize("suffix", LOSSLESS)
    def test_cut_off(self, kind: Any, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"x{suffix}"
        write_picture(path, Picture(_random(3, kind, (64, 64))))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match="cannot be read"):
            read_picture(path)

    def test_not_there_and_no_picture(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="cannot be read"):
            read_picture(tmp_path / "none.png")
        (tmp_path / "text.png").write_text("no picture")
        with pytest.raises(ImageError, match="cannot be read"):
            read_picture(tmp_path / "text.png")

    def test_several_pictures_in_one(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(_random(3)), Image.fromarray(_random(4)[:, :, :3])]
        frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="2 pictures in one file"):
            read_picture(tmp_path / "x.webp")
        tifffile.imwrite(tmp_path / "x.tif", np.stack([_random(3, np.uint16)] * 2), photometric="rgb")
        with pytest.raises(ImageError, match="2 pictures in one file"):
            read_picture(tmp_path / "x.tif")

    def test_floats(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 4), np.float32))
        with pytest.raises(ImageError, match="32 bits"):
            read_picture(tmp_path / "x.tif")

    @pytest.mark.parametrize("sides", [(100_000, 100_000), (2**31 - 1, 1)])
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_a_header_that_claims_too_much(
        self, suffix: str, bits: int, sides: tuple[int, int], tmp_path: Path
    ) -> None:
        """Before anything is allocated, and with one limit for every format."""
        path = tmp_path / f"x{suffix}"
        write_picture(path, Picture(_random(3, np.uint16 if bits == 16 else np.uint8)))
        content = bytearray(path.read_bytes())
        if suffix == ".png":
            struct.pack_into(">II", content, 16, *sides)
            struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
        else:
            (start,) = struct.unpack_from("<I", content, 4)
            for entry in range(start + 2, start + 2 + 12 * content[start], 12):
                tag = struct.unpack_from("<H", content, entry)[0]
                if tag in (256, 257):
                    struct.pack_into("<HII", content, entry + 2, 4, 1, sides[tag - 256])
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ImageError, match=r"pixels; expected at most|exceeds limit of"):
            read_picture(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()

    def test_a_jpeg_whose_header_claims_more_than_it_can_hold(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "x.jpg", Picture(_random(3)))
        content = bytearray((tmp_path / "x.jpg").read_bytes())
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, 10_000, 10_000)
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(ImageError, match="its header claims 10000x10000 pixels"):
            read_picture(tmp_path / "x.jpg")

    @pytest.mark.parametrize(
        "error", [struct.error("x"), TypeError("x"), IndexError("x"), MemoryError(), RecursionError("two\nlines\x1b")]
    )
    def test_whatever_a_decoder_raises(self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stumbles(*_: object) -> None:
            raise error

        monkeypatch.setattr("aether_deploy.pictures.images.read_deep", stumbles)
        with pytest.raises(ImageError, match=r"cannot be read as a picture \([^\x1b\n]+\); check the file"):
            read_picture(tmp_path / "x.png")

    def test_other_formats_under_a_known_name(self, tmp_path: Path) -> None:
        """Pillow would start Ghostscript for this one."""
        (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
        with pytest.raises(ImageError, match="cannot identify"):
            read_picture(tmp_path / "x.png")

    def test_eight_bits_are_left_to_pillow(self) -> None:
        assert read_deep(PHOTOS / "coffee.png") is None
