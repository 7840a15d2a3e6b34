"""What several workers cost and give: a folder of photos, and thousands of tiny pictures.

    python -m benchmarks.workers

One thread for each worker, so that two workers have two cores and one has one; the plain path, in one process with one
thread, is run between them. Paired and interleaved; medians. Writes benchmarks/results/workers.json.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import click
from PIL import Image

from aether_deploy.artifacts.opening import files_of, known_file, open_known, open_upscaler
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.pictures.batch_run import plan_folder, upscale_folder
from aether_deploy.pictures.ray_pool import Network, RayPool, Workers
from aether_deploy.pictures.ray_worker import Worker
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.samples import PHOTOS, SAMPLE
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3)
@click.option("--tiny", type=click.IntRange(1), default=5000, help="How many tiny pictures.")
def main(rounds: int, tiny: int) -> None:
    """Measures, and prints a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (made,) = export_model(SAMPLE, output=place)
        file = known_file(made.path)
        network = Network(files_of(file), Worker, open_upscaler, "cpu")
        photos, small = make_pictures(place / "photos", 12, 256), make_pictures(place / "tiny", tiny, 16)
        seconds: dict[str, list[float]] = {"plain": [], "1 worker": [], "2 workers": []}
        for _ in range(rounds):
            with open_known(file, device="cpu", threads=1) as runner:
                seconds["plain"].append(timed(Upscaler(runner), photos, place))
            for count in (1, 2):
                with RayPool(Workers("", count, threads=1), network) as pool:
                    name = f"{count} worker{'s' * (count > 1)}"
                    seconds[name].append(timed(pool, photos, place))
        with open_known(file, device="cpu", threads=1) as runner:
            many = {"plain": timed(Upscaler(runner), small, place)}
        with RayPool(Workers("", 2, threads=1), network) as pool:
            many["2 workers"] = timed(pool, small, place)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    found = {"machine": describe_machine(), "rounds": rounds, "photos_s": seconds, "tiny": tiny, "tiny_s": many}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "workers.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("| | 12 photos of 256x256, s | times | tiny pictures, s | pictures/s |\n|---|---|---|---|---|")
    for name, value in medians.items():
        rate = f"{many[name]:.1f} | {tiny / many[name]:.0f}" if name in many else "|"
        print(f"| {name} | {value:.2f} | {medians['plain'] / value:.2f} | {rate} |")


def make_pictures(folder: Path, count: int, side: int) -> Path:
    """A folder of crops of a photo."""
    folder.mkdir()
    with Image.open(PHOTOS / "astronaut.png") as photo:
        picture = photo.convert("RGB").resize((side, side))
    for index in range(count):
        picture.save(folder / f"{index:05}.png")
    return folder


def timed(upscaler: Upscaler | RayPool, pictures: Path, place: Path) -> float:
    """Seconds for a folder; opening the network and starting Ray are not in it."""
    with tempfile.TemporaryDirectory(dir=place) as output:
        began = time.perf_counter()
        result = upscale_folder(upscaler, plan_folder(pictures, Path(output)), Path(output), model="benchmark")
        assert not result.failures
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
