"""Everything that README lists as never executed, on the GPU of this machine, in one command.

    python -m benchmarks.gpu                                     # small, at most 8 minutes on one GPU
    python -m benchmarks.gpu --device cpu --network sample --small-sizes    # the same parts, to try the command

Each part runs in a process of its own and is skipped with its reason where it cannot run. Prints a Markdown table and
writes benchmarks/results/gpu_<network>.json after each part (nothing with --device cpu). Without a GPU it says what it
would do, and ends with 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image

from aether_deploy.arrays import Array
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.cli import without_tf32
from aether_deploy.engines.gpus import read_driver
from aether_deploy.engines.plan import EngineOptions
from aether_deploy.engines.process import tensorrt_version
from aether_deploy.errors import AetherDeployError
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant, variants
from aether_deploy.proof.reference import Trained
from aether_deploy.proof.verdict import verify
from aether_deploy.samples import PHOTOS
from benchmarks.machine import describe_machine
from benchmarks.networks import NETWORKS, checkpoint_file

RESULTS = Path(__file__).parent / "results"
# Seconds for all parts.
BUDGET = 480


@dataclass(frozen=True)
class Setting:
    """What the parts work on.

    Attributes:
        checkpoint: the network.
        folder: for files.
        device: `cuda` or `cpu`.
        small: inputs of a few pixels, to try the command itself.
    """

    checkpoint: Path
    folder: Path
    device: str
    small: bool


def figures(report: Any) -> dict[str, Any]:
    """What a table shows of a report."""
    overall = report.overall
    return {"passed": report.passed, "levels": overall.max_abs * 255, "psnr": overall.psnr}


def precisions(setting: Setting) -> dict[str, Any]:
    """Each precision as proved on the CPU and in ONNX Runtime on the device, both against the trained network."""
    without_tf32()
    trained = Trained(load_checkpoint(setting.checkpoint))
    found: dict[str, Any] = {}
    for variant in variants(tuple(PRECISIONS)):
        options = ExportOptions(variants=(variant,), output=setting.folder)
        try:
            (made,) = export_model(trained.checkpoint, options, trained=trained)
            found[f"{variant.precision}, as proved"] = figures(made.report)
            with open_runner(made.path, device=setting.device) as runner:
                there = verify(trained.reference, runner.run, variant.precision, what=runner.name)
            found[runner.name] = figures(there)
        except AetherDeployError as error:
            found[f"{variant.precision}, not run"] = str(error).replace(str(setting.folder), ".")
    return found


def torch_half(setting: Setting) -> dict[str, Any]:
    """The trained network in PyTorch's own half precision, without islands."""
    import torch

    trained = Trained(load_checkpoint(setting.checkpoint))
    network = trained.checkpoint.build().to(setting.device, torch.float16)

    def run(lr: Array) -> Array:
        with torch.no_grad():
            output: Array = network(torch.from_numpy(lr).to(setting.device, torch.float16)).float().cpu().numpy()
        return output

    return {"torch .half()": figures(verify(trained.reference, run, "fp16", what="torch"))}


def _engine(setting: Setting, flavour: str) -> dict[str, Any]:
    asked = EngineOptions(((1, 3, 64, 64),), ((1, 3, 256, 256),), ((1, 3, 720, 1280),))
    wanted = ExportOptions((flavour,), variants(("fp16",)), output=setting.folder, engine=asked)
    (made,) = export_model(load_checkpoint(setting.checkpoint), wanted)
    engine = made.manifest.engine
    assert engine is not None
    return {
        "version": engine.version,
        "executed": engine.executed,
        "build_seconds": engine.build_seconds,
        "latency": engine.latency,
        **({flavour: figures(made.report)} if engine.executed else {}),
    }


def engine_rtx(setting: Setting) -> dict[str, Any]:
    """A TensorRT-RTX engine, at its smallest, usual and largest size and an odd one."""
    return _engine(setting, "tensorrt-rtx")


def engine_tensorrt(setting: Setting) -> dict[str, Any]:
    """A TensorRT engine, likewise."""
    return _engine(setting, "tensorrt")


