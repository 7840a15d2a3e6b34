"""The training photos of the packaged sample: Debian wallpaper packages -> paired tiles for neosr.

    python -m benchmarks.prepare_photos photos

downloads the packages below with apt-get (on Debian or Ubuntu), unpacks them without installing, and writes
`<folder>/gt/*.png` (256x256) and `<folder>/lq/*.png` (128x128, antialiased bicubic of the GT). No photo is committed;
authors and licences are in aether_deploy/samples/README.md.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import numpy as np
from PIL import Image

# Package -> the photographs to use; its drawings and gradients teach a photo network nothing.
PHOTOS = {
    "lomiri-wallpapers-16.04": (
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "Bridge_by_Sander_Klootwijk.jpg",
        "Dragonfly_by_Bolly.jpg",
        "free_by_Peter_Nerlich.jpg",
        "friends_by_Aitzol_Berasategi.jpg",
        "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "Picture_0B_by_freespace.jpg",
        "Picture_1A_by_freespace.jpg",
        "seeding_by_Clements_Engelhardt.jpg",
        "sunset_by_Aitzol_Berasategi.jpg",
        "Wine_by_Jakkub_Mede.jpg",
    ),
    "lomiri-wallpapers-20.04": ("Kleiber_by_Lukas_Baubkus.jpg",),
    "mate-backgrounds": (
        "Blinds.jpg",
        "Dune.jpg",
        "Garden.jpg",
        "GreenMeadow.jpg",
        "LadyBird.jpg",
        "RainDrops.jpg",
        "Storm.jpg",
        "YellowFlower.jpg",
    ),
}
TILE = 256
SCALE = 2
# Full-size camera JPEGs are soft and show 8x8 blocks; with the long side shrunk to this they are sharp and clean.
LONG_SIDE = 1600
# Mean absolute difference of neighbouring pixels, in 8-bit levels; below this a tile is sky or blur.
MIN_DETAIL = 1.5


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--downloaded", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of .deb files."
)
def command(folder: Path, downloaded: Path | None) -> None:
    """Write paired training tiles below FOLDER."""
    packages = download(folder) if downloaded is None else downloaded
    for side in ("gt", "lq"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    total = 0
    for package, names in PHOTOS.items():
        unpacked = unpack(packages, package, folder / "unpacked" / package)
        for name in names:
            (path,) = unpacked.rglob(name)
            written = write_tiles(path, folder)
            click.echo(f"{written:4d} tiles  {package}  {name}")
            total += written
    click.echo(f"{total} tiles in {folder}")


def download(folder: Path) -> Path:
    """Downloads the packages' .deb files with apt-get, without installing them; returns their folder."""
    target = folder / "packages"
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *PHOTOS], cwd=target, check=True)
    return target


def unpack(packages: Path, package: str, target: Path) -> Path:
    """The folder that `<package>_*.deb` was unpacked into."""
    (archive,) = packages.glob(f"{package}_*.deb")
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return target


def write_tiles(path: Path, folder: Path) -> int:
    """Writes every detailed tile of one photo, as a GT and LQ pair; returns how many."""
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    photo.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    count = 0
    for top in range(0, photo.height - TILE + 1, TILE):
        for left in range(0, photo.width - TILE + 1, TILE):
            gt = photo.crop((left, top, left + TILE, top + TILE))
            if detail(gt) < MIN_DETAIL:
                continue
            name = f"{path.stem}_{top:04d}_{left:04d}.png"
            gt.save(folder / "gt" / name)
            gt.resize((TILE // SCALE, TILE // SCALE), Image.Resampling.BICUBIC).save(folder / "lq" / name)
            count += 1
    return count


def detail(tile: Image.Image) -> float:
    """Mean absolute difference of neighbouring pixels in 8-bit levels."""
    grey = np.asarray(tile.convert("L"), dtype=np.float32)
    return float((np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2)


if __name__ == "__main__":
    command(prog_name="python -m benchmarks.prepare_photos")
