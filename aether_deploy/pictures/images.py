"""Pictures: 8 and 16 bits, grey and colour, with transparency, EXIF orientation and colour profile.

A `Picture` is what a file holds; networks take float32 NCHW, RGB, in [0, 1].
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from aether_deploy.arrays import Array, Pixels, quantize
from aether_deploy.errors import ImageError
from aether_deploy.pictures.deep_images import check_claim, read_deep, upright, write_deep
from aether_deploy.pictures.metadata import Dpi, dpi_of, exif_of, without_folders
from aether_deploy.text import in_one_line

__all__ = [
    "SUFFIXES",
    "Picture",
    "check_writable",
    "list_images",
    "read_image",
    "read_picture",
    "write_image",
    "write_picture",
]

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
# Pillow knows 40 more, some of which start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_TIFF = (".tif", ".tiff")
_JPEG = (".jpg", ".jpeg")
# The most bytes that a JPEG's EXIF segment holds.
_JPEG_EXIF = 65533

# What a format cannot hold is an error before the network runs, never a silent loss.
_DEEP = (".png", *_TIFF)
_NO_ALPHA = (".jpg", ".jpeg", ".bmp")
_MAX_SIDE = {".jpg": 65535, ".jpeg": 65535, ".webp": 16383}

# At quality 95 with full chroma, JPEG's own mean error is 1.0 to 1.6 levels on the packaged photos. WebP is
# lossless here, as are PNG and TIFF.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"lossless": True, "exact": True},
    # The default, 6, takes four times as long as 1 for files a tenth smaller.
    ".png": {"compress_level": 1},
    **{suffix: {"compression": "tiff_deflate"} for suffix in _TIFF},
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a file holds it, upright.

    Attributes:
        pixels: (H, W, C) uint8 or uint16; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha), alpha not
            premultiplied.
        icc: the embedded colour profile; None if there is none.
        exif: the block that is carried over, see `metadata.exif_of`; None if there is none.
        dpi: dots per inch, across and down, kept from the source, so more pixels print larger; None if unknown.
    """

    pixels: Pixels
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: Dpi | None = None

    @property
    def bits(self) -> int:
        """Bits a channel: 8 or 16."""
        return self.pixels.dtype.itemsize * 8

    @property
    def alpha(self) -> bool:
        """Whether the last channel is transparency."""
        return self.pixels.shape[2] in (2, 4)


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name.

    Raises:
        ImageError: no such folder, or no pictures in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: not a folder; give one that holds pictures")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ImageError(f"{folder}: no picture in it; expected {', '.join(sorted(SUFFIXES))}")
    return found


def read_picture(path: Path) -> Picture:
    """Reads a picture: palettes become RGB, CMYK becomes sRGB, and the EXIF orientation is applied.

    Raises:
        ImageError: the file is missing, damaged, not a picture, or holds several pictures or 32-bit channels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's about sizes, which are checked, and about metadata, which is left out if damaged.
            warnings.simplefilter("ignore")
            return _read(path)
    except ImageError:
        raise
    # Decoders raise whatever a damaged file makes them stumble over, MemoryError too.
    except Exception as error:
        raise ImageError(f"{path}: cannot be read as a picture ({in_one_line(error)}); check the file") from error


def _read(path: Path) -> Picture:
    deep = read_deep(path)
    if deep is not None:
        return Picture(*deep)
    with Image.open(path, formats=_FORMATS) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{path}: {getattr(image, 'n_frames', 0)} pictures in one file; split it first")
        if image.format == "JPEG":
            check_claim(path, image.width, image.height, len(image.getbands()))
        # On loading a TIFF, Pillow itself turns it upright and removes the orientation tag.
        image.load()
        orientation, exif = exif_of(image, path)
        dpi = dpi_of(image.info)
        shallow, icc = _plain(image, image.info.get("icc_profile"), path)
    pixels = np.asarray(shallow)
    return Picture(upright(pixels if pixels.ndim == 3 else pixels[:, :, None], orientation), icc, exif, dpi)


def check_writable(path: Path, *, alpha: bool, width: int, height: int) -> None:
    """Checks that the format named by the suffix can hold a picture of `width` x `height` pixels.

    Raises:
        ImageError: an unknown suffix, transparency in a format without it, or too large a picture.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: no format for {suffix or 'no suffix'}; expected {', '.join(sorted(SUFFIXES))}")
    if alpha and suffix in _NO_ALPHA:
        raise ImageError(f"{path}: {suffix} holds no transparency, the input has it; choose .png, .webp or .tif")
    if max(width, height) > _MAX_SIDE.get(suffix, 2**31):
        raise ImageError(
            f"{path}: {width}x{height}, {suffix} holds at most {_MAX_SIDE[suffix]} a side; choose .png or .tif"
        )


