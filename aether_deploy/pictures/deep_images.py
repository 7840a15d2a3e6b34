"""PNG and TIFF with 16 bits a channel, which Pillow reduces to 8 where there is colour."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from aether_deploy.arrays import Pixels
from aether_deploy.errors import ImageError
from aether_deploy.pictures.metadata import Dpi, dpi_of, exif_of, exif_of_tiff, texts_of

__all__ = ["check_claim", "check_size", "read_deep", "upright", "write_deep"]

# tifffile logs what it stumbles over; without a handler Python prints that on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE, _PNG_BIT_DEPTH = 16, 24
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ICC_PROFILE = 34675
# Nothing, LZW, Deflate twice, PackBits; Zstandard and LZMA have no such bound.
_BOUNDED = (1, 5, 8, 32773, 32946)
# Bytes of pixels that a byte of a file holds at most: 1,490 by LZW, 1,032 by Deflate, 1,023 in a JPEG of one
# colour. Where the file has less, libjpeg fills the rest with grey and tifffile with black.
_LARGEST_RATIO = 1500


def read_deep(path: Path) -> tuple[Pixels, bytes | None, bytes | None, Dpi | None] | None:
    """A `Picture`'s pixels, (H, W, C) uint16, profile, EXIF and dpi; None unless the file has 16 bits a channel.

    Raises:
        ImageError: too many pixels, several pictures in it, or channels other than grey, RGB and alpha.
        Exception: whatever the decoders raise for a damaged file.
    """
    with path.open("rb") as file:
        head = file.read(_PNG_BIT_DEPTH + 1)
    if head.startswith(_PNG) and head[_PNG_BIT_DEPTH:] == b"\x10":
        check_size(path, *struct.unpack_from(">II", head, _PNG_SIZE))
        pixels, orientation, icc, exif, dpi = _read_png(path)
    elif head.startswith(_TIFF):
        found = _read_tiff(path)
        if found is None:
            return None
        pixels, orientation, icc, exif, dpi = found
    else:
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels.dtype != np.uint16 or not 1 <= pixels.shape[2] <= 4:
        raise ImageError(f"{path}: {pixels.shape[2]} channels of {pixels.dtype}; expected 1 to 4 of 16 bits")
    return upright(pixels, orientation), icc, exif, dpi


def check_size(path: Path, width: int, height: int) -> None:
    """Raises ImageError for more pixels than Pillow reads, given what a header says, before anything is allocated."""
    most = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else None
    if most and width * height > most:
        raise ImageError(f"{path}: {width}x{height} pixels; expected at most {most}: cut it into pieces first")


def check_claim(path: Path, width: int, height: int, depth: int) -> None:
    """Raises ImageError for more pixels, of `depth` bytes, than a file of this size can hold."""
    size = path.stat().st_size
    if width * height * depth > _LARGEST_RATIO * size:
        raise ImageError(
            f"{path}: its header claims {width}x{height} pixels, the file has {size} bytes; check the file"
        )


def write_deep(
    path: Path, pixels: Pixels, icc: bytes | None, exif: bytes | None = None, dpi: Dpi | None = None
) -> None:
    """Writes (H, W, C) uint16 losslessly: PNG for `.png`, else TIFF, which keeps only the text fields of EXIF."""
    channels = pixels.shape[2]
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    if path.suffix.lower() == ".png":
        from imagecodecs import png_encode

        path.write_bytes(_with_chunks(bytes(png_encode(pixels, level=1)), icc, exif, dpi))
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
        resolution=dpi,
        resolutionunit="INCH" if dpi else None,
        extratags=[(tag, "s", 0, text, True) for tag, text in texts_of(exif)] if exif else None,
        software=False,
        metadata=None,
    )


def _read_png(path: Path) -> tuple[Pixels, int, bytes | None, bytes | None, Dpi | None]:
    from imagecodecs import png_decode

    pixels: Pixels = png_decode(path.read_bytes())
    # Only the header is read here: Pillow decodes pixels on demand.
    with Image.open(path, formats=("PNG",)) as image:
        orientation, exif = exif_of(image, path)
        return pixels, orientation, image.info.get("icc_profile"), exif, dpi_of(image.info)


def _read_tiff(path: Path) -> tuple[Pixels, int, bytes | None, bytes | None, Dpi | None] | None:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.dtype != np.uint16:
            return None
        if len(file.pages) > 1:
            raise ImageError(f"{path}: {len(file.pages)} pictures in one file; split it first")
        if page.photometric not in (0, 1, 2):
            raise ImageError(f"{path}: a TIFF of kind {page.photometric!r}; expected grey or RGB")
        check_size(path, page.imagewidth, page.imagelength * page.imagedepth)
        check_size(path, page.tilewidth, page.tilelength)
        if page.compression in _BOUNDED:
            check_claim(path, page.imagewidth, page.imagelength * page.imagedepth, 2 * page.samplesperpixel)
        if len(page.dataoffsets) < math.prod(page.chunked):
            raise ImageError(f"{path}: {len(page.dataoffsets)} of {math.prod(page.chunked)} strips; check the file")
        pixels = page.asarray()
        icc = page.tags.valueof(_ICC_PROFILE)
        # Separate planes come as (C, H, W); photometric 0 means that 0 is white.
        if pixels.ndim == 3 and page.planarconfig == 2:
            pixels = pixels.transpose(1, 2, 0)
        pixels = np.invert(pixels) if page.photometric == 0 else pixels
        # A resolution without a unit is an aspect ratio.
        dpi = page.get_resolution("INCH") if page.resolutionunit > 1 else None
        orientation, exif = exif_of_tiff(path)
        return pixels, orientation, icc, exif, dpi_of({"dpi": dpi})


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turns (H, W, C) pixels upright, given their EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _with_chunks(png: bytes, icc: bytes | None, exif: bytes | None, dpi: Dpi | None) -> bytes:
    """Inserts chunks after a PNG's header, where the format wants them."""
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if dpi:
        # Pixels per metre: unit 1.
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    end_of_header = 8 + 12 + 13
    return png[:end_of_header] + chunks + png[end_of_header:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
