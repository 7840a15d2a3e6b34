"""What `upscale` needs: memory and time for one 3840x2160 picture, and how busy a folder keeps the network.

    python -m benchmarks.upscaling

Runs the command itself, in a process of its own, on the packaged sample and the packaged photos, mirrored to size.
Prints a Markdown table and writes benchmarks/results/upscaling.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from aether_deploy.pictures.images import write_image
from aether_deploy.samples import SAMPLE
from aether_deploy.timing.side_by_side import photo_input
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"
# Sizes of the pictures in the folder, (height, width).
SIZES = ((300, 451), (512, 512), (400, 600), (427, 640), (480, 640))


def main() -> None:
    """Measures the large picture and the folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _command("export", SAMPLE, "-o", folder, "--name", "sample")
        model = next(folder.glob("*.onnx"))
        write_image(folder / "4k.png", photo_input((1, 3, 2160, 3840)))
        (folder / "photos").mkdir()
        for number, size in enumerate(SIZES):
            write_image(folder / "photos" / f"{number}.png", photo_input((1, 3, *size)))
        large = _command("upscale", model, folder / "4k.png", "-o", folder / "8k.png")
        many = _command("upscale", model, folder / "photos", "-o", folder / "results")
    rows = [
        ("3840x2160 through the sample, peak memory", f"{large['peak_rss'] / 2**30:.2f} GiB"),
        ("the same, reading and writing included", f"{large['seconds']:.0f} s"),
        (f"share of the time in which the network is busy, {len(SIZES)} photos", f"{many['network_busy']:.1%}"),
    ]
    RESULTS.mkdir(exist_ok=True)
    results = {"machine": describe_machine(), "large": large, "folder": many}
    (RESULTS / "upscaling.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("\n".join(["| | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]))


def _command(*words: Any) -> dict[str, Any]:
    """Runs a command: the figures of its JSON, with its seconds and its peak_rss in bytes."""
    began = time.perf_counter()
    command = [sys.executable, "-m", f"aether_deploy.{words[0]}", *map(str, words[1:]), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        try:
            while process.poll() is None:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
                time.sleep(0.01)
        except psutil.NoSuchProcess:
            pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    found = json.loads(out)
    kept = {key: found[key] for key in ("network_busy", "runner") if key in found}
    return {**kept, "seconds": time.perf_counter() - began, "peak_rss": peak}


if __name__ == "__main__":
    main()