def write_picture(path: Path, picture: Picture) -> None:
    """Writes a picture in the format of the suffix; JPEG, WebP and BMP get 8 bits a channel.

    Raises:
        ImageError: see `check_writable`; or the file cannot be written.
    """
    suffix = path.suffix.lower()
    height, width, channels = picture.pixels.shape
    check_writable(path, alpha=picture.alpha, width=width, height=height)
    pixels = picture.pixels
    try:
        if picture.bits == 16 and suffix in _DEEP:
            write_deep(path, pixels, picture.icc, picture.exif, picture.dpi)
            return
        if picture.bits == 16:
            pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        image.save(path, **_options(suffix, picture))
    # All but the first two: Pillow's, for metadata of the source that it reads but cannot write.
    except (OSError, ValueError, TypeError, RuntimeError, ArithmeticError, struct.error) as error:
        raise ImageError(
            f"{path}: cannot be written ({in_one_line(error)}); check the folder and the space left"
        ) from error


def _options(suffix: str, picture: Picture) -> dict[str, Any]:
    """Pillow's options for saving: quality, resolution, EXIF, colour profile."""
    options = dict(_SAVE_OPTIONS.get(suffix, {}))
    if picture.dpi:
        options["dpi"] = picture.dpi
    if suffix == ".bmp":
        return options
    if picture.exif and not (suffix in _JPEG and len(picture.exif) > _JPEG_EXIF):
        options["exif"] = without_folders(picture.exif) if suffix in _TIFF else picture.exif
    # WebP stores grey as RGB, to which a grey profile does not apply.
    if picture.icc and not (suffix == ".webp" and picture.pixels.shape[2] < 3):
        options["icc_profile"] = picture.icc
    return options


def read_image(path: Path) -> Array:
    """Reads a picture as (1, 3, H, W) float32 in [0, 1], without its transparency.

    Raises:
        ImageError: see `read_picture`.
    """
    picture = read_picture(path)
    colour = picture.pixels[:, :, :3] if picture.pixels.shape[2] > 2 else picture.pixels[:, :, :1].repeat(3, axis=2)
    values = colour.astype(np.float32).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(values / np.float32(2**picture.bits - 1))


def write_image(path: Path, image: Array) -> None:
    """Writes (1, 3, H, W) in [0, 1] as 8 bits a channel, clamped and rounded, in the format of the suffix.

    Raises:
        ImageError: see `write_picture`.
    """
    write_picture(path, Picture(quantize(image[0], 8).transpose(1, 2, 0)))


def _plain(image: Image.Image, icc: bytes | None, path: Path) -> tuple[Image.Image, bytes | None]:
    """The image in mode L, LA, RGB or RGBA, and its colour profile if that still applies."""
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image, icc
    if mode == "1":
        return image.convert("L"), icc
    if mode == "CMYK" and icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            logger.warning(
                "%s: its colour profile is not for CMYK (%s); converted without it", path, in_one_line(error)
            )
            converted = None
        if converted is not None:
            return converted, None
    if image.has_transparency_data:
        grey = mode in ("L", "LA", "La")
        return image.convert("LA" if grey else "RGBA"), icc
    if mode in ("I", "F"):
        raise ImageError(f"{path}: pixels of mode {mode} (32 bits); expected 8 or 16 bits: convert it first")
    return image.convert("RGB"), icc if mode != "CMYK" else None
