"""What of each of spandrel's architectures goes through: `python -m benchmarks.architectures > docs/architectures.md`.

`python -m benchmarks.architectures SPAN ESRGAN` tries those again, and leaves the others as they were.

A small network of each, with random weights, is written as a checkpoint, read as a user's is, and exported in fp32 with
dynamic shapes, where that is refused with a fixed size, and in fp16; each file is proved as always. Each architecture
is a process of its own. About an hour on two cores.
"""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

# Architecture -> (class, options of a small network); spandrel's own defaults are for published sizes.
_WINDOWS: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "Compact": ("SRVGGNetCompact", {"num_feat": 16, "num_conv": 4, "upscale": 2}),
    "SwiftSRGAN": ("Generator", {"num_channels": 16, "num_blocks": 2, "upscale_factor": 2}),
    "HAT": ("HAT", {**_WINDOWS, "squeeze_factor": 6, "upscale": 2, "upsampler": "pixelshuffle"}),
    "GRL": (
        "GRL",
        {
            "embed_dim": 24,
            "depths": [2],
            "num_heads_window": [2],
            "num_heads_stripe": [2],
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    "Swin2SR": ("Swin2SR", {**_WINDOWS, "upscale": 2, "upsampler": "pixelshuffle"}),
    "SwinIR": ("SwinIR", {**_WINDOWS, "upscale": 2, "upsampler": "pixelshuffle"}),
    "GFPGAN": ("GFPGANv1Clean", {}),
    "RestoreFormer": ("RestoreFormer", {"ch": 32}),
    "LaMa": ("LaMa", {}),
    "OmniSR": ("OmniSR", {"num_feat": 16, "up_scale": 2}),
    "FBCNN": ("FBCNN", {"nc": [16, 16, 16, 512], "nb": 4}),
    "Uformer": ("Uformer", {"img_size": 128, "embed_dim": 16, "depths": [1] * 9, "modulator": True}),
    "RGT": ("RGT", {"embed_dim": 64, "depth": [2], "num_heads": [2], "split_size": [8, 8], "upscale": 2}),
    "DAT": ("DAT", {"embed_dim": 64, "depth": [2], "num_heads": [2], "split_size": [8, 8], "upscale": 2}),
    "CRAFT": ("CRAFT", {"embed_dim": 64, "depths": [1], "num_heads": [2], "upscale": 2}),
    "KBNet": ("KBNet_s", {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "DITN": ("DITN_Real", {"dim": 24, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}),
    "MMRealSR": ("MMRRDBNet_test", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 1, "num_grow_ch": 8}),
    "SPAN": ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2, "norm": False}),
    "RealCUGAN": ("UpCunet2x", {}),
    "SAFMN": ("SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "SAFMNBCIE": ("SAFMN_BCIE", {"dim": 16, "n_blocks": 2, "num_layers": 2, "upscaling_factor": 2}),
    "FFTformer": ("FFTformer", {"dim": 16, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    "NAFNet": ("NAFNet", {"width": 16, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "ATD": ("ATD", {**_WINDOWS, "category_size": 64, "upscale": 2, "upsampler": "pixelshuffle"}),
    "MixDehazeNet": ("MixDehazeNet", {"embed_dims": [8, 16, 32, 16, 8]}),
    "DnCNN": ("DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 16, "nb": 6}),
    "IPT": ("IPT", {"n_feats": 16, "num_layers": 1, "num_heads": 4, "scale": [2]}),
    "DRCT": ("DRCT", {**_WINDOWS, "upscale": 2, "upsampler": "pixelshuffle"}),
    "ESRGAN": ("RRDBNet", {"num_filters": 16, "num_blocks": 2, "scale": 4}),
    "PLKSR": ("RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "RetinexFormer": ("RetinexFormer", {"n_feat": 16, "stage": 1}),
    "HVICIDNet": ("CIDNet", {"channels": [12, 12, 24, 48]}),
    "MoSR": ("MoSR", {"upscale": 2, "n_block": 2, "dim": 16}),
    "MoESR": ("MoESR", {"scale": 2, "dim": 16, "n_blocks": 2, "n_block": 1, "upsample_dim": 16}),
    "RCAN": ("RCAN", {"scale": 2, "n_resgroups": 1, "n_resblocks": 2, "n_feats": 16, "reduction": 4}),
    "FDAT": (
        "FDAT",
        {"scale": 2, "embed_dim": 24, "num_groups": 1, "depth_per_group": 2, "num_heads": 2, "mid_dim": 16},
    ),
    "AuraSR": (
        "UnetUpsampler",
        {
            "dim": 16,
            "image_size": 256,
            "input_image_size": 64,
            "style_network": {"dim_in": 16, "dim_out": 64, "depth": 2},
            "unconditional": True,
        },
    ),
    "DCTLSA": ("DCTLSA", {"nf": 20, "num_head": 5, "upscale": 2}),
    "DRUNet": ("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": [16, 16, 16, 16]}),
    "SCUNet": ("SCUNet", {"config": [1] * 7, "dim": 64}),
    "SeemoRe": ("SeemoRe", {"scale": 2, "num_layers": 2}),
}
# For each of: dynamic shapes and what follows, and a fixed size and what follows.
_SECONDS = 300
RESULTS = Path(__file__).parent / "results" / "architectures.json"
_PAGE = """# Networks other than AetherNet

Architectures that spandrel knows, each as a small network with random weights, through `export` on a CPU, with
{versions}: {through} of {all} give a proved fp32 ONNX file of dynamic shapes. A fixed size (`--static`) was tried
where that was refused, and fp16 in the form that fp32 had. Random weights are the harder case: a trained network's
values are tamer. What to do with these files is in [networks](networks.md).
Made by `python -m benchmarks.architectures`.

| architecture | fp32, dynamic shapes | fp32, fixed size | fp16 | what was said |
|---|---|---|---|---|"""
_YES = "yes"


def save_network(architecture: str, path: Path) -> None:
    """Writes the small network of an architecture, with random weights, as a checkpoint."""
    import torch

    from aether_deploy.network.spandrel_network import network_class

    torch.manual_seed(0)
    name, options = NETWORKS[architecture]
    network = network_class(architecture, name)(**options)
    torch.save({"params": network.state_dict()}, path)


def tried(architecture: str, *, dynamic: bool = True) -> Iterator[dict[str, str]]:
    """What goes through of one architecture, {form: `yes`, or why not}, after each form anew.

    Args:
        architecture: a key of `NETWORKS`.
        dynamic: whether dynamic shapes are tried too.
    """
    from aether_deploy.artifacts.model import ExportOptions
    from aether_deploy.artifacts.pipeline import export_model
    from aether_deploy.errors import AetherDeployError
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.precisions.variant import variants

    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{architecture}.pth"
        try:
            save_network(architecture, path)
            checkpoint = load_checkpoint(path)
        # Whatever its constructor raises is the finding.
        except Exception as error:  # noqa: BLE001
            yield {"read": _reason(error)}
            return
        found["read"] = checkpoint.spec.describe()
        yield found
        side = checkpoint.spec.sizes.fit(64, 64)[0]
        static = (1, checkpoint.spec.in_chans, side, side)
        for form, precision, shape in (("fp32", "fp32", None), ("fixed", "fp32", static), ("fp16", "fp16", None)):
            any_size = found.get("fp32") == _YES
            if (form == "fp32" and not dynamic) or (form == "fixed" and any_size):
                continue
            if form == "fp16" and not any_size:
                shape = static
                if found["fixed"] != _YES:
                    continue
            try:
                options = ExportOptions(variants=variants((precision,), static=shape), output=folder)
                export_model(checkpoint, options)
                found[form] = _YES
            except AetherDeployError as error:
                found[form] = _reason(error)
            yield found


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"/\S+/", "", re.sub(r"^/\S+/\w+\.pth: ", "", line))


def _apart(architecture: str) -> dict[str, str]:
    found = _limited(architecture)
    if "late" in found and found.get("fp32") != _YES and "fixed" not in found:
        late = found.pop("late")
        found = {"fp32": late, **found, **_limited(architecture, "--fixed")}
    return found


def _limited(architecture: str, *flags: str) -> dict[str, str]:
    command = [sys.executable, "-m", "benchmarks.architectures", "--only", architecture, *flags]
    why = {}
    with tempfile.TemporaryFile("w+") as told:
        try:
            ended = subprocess.run(
                command, stdout=told, stderr=subprocess.PIPE, text=True, timeout=_SECONDS, check=False
            )
            if ended.returncode:
                last = (ended.stderr.strip().splitlines() or ["?"])[-1]
                why = {"ended": f"ended with {ended.returncode}: {last}"}
        except subprocess.TimeoutExpired:
            why = {"late": f"nothing more after {_SECONDS} s"}
        told.seek(0)
        lines = told.read().splitlines()
    found: dict[str, str] = json.loads(lines[-1]) if lines else {}
    return found | why


def _row(architecture: str, found: dict[str, str]) -> str:
    def cell(form: str) -> str:
        text = found.get(form, "")
        return text if text in ("", _YES) else "no"

    reasons = dict.fromkeys(text for form, text in found.items() if form != "read" and text != _YES)
    if found.keys() == {"read"}:
        reasons = {found["read"]: None}
    why = "; ".join(reason.replace("|", "/")[:200] for reason in reasons)
    return f"| {architecture} | {cell('fp32')} | {cell('fixed')} | {cell('fp16')} | {why} |"


@click.command()
@click.argument("architectures", nargs=-1)
@click.option("--only", help="Of one architecture, in this process; what was found is printed as JSON.")
@click.option("--fixed", is_flag=True, help="With --only: no dynamic shapes.")
@click.option("--workers", default=2, show_default=True, help="Processes at a time.")
def main(architectures: tuple[str, ...], only: str | None, fixed: bool, workers: int) -> None:
    """Try ARCHITECTURES, all by default, keep what was found in benchmarks/results, and print a page of Markdown."""
    if only:
        for found in tried(only, dynamic=not fixed):
            print(json.dumps(found), flush=True)
        return
    results: dict[str, dict[str, str]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = architectures or tuple(NETWORKS)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for name, found in zip(chosen, pool.map(_apart, chosen), strict=True):
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
            print(_row(name, found), file=sys.stderr)
    through = sum(found.get("fp32") == _YES for found in results.values())
    versions = f"spandrel {version('spandrel')} and torch {version('torch').split('+')[0]}"
    print(_PAGE.format(versions=versions, through=through, all=len(results)))
    for name in sorted(results, key=str.lower):
        print(_row(name, results[name]))
    from spandrel import MAIN_REGISTRY

    left = sorted({str(item.architecture.id) for item in MAIN_REGISTRY} - results.keys(), key=str.lower)
    if left:
        print(f"\nNot tried: {', '.join(left)}.")


if __name__ == "__main__":
    main()
