"""Whether the deployed network is the trained one, by two test runs of neosr itself.

Run once unfused and once with `fused_init = true`, on the same images. The verdict comes from the networks'
own float outputs: with the small kernel missing altogether, neosr's PNGs differ by only 1 or 2 levels and its
PSNR by 0.0002, while the floats differ by 3e-3.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aether_deploy.checkpoint import BARE, Checkpoint, load_checkpoint
from aether_deploy.errors import CheckpointError, ImageError, NeosrError
from aether_deploy.image_quality import ground_truth, psnr, ssim
from aether_deploy.images import SUFFIXES, list_images
from aether_deploy.neosr_options import PlannedRun, adapted_options, planned_options
from aether_deploy.neosr_output import Floats, Pixels, name_floats, printed_metrics, saved_images
from aether_deploy.neosr_run import Neosr, Receipt, run_neosr
from aether_deploy.parity import Case, ParityReport, Reference, verify

__all__ = ["ImageResult", "Validation", "validate"]

logger = logging.getLogger(__name__)

NETWORK_CLASS = "neosr.archs.aether_arch.AetherNet"
# The wrappers that neosr looks for; it reads a bare state dict too.
NEOSR_KEYS = ("params-ema", "params_ema", "params", BARE)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image as neosr saved it, 8 bits; quality in dB and 0 to 1 against ground truth, if that was given.

    Attributes:
        name: of the LQ image, without suffix.
        max_level: largest difference between both PNGs, in levels.
        levels_share: share of 8-bit values that differ, 0 to 1.
        psnr, ssim: (unfused, fused), computed here; None without ground truth.
    """

    name: str
    max_level: int
    levels_share: float
    psnr: tuple[float, float] | None
    ssim: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Validation:
    """Both runs and the verdict, which is `report.passed`.

    Attributes:
        unfused, fused: the receipts.
        report: the float outputs compared.
        images: what neosr saved.
        neosr_metrics: what neosr printed of itself, (unfused, fused) for each metric; shown, never used.
        notes: what was done to a checkpoint so that neosr can read it.
        folder: options, logs and images of both runs.
    """

    unfused: Receipt
    fused: Receipt
    report: ParityReport
    images: tuple[ImageResult, ...]
    neosr_metrics: dict[str, tuple[str, str]]
    notes: tuple[str, ...]
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.report.passed,
            "parity": self.report.as_dict(),
            "images": [_finite(asdict(image)) for image in self.images],
            "neosr_printed": self.neosr_metrics,
            "notes": list(self.notes),
            "unfused": asdict(self.unfused),
            "fused": asdict(self.fused),
            "folder": str(self.folder),
        }


def validate(
    fused: Path,
    against: Path,
    folder: Path,
    *,
    images: Path | None = None,
    gt: Path | None = None,
    opt: Path | None = None,
    neosr: Neosr | None = None,
    img_range: float | None = None,
) -> Validation:
    """Runs neosr on both checkpoints and compares; a network that differs raises nothing here.

    Args:
        fused: the deployed checkpoint.
        against: the trained one, or neosr's folder experiments/<name>.
        folder: where options files, logs, neosr's images and `validation.json` go.
        images: LQ images; may be None only with `opt`.
        gt: ground truth with the same file names.
        opt: the user's own neosr test options; by default they are written from the network.
        neosr: which one; by default the installed package.
        img_range: the one value that the weights do not show.
    Raises:
        CheckpointError: not a fused and an unfused form of one network.
        ImageError: images that neosr would stumble over, or without ground truth.
        ConfigError: own options under which nothing can be compared.
        NeosrError: a run that did not happen as asked.
    """
    trained = load_checkpoint(against, img_range=img_range)
    deployed = load_checkpoint(fused, img_range=img_range)
    _check_pair(trained, deployed)
    expected = _check_images(images, gt)
    folder.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    receipts, floats, pngs, printed = [], [], [], []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".floats-", ignore_cleanup_errors=True) as temporary:
        for form, checkpoint in (("unfused", trained), ("fused", deployed)):
            readable = _readable_by_neosr(checkpoint, folder / f"{form}.pth", notes)
            run = PlannedRun(f"aether_{form}", readable, folder / "neosr", _absolute(images), _absolute(gt))
            caught = Path(temporary) / form
            caught.mkdir()
            receipt = _run(neosr or Neosr(), run, opt, folder / form, caught)
            receipts.append(receipt)
            pngs.append(saved_images(run.results / run.name, run.name))
            floats.append(name_floats(caught, pngs[-1], receipt, form))
            printed.append(printed_metrics(folder / f"{form}.log"))
        if expected and not expected == len(floats[0]) == len(floats[1]):
            raise NeosrError(f"neosr ran {len(floats[0])} and {len(floats[1])} of {expected} images; see {folder}")
        report = _compare(floats[0], floats[1])
    validation = Validation(
        unfused=receipts[0],
        fused=receipts[1],
        report=report,
        images=tuple(_image_result(name, pngs[0][name], pngs[1][name], gt) for name in sorted(pngs[0])),
        neosr_metrics={name: (value, printed[1].get(name, "")) for name, value in printed[0].items()},
        notes=tuple(notes),
        folder=folder,
    )
    text = json.dumps(validation.as_dict(), indent=2, allow_nan=False)
    (folder / "validation.json").write_text(text + "\n", encoding="utf-8")
    return validation


