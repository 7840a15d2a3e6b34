"""Photos before and after: what goes into the network, the same without it, and what comes out."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aether_deploy.errors import ImageError
from aether_deploy.pictures.images import list_images, read_image, write_image
from aether_deploy.pictures.sizes import bicubic, centre
from aether_deploy.runners.protocol import Runner
from aether_deploy.samples import PHOTOS

__all__ = ["FOLDER", "BeforeAfter", "write_pictures"]

logger = logging.getLogger(__name__)

FOLDER = "images"
# The largest crop shown, (height, width) of the low resolution: 1024 pixels at x4 fill a page.
SHOWN = (256, 256)
# More of them make a page slow, and an author's folder can have thousands.
_MOST = 6


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """One photo; files are relative to the release.

    Attributes:
        name: of the photo, made safe for a file's name.
        lr: what the network was given.
        before: that in the size of the result, bicubic.
        after: the network's result.
    """

    name: str
    lr: str
    before: str
    after: str


def write_pictures(runner: Runner, folder: Path, photos: str | os.PathLike[str] | None = None) -> list[BeforeAfter]:
    """Runs the centre of each photo and writes PNG files in 8 bits into `folder/images`.

    Args:
        runner: of the model.
        folder: of the release.
        photos: a folder of low-resolution photos, of which the first six are taken; by default the packaged ones.
    Returns:
        one for each photo; none if the network does not take three channels or any size.
    Raises:
        ImageError: a photo cannot be read.
    """
    if runner.in_chans != 3 or runner.static is not None:
        return []
    source = PHOTOS if photos is None else Path(photos)
    (folder / FOLDER).mkdir(exist_ok=True)
    written: dict[str, BeforeAfter] = {}
    for path in list_images(source)[:_MOST]:
        logger.info("picture %s", path.name)
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "photo"
        name = next(n for n in (stem, *(f"{stem}-{k}" for k in range(2, _MOST + 2))) if n not in written)
        lr = centre(read_image(path), *SHOWN)
        after = runner.run(lr)
        if not np.isfinite(after).all():
            raise ImageError(f"{path}: the network's answer has NaN or infinite values; nothing to show")
        before = bicubic(lr, after.shape[3], after.shape[2])
        one = BeforeAfter(name, *(f"{FOLDER}/{name}_{what}.png" for what in ("lr", "before", "after")))
        for file, image in ((one.lr, lr), (one.before, before), (one.after, after)):
            write_image(folder / file, image)
        written[name] = one
    return list(written.values())
