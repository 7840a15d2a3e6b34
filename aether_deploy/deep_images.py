"""PNG and TIFF with 16 bits a channel, which Pillow reads as 8 where there is colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aether_deploy.errors import ImageError

__all__ = ["Pixels", "read_deep", "write_deep"]

# uint8 or uint16.
Pixels = NDArray[np.unsignedinteger[Any]]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH = 24
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION, _ICC_PROFILE = 274, 34675


def read_deep(path: Path) -> tuple[Pixels, bytes | None] | None:
    """(H, W, C) uint16, upright, and the colour profile; None where a file has not 16 bits a channel.

    Raises:
        OSError: the file cannot be read.
        ImageError: a damaged file, or one with other channels than grey, RGB and alpha.
    """
    with path.open("rb") as file:
        head = file.read(_PNG_BIT_DEPTH + 1)
    if head.startswith(_PNG) and head[_PNG_BIT_DEPTH:] == b"\x10":
        pixels, orientation, icc = _read_png(path)
    elif head.startswith(_TIFF):
        found = _read_tiff(path)
        if found is None:
            return None
        pixels, orientation, icc = found
    else:
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels.dtype != np.uint16 or not 1 <= pixels.shape[2] <= 4:
        raise ImageError(f"{path}: {pixels.shape[2]} channels of {pixels.dtype}; expected 1 to 4 of 16 bits")
    return _upright(pixels, orientation), icc


def write_deep(path: Path, pixels: Pixels, icc: bytes | None) -> None:
    """Writes (H, W, C) uint16 as PNG, or as TIFF by its suffix, both compressed without loss."""
    channels = pixels.shape[2]
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    if path.suffix.lower() == ".png":
        from imagecodecs import png_encode

        path.write_bytes(_with_profile(bytes(png_encode(pixels, level=1)), icc))
        return
    import tifffile

    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb" if channels > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        planarconfig="contig" if channels > 1 else None,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
    )


def _read_png(path: Path) -> tuple[Pixels, int, bytes | None]:
    from imagecodecs import PngError, png_decode
    from PIL import Image

    try:
        pixels: Pixels = png_decode(path.read_bytes())
    except PngError as error:
        raise ImageError(f"{path}: cannot be read as a picture ({error}); check the file") from error
    # Only the header is read here: Pillow decodes when pixels are asked for.
    with Image.open(path) as image:
        return pixels, image.getexif().get(_ORIENTATION, 1), image.info.get("icc_profile")


def _read_tiff(path: Path) -> tuple[Pixels, int, bytes | None] | None:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.dtype != np.uint16:
                return None
            if len(file.pages) > 1:
                raise ImageError(f"{path}: {len(file.pages)} pictures in one file; split it first")
            if page.photometric not in (0, 1, 2):
                raise ImageError(f"{path}: a TIFF of kind {page.photometric!r}; expected grey or RGB")
            pixels = page.asarray()
            tags = page.tags
            orientation, icc = tags.valueof(_ORIENTATION, default=1), tags.valueof(_ICC_PROFILE)
            # Separate planes come as (C, H, W); white is 0 where photometric says so.
            if pixels.ndim == 3 and page.planarconfig == 2:
                pixels = pixels.transpose(1, 2, 0)
            inverted = page.photometric == 0
            return np.invert(pixels) if inverted else pixels, orientation, icc
    # RuntimeError is what every decoder of imagecodecs raises.
    except (tifffile.TiffFileError, RuntimeError, ValueError, IndexError) as error:
        raise ImageError(f"{path}: cannot be read as a TIFF ({error}); check the file") from error


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation, 1 to 8, to (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _with_profile(png: bytes, icc: bytes | None) -> bytes:
    """Puts an iCCP chunk behind a PNG's header, where the format wants it."""
    if not icc:
        return png
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(icc)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end_of_header = 8 + 12 + 13
    return png[:end_of_header] + chunk + png[end_of_header:]