def _benchmark(setting: Setting, models: list[Path], shapes: list[str], *, peers: bool) -> dict[str, Any]:
    words = [word for shape in shapes for word in ("--shape", shape)]
    command = [sys.executable, "-m", "aether_deploy.benchmark", *map(str, models), *words, "--device", setting.device]
    command += ["--rounds", "2" if setting.small else "5", "--json", *([] if peers else ["--no-peers"])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise AetherDeployError(ran.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def latency_256(setting: Setting) -> dict[str, Any]:
    """PyTorch eager, channels last and compiled, and our files, at 256x256, beside the roofline."""
    return _latency(setting, "1x3x256x256")


def latency_720p(setting: Setting) -> dict[str, Any]:
    """The same at 1280x720."""
    return _latency(setting, "1x3x720x1280")


def latency_1080p(setting: Setting) -> dict[str, Any]:
    """The same at 1920x1080."""
    return _latency(setting, "1x3x1080x1920")


def _latency(setting: Setting, shape: str) -> dict[str, Any]:
    return _benchmark(setting, [setting.checkpoint], ["1x3x16x24" if setting.small else shape], peers=False)


def ffn_forms(setting: Setting) -> dict[str, Any]:
    """The FFN as linear layers and as 1x1 convolutions, both in fp16."""
    checkpoint = load_checkpoint(setting.checkpoint)
    trained = Trained(checkpoint)
    made = [
        export_model(checkpoint, ExportOptions(variants=(variant,), output=setting.folder), trained=trained)[0].path
        for variant in (Variant("fp16"), Variant("fp16", ffn="conv1x1"))
    ]
    return _benchmark(setting, made, ["1x3x16x24" if setting.small else "1x3x720x1280"], peers=False)


def two_workers(setting: Setting) -> dict[str, Any]:
    """A folder with one worker and with two on the same device."""
    count, side = (4, 24) if setting.small else (24, 512)
    pictures = setting.folder / "pictures"
    pictures.mkdir()
    with Image.open(PHOTOS / "astronaut.png") as photo:
        for index in range(count):
            photo.resize((side, side)).save(pictures / f"{index}.png")
    found = {}
    for workers in (1, 2):
        devices = ",".join([setting.device] * workers)
        output = setting.folder / f"out{workers}"
        words = ["upscale", str(setting.checkpoint), str(pictures), "-o", str(output), "--devices", devices]
        began = time.monotonic()
        command = [sys.executable, "-m", "aether_deploy", *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise AetherDeployError(ran.stderr.strip().splitlines()[-1])
        found[f"seconds with {workers}"] = round(time.monotonic() - began, 2)
    return {"pictures": count, "side": side, **found}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    part.__name__: part
    for part in (
        precisions,
        torch_half,
        engine_rtx,
        engine_tensorrt,
        latency_256,
        ffn_forms,
        two_workers,
        latency_720p,
        latency_1080p,
    )
}


def why_not(name: str, device: str) -> str:
    """The reason to skip a part; "" if it can be tried."""
    if not name.startswith("engine"):
        return ""
    if device == "cpu":
        return "an engine needs a GPU"
    try:
        tensorrt_version({"engine_rtx": "tensorrt-rtx", "engine_tensorrt": "tensorrt"}[name])
    except AetherDeployError as error:
        return str(error)
    return ""


@click.command()
@click.option("--network", type=click.Choice(NETWORKS), default="aether_small")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--small-sizes", "small", is_flag=True, help="A few pixels, to try the command itself.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Some parts instead of all.")
@click.option("--inside", hidden=True, is_flag=True, help="Run one part in this process, and print its JSON.")
def main(network: str, device: str, small: bool, only: tuple[str, ...], inside: bool) -> None:
    """Runs every part."""
    names = only or tuple(PARTS)
    if inside:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            setting = Setting(checkpoint_file(network, place), place, device, small)
            print(json.dumps(PARTS[names[0]](setting), default=float))
        return
    driver = read_driver()
    if device == "cuda" and driver.problem:
        print(f"{driver.problem}. On a machine with a GPU this would run:")
        for name in names:
            print(f"- {name}: {PARTS[name].__doc__}")
        return
    parts: dict[str, Any] = {}
    found = {"machine": describe_machine(), "network": network, "device": device, "parts": parts}
    for name, part in run_parts(names, network, device, small=small):
        parts[name] = part
        if device != "cpu":  # now, since a machine with a GPU may be lent, and taken back
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"gpu_{network}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(found))


def run_parts(
    names: tuple[str, ...], network: str, device: str, *, small: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, {seconds, result}) or (name, {skipped}) or (name, {failed}) of each part."""
    began = time.monotonic()
    for name in names:
        reason = why_not(name, device)
        left = BUDGET - (time.monotonic() - began)
        if reason or left < 5:
            yield name, {"skipped": reason or f"{BUDGET} s are over"}
            continue
        print(f"{name} ...", file=sys.stderr)
        words = ["--network", network, "--device", device, "--only", name, "--inside"]
        command = [sys.executable, "-m", "benchmarks.gpu", *words, *(["--small-sizes"] if small else [])]
        start = time.monotonic()
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left)
        except subprocess.TimeoutExpired:
            yield name, {"failed": f"not done after {left:.0f} s"}
            continue
        seconds = round(time.monotonic() - start, 1)
        if ran.returncode == 0:
            yield name, {"seconds": seconds, "result": json.loads(ran.stdout.splitlines()[-1])}
        else:
            yield name, {"seconds": seconds, "failed": (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]}


def as_markdown(found: dict[str, Any]) -> str:
    """A line for each part, and for each contender of those that compare speeds."""
    gpu = found["machine"]["gpu"] or found["machine"]["processor"]
    lines = [f"**{found['network']}** on {gpu}", "", "| part | | |", "|---|---|---|"]
    for name, part in found["parts"].items():
        if "result" not in part:
            what = "skipped" if "skipped" in part else "failed"
            lines.append(f"| {name} | {what} | {part[what]} |")
            continue
        for key, value in part["result"].items():
            if isinstance(value, dict) and "levels" in value:
                verdict = "passed" if value["passed"] else "failed"
                lines.append(f"| {name} | {key} | {verdict}: {value['levels']:.2f} levels, {value['psnr']:.1f} dB |")
            elif key == "results":
                for result in value:
                    shape = "x".join(map(str, result["shape"]))
                    for row in result["contenders"]:
                        roof = f"{row['share_of_roofline'] or 0:.0%} of the roofline"
                        lines.append(f"| {name} | {row['name']}, {shape} | {row['median_s'] * 1e3:.2f} ms, {roof} |")
            elif key == "latency":
                for row in value or ():
                    lines.append(f"| {name} | {'x'.join(map(str, row['shape']))} | {row['median_ms']} ms |")
            elif isinstance(value, int | float | str) and key not in ("device", "measured"):
                lines.append(f"| {name} | {key} | {value} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
