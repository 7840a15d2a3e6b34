"""Checks with two test runs of neosr itself that the deployed network is the trained one.

One run is unfused, the other has `fused_init = true`, both on the same images. The verdict comes from the networks'
own float outputs: on a briefly trained network whose small kernel was missing altogether, neosr's PNGs differed by
only 1 level and its PSNR hardly at all, while the floats differed by 3e-3.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aether_deploy.arrays import Array, Pixels, finite
from aether_deploy.errors import NeosrError
from aether_deploy.files import staging
from aether_deploy.neosr_run.inputs import check_images, check_pair, readable_by_neosr
from aether_deploy.neosr_run.neosr import Neosr, Receipt, run_neosr
from aether_deploy.neosr_run.results import name_floats, printed_metrics, saved_images
from aether_deploy.neosr_run.validation_options import PlannedRun, adapted_options, planned_options
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.pictures.quality import ground_truth, psnr, ssim
from aether_deploy.proof.cases import Case
from aether_deploy.proof.verdict import ParityReport, Reference, verify

__all__ = ["ImageResult", "Validation", "validate"]

logger = logging.getLogger(__name__)

NETWORK_CLASS = "neosr.archs.aether_arch.AetherNet"


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image as both runs saved it, in 8 bits.

    Attributes:
        name: of the LQ image, without suffix.
        max_level: largest difference between the two PNGs, in 8-bit levels.
        levels_share: share of 8-bit values that differ, 0 to 1.
        psnr, ssim: (unfused, fused) against ground truth, in dB and 0 to 1, computed here; None without it.
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
        report: the comparison of the float outputs.
        images: what neosr saved.
        neosr_metrics: what neosr itself printed, (unfused, fused) for each metric; shown, never used.
        notes: what was done to a checkpoint so that neosr could read it.
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
        """A dict for JSON."""
        return {
            "passed": self.report.passed,
            "parity": self.report.as_dict(),
            "images": [finite(asdict(image)) for image in self.images],
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
    """Runs neosr on both checkpoints and compares them; a difference is reported, not raised.

    Args:
        fused: the deployed checkpoint.
        against: the trained checkpoint, or neosr's folder experiments/<name>.
        folder: where options files, logs, neosr's images and `validation.json` go.
        images: LQ images; may be None only with `opt`.
        gt: ground truth with the same file names.
        opt: the user's own neosr test options; by default they are written from the network.
        neosr: which one to run; by default the installed package.
        img_range: of the network, the one value that its weights do not show; None for the default.
    Raises:
        CheckpointError: not the fused and the unfused form of one network.
        ImageError: images that neosr would stumble over, or that lack ground truth.
        ConfigError: options of the user's under which nothing can be compared.
        NeosrError: a run that failed or did not do what was asked.
    """
    trained = load_checkpoint(against, img_range=img_range)
    deployed = load_checkpoint(fused, img_range=img_range)
    check_pair(trained, deployed)
    expected = check_images(images, gt)
    notes: list[str] = []
    with staging(folder) as floats:
        runs = []
        for form, checkpoint in (("unfused", trained), ("fused", deployed)):
            readable = readable_by_neosr(checkpoint, folder / f"{form}.pth", notes)
            planned = PlannedRun(f"aether_{form}", readable, folder / "neosr", _absolute(images), _absolute(gt))
            caught = floats / form
            caught.mkdir()
            runs.append(_run(neosr or Neosr(), planned, opt, folder / form, caught))
            if expected and runs[-1].receipt.forwards != expected:
                raise NeosrError(f"neosr ran {runs[-1].receipt.forwards} of {expected} images; see {folder}/{form}.log")
        report = _compare(runs[0].floats, runs[1].floats)
    before, after = runs
    validation = Validation(
        unfused=before.receipt,
        fused=after.receipt,
        report=report,
        images=tuple(_image_result(name, before.saved[name], after.saved[name], gt) for name in sorted(before.saved)),
        neosr_metrics={name: (value, after.printed.get(name, "")) for name, value in before.printed.items()},
        notes=tuple(notes),
        folder=folder,
    )
    text = json.dumps(validation.as_dict(), indent=2, allow_nan=False)
    (folder / "validation.json").write_text(text + "\n", encoding="utf-8")
    return validation


@dataclass(frozen=True, slots=True)
class _Run:
    """The output of one neosr test run: by image name, the saved pixels and the captured (input, output)."""

    receipt: Receipt
    saved: dict[str, Pixels]
    floats: dict[str, tuple[Array, Array]]
    printed: dict[str, str]


def _run(neosr: Neosr, run: PlannedRun, opt: Path | None, stem: Path, caught: Path) -> _Run:
    """One test run, its receipt checked against the request."""
    options = stem.with_suffix(".toml")
    options.write_text(planned_options(run) if opt is None else adapted_options(opt, run), encoding="utf-8")
    logger.info("neosr runs %s", run.checkpoint.path.name)
    # Otherwise neosr renames and keeps the folder that an earlier run left under this name.
    shutil.rmtree(run.results / run.name, ignore_errors=True)
    receipt = run_neosr(neosr, "test", options, stem.with_suffix(".log"), floats=caught)
    spec = run.checkpoint.spec
    asked = (NETWORK_CLASS, spec.fused, spec.scale)
    seen = (receipt.network_class, receipt.fused, receipt.scale)
    if receipt.forwards == 0:
        raise NeosrError(f"neosr's test run ended without running the network once; see {stem}.log")
    if seen != asked:
        raise NeosrError(f"neosr ran {seen}, asked for {asked} (class, fused, scale); see {options}")
    saved = saved_images(run.results / run.name, run.name)
    return _Run(receipt, saved, name_floats(caught, saved, receipt), printed_metrics(stem.with_suffix(".log")))


def _compare(unfused: dict[str, tuple[Array, Array]], fused: dict[str, tuple[Array, Array]]) -> ParityReport:
    if set(unfused) != set(fused):
        odd = sorted(set(unfused) ^ set(fused))[0]
        raise NeosrError(f"{odd} appears in only one of the two runs; run them again on the same images")
    names = sorted(unfused)
    for name in names:
        if not np.array_equal(unfused[name][0], fused[name][0]):
            raise NeosrError(f"{name}: the two runs saw different pixels; were the images changed in between?")
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


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()
