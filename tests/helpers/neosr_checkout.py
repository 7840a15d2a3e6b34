"""A small neosr checkout around the installed package, with scripts of a test's own making."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from aether_deploy.neosr_run.installation import find_archs

# What a checkout's test.py does with one process, in a few lines.
TEST_SCRIPT = """
from pathlib import Path
import torch
from neosr.data import build_dataloader, build_dataset
from neosr.models import build_model
from neosr.utils import make_exp_dirs
from neosr.utils.options import parse_options

torch.set_default_device("cuda")
options, _ = parse_options(str(Path(__file__).parent), is_train=False)
make_exp_dirs(options)
model = build_model(options)
for name, data in options["datasets"].items():
    loader = build_dataloader(build_dataset(data), data, num_gpu=0, dist=False, sampler=None, seed=0)
    model.validation(loader, current_iter=0, tb_logger=None, save_img=True)
"""


def make_checkout(folder: Path, *, test: str = TEST_SCRIPT, train: str = "", **archs: str) -> Path:
    """A folder with test.py, train.py and a neosr; `archs` are further files, `<name>.py` in its archs."""
    installed = find_archs().parent
    package = folder / "neosr"
    package.mkdir(parents=True)
    for entry in installed.iterdir():
        if entry.name == "archs":
            # A real copy: neosr resolves links when it scans the folder.
            shutil.copytree(entry, package / "archs", ignore=shutil.ignore_patterns("__pycache__"))
        elif entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    for name, text in archs.items():
        (package / "archs" / f"{name}.py").write_text(text)
    (folder / "test.py").write_text(test)
    (folder / "train.py").write_text(train)
    (folder / "pyproject.toml").write_text('[project]\nname = "neosr"\nversion = "9.9.9"\n')
    return folder


def make_photos(folder: Path, *sizes: tuple[int, int], scale: int = 1) -> Path:
    """Noise pictures `photo_<n>.png` of (width, height) times `scale`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photo_{number}.png")
    return folder
