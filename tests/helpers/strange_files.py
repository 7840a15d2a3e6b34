"""Strategies for what strangers send: pictures and videos, mutated, cut, spliced, and with headers that lie."""

from __future__ import annotations

import functools
import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image, ImageCms

from aether_deploy.pictures.images import Picture, write_picture
from tests.helpers.videos import encode

__all__ = ["PICTURE_SUFFIXES", "pictures", "videos"]

PICTURE_SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp")
_VIDEOS = (
    (".mp4", "libx264"),
    (".mkv", "libx264"),
    (".webm", "libvpx-vp9"),
    (".avi", "mpeg4"),
    (".ts", "mpeg2video"),
    (".flv", "flv1"),
    (".mkv", "ffv1"),
    (".y4m", "wrapped_avframe"),
)
# Values at which sizes, counts and offsets break.
_ENDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 13_000, 100_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@functools.cache
def _seeds() -> tuple[tuple[str, bytes], ...]:
    """(suffix, content) of small pictures of every kind that is read."""
    rng = np.random.default_rng(0)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "maker", 0x0132: "2020:01:01 00:00:00", 0x011A: 72.0})
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2020:01:01 00:00:00"})
    found: list[tuple[str, bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        for channels in (1, 2, 3, 4):
            for kind in (np.uint8, np.uint16):
                pixels = rng.integers(0, np.iinfo(kind).max, (11, 14, channels), dtype=kind)
                for suffix in PICTURE_SUFFIXES:
                    if (channels in (2, 4) and suffix in (".jpg", ".bmp")) or (
                        kind is np.uint16 and suffix not in (".png", ".tif")
                    ):
                        continue
                    path = Path(folder) / f"x{suffix}"
                    write_picture(path, Picture(pixels, icc if channels == 3 else None, exif.tobytes(), (72.0, 72.0)))
                    found.append((suffix, path.read_bytes()))
    image = Image.fromarray(rng.integers(0, 255, (16, 20, 3), dtype=np.uint8))
    for other, suffix, options in (
        (image.quantize(8), ".png", {"transparency": 3}),
        (image.quantize(8), ".bmp", {}),
        (image.quantize(8), ".tif", {"compression": "packbits"}),
        (image.convert("1"), ".png", {}),
        (image.convert("1"), ".tif", {"compression": "group4"}),
        (image.convert("CMYK"), ".jpg", {"icc_profile": icc}),
        (image.convert("CMYK"), ".tif", {}),
        (image, ".jpg", {"progressive": True, "exif": exif}),
        (image, ".webp", {"quality": 50, "exif": exif}),
        (image, ".tif", {"compression": "tiff_lzw"}),
        (image, ".tif", {"compression": "jpeg"}),
    ):
        memory = io.BytesIO()
        other.save(memory, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
        found.append((suffix, memory.getvalue()))
    deep = rng.integers(0, 65535, (32, 48, 3), dtype=np.uint16)
    for layout in (
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"compression": "lzw"},
        {"byteorder": ">"},
        {"bigtiff": True},
    ):
        memory = io.BytesIO()
        planes = deep.transpose(2, 0, 1) if "planarconfig" in layout else deep
        tifffile.imwrite(memory, planes, photometric="rgb", **layout)
        found.append((".tif", memory.getvalue()))
    return tuple(found)


@functools.cache
def _films() -> tuple[tuple[str, bytes], ...]:
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            (suffix, encode(Path(folder) / f"{encoder}{suffix}", encoder).read_bytes()) for suffix, encoder in _VIDEOS
        )


@st.composite
def _damaged(draw: st.DrawFn, seeds: tuple[tuple[str, bytes], ...]) -> tuple[str, bytes]:
    suffix, content = draw(st.sampled_from(seeds))
    damaged = bytearray(content)
    for kind in draw(
        st.lists(st.sampled_from(["bytes", "head", "field", "block", "splice", "cut"]), min_size=1, max_size=4)
    ):
        if not damaged:
            break
        at = draw(st.integers(0, len(damaged) - 1))
        near = min(at, draw(st.integers(0, 200)))
        if kind == "bytes":
            damaged[at] = draw(st.integers(0, 255))
        elif kind == "head":
            damaged[near] = draw(st.integers(0, 255))
        elif kind == "field":
            form = draw(st.sampled_from(["<I", ">I", "<H", ">H"]))
            size = struct.calcsize(form)
            damaged[near : near + size] = struct.pack(form, draw(st.sampled_from(_ENDS)) % 256**size)
        elif kind == "block":
            damaged[at : at + draw(st.integers(1, 64))] = draw(st.binary(max_size=64))
        elif kind == "splice":
            _, other = draw(st.sampled_from(seeds))
            damaged[at:] = other[draw(st.integers(0, len(other))) :]
        else:
            del damaged[at:]
    return suffix, bytes(damaged)


@st.composite
def _lying(draw: st.DrawFn) -> tuple[str, bytes]:
    """A PNG whose header says anything, with the right checksums; what follows is short."""
    sides = st.sampled_from(_ENDS) | st.integers(1, 64)
    header = struct.pack(
        ">IIBBBBB",
        draw(sides),
        draw(sides),
        draw(st.sampled_from([1, 2, 4, 8, 16, 3])),
        draw(st.sampled_from([0, 2, 3, 4, 6, 5])),
        0,
        0,
        draw(st.integers(0, 1)),
    )
    content = draw(st.binary(max_size=64)) * draw(st.integers(1, 64))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    if draw(st.booleans()):
        name = draw(st.sampled_from([b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"pHYs", b"acTL", b"gAMA", b"zTXt"]))
        chunks.insert(1, (name, draw(st.binary(max_size=40))))
    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return ".png", b"\x89PNG\r\n\x1a\n" + body


@st.composite
def _lying_tiff(draw: st.DrawFn) -> tuple[str, bytes]:
    """A TIFF of which one field, type or count says anything."""
    suffix, content = draw(st.sampled_from([seed for seed in _seeds() if seed[1][:4] == b"II*\0"]))
    damaged = bytearray(content)
    (start,) = struct.unpack_from("<I", damaged, 4)
    (count,) = struct.unpack_from("<H", damaged, start)
    for _ in range(draw(st.integers(1, 3))):
        entry = start + 2 + 12 * draw(st.integers(0, count - 1))
        field = draw(st.sampled_from(["tag", "type", "count", "value"]))
        ends = draw(st.sampled_from(_ENDS) | st.integers(0, 400))
        if field in ("tag", "type"):
            struct.pack_into("<H", damaged, entry + (field == "type") * 2, ends % 65536)
        else:
            struct.pack_into("<I", damaged, entry + (4 if field == "count" else 8), ends)
    return suffix, bytes(damaged)


def pictures() -> st.SearchStrategy[tuple[str, bytes]]:
    """(suffix, content) of pictures, few of them whole."""
    return _damaged(_seeds()) | _damaged(_seeds()) | _lying() | _lying_tiff()


def videos() -> st.SearchStrategy[tuple[str, bytes]]:
    """(suffix, content) of videos of 10 frames of 32x24, few of them whole."""
    return _damaged(_films())
