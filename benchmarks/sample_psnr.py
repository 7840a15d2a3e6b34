"""The packaged sample against bicubic, on photos that it never saw: scikit-image's, at full size.

    python -m benchmarks.sample_psnr [MODEL]

Each photo is shrunk by MODEL's scale (2 for the sample) with an antialiased bicubic filter in 8 bits, then enlarged by
MODEL (a checkpoint or an ONNX file) and by bicubic; PSNR and SSIM cover all pixels and channels of the 8-bit results.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from skimage import data

from aether_deploy import cli
from aether_deploy.arrays import Array, Pixels, quantize
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.pictures.quality import psnr, ssim
from aether_deploy.pictures.sizes import bicubic
from aether_deploy.runners.protocol import Runner

SAMPLE = Path(__file__).parents[1] / "aether_deploy" / "samples" / "2x_aether_sample.pth"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


@click.command(cls=cli.Command)
@click.argument("model", default=SAMPLE, type=click.Path(path_type=Path))
def command(model: Path) -> None:
    """Print the Markdown table in aether_deploy/samples/README.md."""
    runner = open_runner(model)
    click.echo("| photo | bicubic dB | MODEL dB | gain dB | bicubic SSIM | MODEL SSIM |".replace("MODEL", model.stem))
    click.echo("|---|---|---|---|---|---|")
    rows = []
    for name in PHOTOS:
        pixels = enlarged(runner, name)
        rows.append([measure(pixels[0], pixels[side]) for side in (1, 2) for measure in (psnr, ssim)])
        click.echo(row(name, rows[-1]))
    click.echo(row("mean", list(np.mean(rows, axis=0))))


def enlarged(runner: Runner, name: str) -> list[Pixels]:
    """One of `PHOTOS`, shrunk and enlarged again: the photo itself, by bicubic, and by the network."""
    truth = load(name, runner.scale)
    height, width = truth.shape[2:]
    lr = bicubic(truth, width // runner.scale, height // runner.scale).astype(np.float32)
    return [to_pixels(image) for image in (truth, bicubic(lr, width, height), runner.run(lr))]


def gains(runner: Runner) -> dict[str, float]:
    """Photo -> decibels of PSNR above bicubic."""
    found = {}
    for name in PHOTOS:
        truth, plain, ours = enlarged(runner, name)
        found[name] = psnr(truth, ours) - psnr(truth, plain)
    return found


def load(name: str, scale: int) -> Array:
    """One of scikit-image's photos, (1, 3, H, W) in [0, 1], cropped to a multiple of `scale`."""
    pixels = getattr(data, name)()
    height, width = (size // scale * scale for size in pixels.shape[:2])
    image = pixels[:height, :width].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(image)


def to_pixels(image: Array) -> Pixels:
    """(1, 3, H, W) floats -> (H, W, 3) uint8, as a viewer shows them."""
    return quantize(image[0]).transpose(1, 2, 0)


def row(name: str, values: list[float]) -> str:
    """A line of the table; `values` are bicubic's PSNR and SSIM, then the model's."""
    gain = values[2] - values[0]
    return f"| {name} | {values[0]:.2f} | {values[2]:.2f} | {gain:+.2f} | {values[1]:.4f} | {values[3]:.4f} |"


if __name__ == "__main__":
    command(prog_name="python -m benchmarks.sample_psnr")