def _check_pair(trained: Checkpoint, deployed: Checkpoint) -> None:
    for checkpoint, fused, option in ((deployed, True, "FUSED"), (trained, False, "--against")):
        if checkpoint.spec.fused != fused:
            have, want = ("fused", "unfused") if checkpoint.spec.fused else ("unfused", "fused")
            raise CheckpointError(f"{checkpoint.path}: {have} weights; {option} takes the {want} checkpoint")
    if trained.spec.as_fused() != deployed.spec:
        raise CheckpointError(
            f"two networks: {deployed.path.name} is {deployed.spec.describe()}; {trained.path.name} is "
            f"{trained.spec.describe()}; give the checkpoint that was fused"
        )
    if trained.spec.in_chans != 3:
        raise CheckpointError(f"{trained.path}: {trained.spec.in_chans} channels; neosr's test run feeds 3")


def _check_images(images: Path | None, gt: Path | None) -> int | None:
    """How many images neosr must run; None if the user's own options name them."""
    if images is None:
        return None
    found = list_images(images)
    # neosr takes every file of the folder for an image, but no hidden one.
    others = [path for path in images.iterdir() if path.is_file() and path.suffix.lower() not in SUFFIXES]
    others = [path for path in others if not path.name.startswith(".")]
    if others:
        raise ImageError(f"{images}: {others[0].name} is no image, and neosr reads every file there; move it away")
    stems = [path.stem for path in found]
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ImageError(f"{images}: two images named {twice}, and neosr would save one over the other; rename one")
    if gt is not None:
        names, given = {path.name for path in found}, {path.name for path in list_images(gt)}
        if names != given:
            odd = sorted(names ^ given)[0]
            raise ImageError(f"{odd} is not in both {images} and {gt}; expected the same file names in both")
    return len(found)


def _readable_by_neosr(checkpoint: Checkpoint, copy: Path, notes: list[str]) -> Checkpoint:
    """The checkpoint itself, or a plain copy if neosr's strict loading would trip over its wrapping.

    neosr reads .pth only, strips one `module.`, and knows no `_orig_mod.` and no EMA counter.
    """
    if checkpoint.path.suffix != ".safetensors" and checkpoint.param_key in NEOSR_KEYS:
        contents = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
        weights = contents if checkpoint.param_key == BARE else contents[checkpoint.param_key]
        if {str(key).removeprefix("module.") for key in weights} == set(checkpoint.state_dict):
            return checkpoint
    torch.save({"params": checkpoint.state_dict}, copy)
    notes.append(
        f"neosr cannot read {checkpoint.path.name} as it is; it ran {copy.name}, the same weights as plain params"
    )
    return load_checkpoint(copy, img_range=checkpoint.spec.img_range)


def _run(neosr: Neosr, run: PlannedRun, opt: Path | None, stem: Path, caught: Path) -> Receipt:
    """One test run, its receipt checked against what was asked."""
    options = stem.with_suffix(".toml")
    options.write_text(planned_options(run) if opt is None else adapted_options(opt, run), encoding="utf-8")
    logger.info("neosr runs %s", run.checkpoint.path.name)
    # neosr would rename an earlier run's folder of this name and keep it.
    shutil.rmtree(run.results / run.name, ignore_errors=True)
    receipt = run_neosr(neosr, "test", options, stem.with_suffix(".log"), floats=caught)
    spec = run.checkpoint.spec
    asked = (NETWORK_CLASS, spec.fused, spec.scale)
    seen = (receipt.network_class, receipt.fused, receipt.scale)
    if receipt.forwards == 0:
        raise NeosrError(f"neosr's test run came to its end without running the network once; see {stem}.log")
    if seen != asked:
        raise NeosrError(f"neosr ran {seen}, asked for {asked} (class, fused, scale); see {options}")
    return receipt


def _compare(unfused: dict[str, tuple[Floats, Floats]], fused: dict[str, tuple[Floats, Floats]]) -> ParityReport:
    if set(unfused) != set(fused):
        odd = sorted(set(unfused) ^ set(fused))[0]
        raise NeosrError(f"{odd} was run by one of both runs only; run them again on the same images")
    names = sorted(unfused)
    for name in names:
        if not np.array_equal(unfused[name][0], fused[name][0]):
            raise NeosrError(f"{name}: both runs saw different pixels; were the images changed in between?")
    cases = tuple(Case(name, unfused[name][0]) for name in names)
    reference = Reference(cases, tuple(unfused[name][1] for name in names))
    outputs = iter([fused[name][1] for name in names])
    return verify(reference, lambda lr: next(outputs), "fp32", what="fused")


def _image_result(name: str, unfused: Pixels, fused: Pixels, gt: Path | None) -> ImageResult:
    levels = np.abs(unfused.astype(np.int16) - fused.astype(np.int16))
    ratios = similarities = None
    if gt is not None:
        truth = ground_truth(name.rpartition("/")[2], gt, unfused.shape)
        ratios = (psnr(truth, unfused), psnr(truth, fused))
        similarities = (ssim(truth, unfused), ssim(truth, fused))
    return ImageResult(name, int(levels.max()), float(np.mean(levels > 0)), ratios, similarities)


def _finite(value: Any) -> Any:
    """JSON has no infinite PSNR (two equal images) and no NaN; they become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()
