"""A folder to read from, one to write into, and the commands that make something of a tiny network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from aether_deploy.files import is_temporary
from aether_deploy.samples import PHOTOS
from tests.helpers.crashes import CommandServer, Ended
from tests.helpers.networks import calm, save
from tests.helpers.videos import encode

__all__ = ["COMMANDS", "Place", "contents", "left_behind", "places"]


@dataclass(frozen=True)
class Place:
    """Where commands read and write."""

    server: CommandServer
    scratch: Path
    given: Path
    out: Path

    def fresh(self, name: str, **how: Any) -> Ended:
        """Runs a command into an empty folder; see `CommandServer.run`."""
        shutil.rmtree(self.out)
        self.out.mkdir()
        return self.server.run(*COMMANDS[name](self), folder=self.out, **how)


# Name -> the words of the command, in a place.
COMMANDS: dict[str, Callable[[Place], list[object]]] = {
    "fuse": lambda p: ["fuse", p.given / "2x_T.pth", "-o", p.out / "2x_T_fused.pth"],
    "fuse to safetensors": lambda p: ["fuse", p.given / "2x_T.pth", "-o", p.out / "2x_T_fused.safetensors"],
    "export": lambda p: ["export", p.given / "2x_T.pth", "-o", p.out],
    "export in half": lambda p: ["export", p.given / "2x_T.pth", "-o", p.out, "--precision", "fp16"],
    "engine": lambda p: [
        *("export", p.given / "2x_T.pth", "-o", p.out, "--format", "tensorrt-rtx", "--precision", "fp16"),
        *("--min-shape", "1x3x32x32", "--opt-shape", "1x3x48x64", "--max-shape", "1x3x64x96"),
    ],
    "report": lambda p: [
        *("report", p.given / "2x_T.onnx", p.given / "2x_T.pth", "-o", p.out / "page.html"),
        *("--device", "cpu", "--overwrite"),
    ],
    "release": lambda p: [
        *("release", p.given / "2x_T.pth", "-o", p.out / "release", "--images", p.given / "pictures"),
        *("--author", "A", "--license", "MIT", "--precision", "fp32"),
    ],
    "run": lambda p: ["run", p.given / "recipe.toml"],
    "folder": lambda p: ["upscale", p.given / "2x_T.pth", p.given / "pictures", "-o", p.out],
    "video": lambda p: ["upscale", p.given / "2x_T.pth", p.given / "v.mkv", "-o", p.out / "v.mkv"],
}


@contextmanager
def places(folder: Path) -> Iterator[Place]:
    """A place with two checkpoints, an ONNX file, three pictures and a video in it."""
    for name in ("scratch", "given", "out"):
        (folder / name).mkdir()
    given = folder / "given"
    small: dict[str, Any] = {"scale": 2, "embed_dim": 4, "depths": (1,), "lk_kernel": 3, "sk_kernel": 3}
    save(calm(**small), given / "2x_T.pth")
    save(calm(**{**small, "embed_dim": 6}), given / "2x_Other.pth")
    (given / "pictures").mkdir()
    for photo in sorted(PHOTOS.glob("*.png"))[:3]:
        with Image.open(photo) as image:
            image.crop((0, 0, 40, 30)).save(given / "pictures" / photo.name)
    encode(given / "v.mkv", frames=5)
    (given / "recipe.toml").write_text(
        f"checkpoint = '{given}/2x_T.pth'\noutput = '{folder}/out'\nimages = '{given}/pictures'\n"
        "[[export]]\n[report]\n[release]\nauthor = ['A']\nlicense = 'MIT'\n"
    )
    with CommandServer(folder / "scratch") as server:
        made = server.run("export", given / "2x_T.pth", "-o", given, folder=given)
        assert made.code == 0, made.err
        next(given.glob("*.onnx")).rename(given / "2x_T.onnx")
        next(given.glob("*.onnx.json")).rename(given / "2x_T.onnx.json")
        yield Place(server, folder / "scratch", given, folder / "out")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but manifests, which hold the time, and lists of their hashes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json" and path.name != "SHA256SUMS"
    }


def left_behind(place: Place) -> list[Path]:
    """What no command may leave, whether it was ended or ended by itself."""
    found = [path for folder in (place.out, place.scratch) for path in folder.rglob("*")]
    return [path for path in found if is_temporary(path) or path.name.startswith("aether-") or ".parts" in str(path)]
