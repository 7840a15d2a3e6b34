"""EXIF and dots per inch: the metadata that still holds for an upright, enlarged picture.

Left out are the orientation, which is applied; the thumbnail, the size in pixels and a TIFF's own structure, which
belong to the source; and the maker's note, whose offsets break when it is moved.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from aether_deploy.text import in_one_line

__all__ = ["Dpi", "dpi_of", "exif_of", "exif_of_tiff", "texts_of", "without_folders"]

logger = logging.getLogger(__name__)

Dpi = tuple[float, float]

_BASE, _FOLDERS = ExifTags.Base, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_TEXTS = (
    _BASE.ImageDescription,
    _BASE.Make,
    _BASE.Model,
    _BASE.Software,
    _BASE.DateTime,
    _BASE.Artist,
    _BASE.HostComputer,
    _BASE.Copyright,
)
_KEPT = (*_TEXTS, _BASE.XResolution, _BASE.YResolution, _BASE.ResolutionUnit, _BASE.Rating, _BASE.RatingPercent)
# The values of ResolutionUnit: none, inch, centimetre. libtiff writes no other.
_UNITS = (1, 2, 3)
_STALE = (_BASE.MakerNote, _BASE.ExifImageWidth, _BASE.ExifImageHeight, ExifTags.IFD.Interop)

# What Pillow raises for an inconsistent block.
_DAMAGED = (ValueError, TypeError, AttributeError, LookupError, SyntaxError, struct.error, ArithmeticError, OSError)


def exif_of(image: Image.Image, what: object) -> tuple[int, bytes | None]:
    """(orientation, 1 to 8; the EXIF block that is carried over); (1, None) where there is none.

    A damaged block is dropped with a warning that names `what`: it is no reason to reject the picture.
    """
    return _guarded(image.getexif, what)


def exif_of_tiff(path: Path) -> tuple[int, bytes | None]:
    """`exif_of` for a TIFF whose pixels Pillow may be unable to read."""
    exif = Image.Exif()
    with path.open("rb") as file:

        def load() -> Image.Exif:
            exif.load_from_fp(file)
            return exif

        return _guarded(load, path)


def _guarded(load: Callable[[], Image.Exif], what: object) -> tuple[int, bytes | None]:
    try:
        exif = load()
        return exif.get(ExifTags.Base.Orientation, 1), _carried(exif)
    except _DAMAGED as error:
        logger.warning("%s: its EXIF data is damaged (%s) and left out", what, in_one_line(error))
        return 1, None


def _carried(exif: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    kept.update({tag: exif[tag] for tag in _KEPT if tag in exif})
    if kept.get(_BASE.ResolutionUnit, 2) not in _UNITS:
        del kept[_BASE.ResolutionUnit]
    for folder in _FOLDERS:
        values = {tag: value for tag, value in exif.get_ifd(folder).items() if tag not in _STALE}
        if values:
            kept.get_ifd(folder).update(values)
    return kept.tobytes() if len(kept) or any(map(kept.get_ifd, _FOLDERS)) else None


def without_folders(exif: bytes) -> Image.Exif:
    """The first level of an EXIF block, all that a compressed TIFF gets: libtiff writes no EXIF sub-folders."""
    loaded = _loaded(exif)
    kept = Image.Exif()
    kept.update({tag: loaded[tag] for tag in _KEPT if tag in loaded})
    return kept


def texts_of(exif: bytes) -> list[tuple[int, str]]:
    """(tag, text) pairs from the first level of an EXIF block: camera, author, copyright, description."""
    loaded = _loaded(exif)
    return [(int(tag), str(loaded[tag])) for tag in _TEXTS if tag in loaded]


def dpi_of(info: dict[str | tuple[int, int], Any]) -> Dpi | None:
    """Dots per inch, across and down, from `Image.info`; None where it holds none that is plausible (1 to 100 000)."""
    try:
        across, down = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    # Pillow gives 1 for a TIFF without a resolution.
    return (across, down) if min(across, down) > 1 and max(across, down) < 1e5 else None


def _loaded(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif
