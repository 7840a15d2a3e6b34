"""A folder to upload as it is: proved files and manifests, cards, pictures, the report, and the hashes of all."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
from aether_deploy.artifacts.formats import FORMATS
from aether_deploy.artifacts.model import ExportOptions, ExportPlan
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.pipeline import export_model, plan_export
from aether_deploy.artifacts.verification import SUMS, files_below, unlisted, verify_files, write_sums
from aether_deploy.engines.plan import EngineOptions
from aether_deploy.errors import AetherDeployError, ConfigError, ExportError
from aether_deploy.files import staging
from aether_deploy.html_report.facts import Request
from aether_deploy.html_report.page import write_report
from aether_deploy.network.checkpoint import Checkpoint
from aether_deploy.network.families import family_of
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.manifest import Manifest, read_manifest
from aether_deploy.proof.reference import Trained
from aether_deploy.proof.verdict import ParityError
from aether_deploy.publishing.before_after import write_pictures
from aether_deploy.publishing.details import Details
from aether_deploy.publishing.model_card import render_card
from aether_deploy.publishing.openmodeldb import entry_id, entry_of, write_entry

__all__ = [
    "Release",
    "assemble",
    "optional_exports",
    "release_checkpoint",
    "release_exports",
    "require_name",
    "require_place",
    "require_unchanged",
    "settle",
]

logger = logging.getLogger(__name__)

CARD, REPORT = "README.md", "report.html"


@dataclass(frozen=True, slots=True)
class Release:
    """A finished folder.

    Attributes:
        folder: with everything in it.
        files: in it and below, relative, sorted.
        manifests: of its artifacts, in the order of the card.
    """

    folder: Path
    files: tuple[str, ...]
    manifests: tuple[Manifest, ...]


def release_exports(
    precisions: Sequence[str] = ("fp32", "fp16"),
    engines: Sequence[str] = (),
    options: EngineOptions | None = None,
) -> list[ExportOptions]:
    """What a release consists of besides the fused checkpoint.

    Args:
        precisions: of the ONNX files; fp32, which every reader takes, must be among them. With fp16 comes a file whose
            ends are fp16 too, which some readers need.
        engines: formats to build of the last precision.
        options: of those engines.
    Raises:
        ConfigError: there is no fp32.
        ExportError: an unknown precision.
    """
    variants = [Variant(name) for name in dict.fromkeys(precisions)]
    if all(variant.row.rounds for variant in variants):
        known = " or ".join(name for name, row in PRECISIONS.items() if not row.rounds)
        raise ConfigError(f"precisions {', '.join(precisions)}; a release needs {known} among them")
    ends = [Variant("fp16", io="fp16")] if "fp16" in precisions else []
    onnx = ExportOptions(variants=(*variants, *ends))
    engine = options or EngineOptions()
    return [onnx, *([ExportOptions(tuple(engines), (variants[-1],), engine=engine)] if engines else [])]


def optional_exports() -> list[ExportOptions]:
    """What a release has too where it passes: not every network can be put into 8 bits."""
    return [ExportOptions(variants=(Variant("int8"),))]


def release_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    details: Details,
    *,
    exports: Sequence[ExportOptions] = (),
    optional: Sequence[ExportOptions] = (),
    images: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Release:
    """Fuses, exports and proves everything, and describes it; the folder appears whole or not at all.

    Args:
        checkpoint: as it was trained.
        folder: to make.
        details: of the author.
        exports: see `release_exports`, which is the default.
        optional: more, of which what does not pass is left out, with a warning.
        images: the author's low-resolution photos, for the proof and the pictures; by default the packaged ones.
        overwrite: replace an older release.
    Raises:
        ParityError: a file is not the network as it was trained.
        AetherDeployError: the folder is something else, or anything in it cannot be made.
    """
    require_place(folder, overwrite=overwrite)
    require_name(checkpoint, details)
    with staging(folder.parent) as stage:
        staged = stage / folder.name
        staged.mkdir()
        name = details.name or checkpoint.name

        def plans(some: Sequence[ExportOptions]) -> list[ExportPlan]:
            here = (dataclasses.replace(options, output=staged, name=name, images=images) for options in some)
            return [plan_export(checkpoint, options) for options in here]

        planned, more = plans(exports or release_exports()), plans(optional)
        trained = Trained(checkpoint, images)
        shown = family_of(checkpoint.spec).shown_by_weights
        for suffix in (".pth", ".safetensors") if shown else (".safetensors",):
            fuse_checkpoint(checkpoint, staged / f"{checkpoint.spec.scale}x_{name}_fused{suffix}", trained=trained)
        for plan in planned:
            export_model(plan, trained=trained)
        for plan in more:
            try:
                export_model(plan, trained=trained)
            except (ExportError, ParityError) as error:
                logger.warning("left out: %s", error)
        made = assemble(staged, checkpoint, details, images=images)
        settle(staged, folder)
    return dataclasses.replace(made, folder=folder)


def assemble(
    folder: Path, checkpoint: Checkpoint, details: Details, *, images: str | os.PathLike[str] | None = None
) -> Release:
    """Adds to proved files what describes them: pictures, report, both cards, and the hashes.

    Args:
        folder: with the artifacts and their manifests; nothing else is in it.
        checkpoint: as it was trained, with which the report compares.
        details: of the author.
        images: see `release_checkpoint`.
    Raises:
        ConfigError: there is no fp32 ONNX file, or the name has no letter or digit.
        ParityError: the report's file is not the network as it was trained.
        AetherDeployError: a file cannot be run.
    """
    spec = checkpoint.spec.as_fused()
    name = details.name or checkpoint.name
    manifests = _in_order(read_manifest(path) for path in sorted(folder.iterdir()) if path.suffix != ".json")
    onnx = [item for item in manifests if item.artifact["kind"] == "onnx"]
    plain = next((item for item in onnx if not item.variant.row.rounds), None)
    if plain is None:
        raise ConfigError(f"{folder.name}: no ONNX file in fp32, which a release needs; export one")
    with open_runner(folder / plain.artifact["file"], device="cpu") as runner:
        pictures = write_pictures(runner, folder, images)
    shown = next((item for item in onnx if item.variant.row.half), plain).artifact["file"]
    logger.info("report of %s", shown)
    photos = None if images is None else Path(images)
    facts = write_report(
        Request(folder / shown, checkpoint.path, photos, device="cpu", trained=checkpoint), folder / REPORT
    )
    assert facts.parity is not None  # it was compared with the checkpoint
    facts.parity.require(shown)
    description = details.description or _sentence(name, spec.scale, spec.describe())
    entry = entry_of(spec, details, name=name, description=description, files=manifests, pictures=pictures)
    write_entry(entry, folder / f"{require_name(checkpoint, details)}.json")
    card = render_card(
        spec,
        details,
        title=f"{spec.scale}x {name}",
        description=description,
        files=manifests,
        pictures=pictures,
        report=REPORT,
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    write_sums(folder)
    return Release(folder, (*files_below(folder), SUMS), tuple(manifests))


def _in_order(found: Iterable[Manifest | None]) -> list[Manifest]:
    """In the order of the table of formats: checkpoints first, then ONNX files from the most exact on."""
    kinds, rows = list(dict.fromkeys(row.kind for row in FORMATS.values())), list(PRECISIONS)
    return sorted(
        (item for item in found if item is not None),
        key=lambda item: (
            kinds.index(item.artifact["kind"]),
            rows.index(item.variant.precision),
            item.variant.io != "fp32",
        ),
    )


def _sentence(name: str, scale: int, network: str) -> str:
    return f"{name} enlarges pictures {scale} times. The network: {network}, trained with neosr."


def require_place(folder: Path, *, overwrite: bool) -> None:
    """Raises AetherDeployError if a release cannot be put there: nothing but an older release is ever replaced.

    A file in it that is not of that release, such as those of a version control, would be lost: it is named.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / SUMS).is_file():
        raise AetherDeployError(f"{folder}: is there already and is no release; choose another --output")
    if not overwrite:
        raise AetherDeployError(f"{folder}: a release is there already; add --overwrite or choose another --output")
    strange = unlisted(folder)
    if strange:
        raise AetherDeployError(f"{folder / strange[0]}: not of the release that would be replaced; move it away")


def require_unchanged(folder: Path) -> None:
    """Raises AetherDeployError if somebody has changed a file of a release; one that is gone is no loss."""
    for check in verify_files(folder):
        if check.wrong and (folder / check.file).exists():
            raise AetherDeployError(
                f"{folder / check.file}: was changed since the release was made; move it away, or add --force to "
                "replace it"
            )


def require_name(checkpoint: Checkpoint, details: Details) -> str:
    """The id of OpenModelDB's entry; raises ConfigError if the model's name has no letter or digit for it."""
    name = details.name or checkpoint.name
    identity = entry_id(checkpoint.spec.scale, name)
    if not identity:
        raise ConfigError(f"name {name!r} has no letter or digit; give another name")
    return identity


def settle(staged: Path, folder: Path) -> None:
    """Moves a finished release to its place; an older one is deleted once the new one stands there."""
    old = staged.with_name(f"{staged.name}.old")
    if folder.exists():
        folder.replace(old)
    staged.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
