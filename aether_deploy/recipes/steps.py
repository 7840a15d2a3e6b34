"""A recipe -> its steps in order: what each makes, what it depends on, and how it is made or only checked again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aether_deploy.arrays import Shape
from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
from aether_deploy.artifacts.model import ExportOptions, ExportPlan, Target
from aether_deploy.artifacts.pipeline import export_model, plan_export
from aether_deploy.engines.plan import EngineOptions
from aether_deploy.errors import ConfigError
from aether_deploy.files import staging
from aether_deploy.html_report.facts import Request
from aether_deploy.html_report.page import write_report
from aether_deploy.neosr_run.neosr import Neosr
from aether_deploy.neosr_run.validation import validate
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import variants
from aether_deploy.proof.manifest import manifest_path
from aether_deploy.publishing.details import Details
from aether_deploy.publishing.release_folder import assemble, require_name, settle
from aether_deploy.recipes.keys import content, photos
from aether_deploy.recipes.recipe import Export
from aether_deploy.recipes.work import Work

__all__ = ["Step", "plan_steps"]

RELEASE, VALIDATION = "release", "validation"


@dataclass(frozen=True)
class Step:
    """One thing that a recipe makes.

    Attributes:
        kind: fuse, validate, export, report or release.
        files: that it makes, relative to the output folder, the one that people ask for first; a folder stands for all
            files in it.
        batch: steps of one batch that follow each other are made together.
        made_of: the key of what it is made of; computed when it is its turn, since it may depend on earlier steps.
        checked_by: the key of the photos and limits that its files are compared with; "" without a comparison.
        late: whether it is made of what earlier steps made.
        make: makes the files of the steps of a batch that are needed.
        check: compares files that are there once more.
        target: of an export; None for others.
    """

    kind: str
    files: tuple[str, ...]
    batch: str
    made_of: Callable[[], str]
    make: Callable[[Sequence[Step]], None]
    checked_by: str = ""
    late: bool = False
    check: Callable[[], None] | None = None
    target: Target | None = None

    @property
    def name(self) -> str:
        """`export 2x_Name_fp32_op20.onnx`."""
        return f"{self.kind} {self.files[0]}"


def plan_steps(work: Work) -> list[Step]:
    """The steps of a recipe; nothing is run.

    Raises:
        ConfigError: two tables that make the same file, or a table that needs another one.
        ExportError, EngineError: see `plan_export`.
    """
    steps = [*_fusing(work), *_validating(work), *_exporting(work)]
    onnx = [step for step in steps if step.target is not None and step.target.format == "onnx"]
    steps += [*_reporting(work, onnx), *_releasing(work, steps, onnx)]
    names = [step.files[0] for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} would be made twice; give the tables of the recipe different settings")
    return steps


def _fusing(work: Work) -> Iterator[Step]:
    def make(needed: Sequence[Step]) -> None:
        for step in needed:
            fuse_checkpoint(work.checkpoint, work.output / step.files[0], trained=work.trained)

    for suffix in dict.fromkeys(work.recipe.fuse):
        file = f"{work.checkpoint.spec.scale}x_{work.name}_fused.{suffix}"
        already = work.checkpoint.spec.fused
        yield Step(
            "fuse",
            (file,) if already else (file, f"{file}.json"),
            "fuse",
            lambda file=file: work.key("fuse", file),  # type: ignore[misc]
            make,
            "" if already else work.proof["fp32"],
            check=None if already else lambda file=file: work.prove_again(file),  # type: ignore[misc]
        )


def _validating(work: Work) -> Iterator[Step]:
    asked = work.recipe.validation
    if asked is None:
        return
    fused = f"{work.checkpoint.spec.scale}x_{work.name}_fused.pth"
    if "pth" not in work.recipe.fuse or work.checkpoint.spec.fused:
        raise ConfigError('[validate] needs an unfused checkpoint, and "pth" in fuse')

    def make(_: Sequence[Step]) -> None:
        done = validate(
            work.output / fused,
            work.checkpoint.path,
            work.output / VALIDATION,
            images=Path(asked.images),
            gt=Path(asked.gt) if asked.gt else None,
            neosr=Neosr(
                Path(asked.neosr) if asked.neosr else None, *([asked.neosr_python] if asked.neosr_python else [])
            ),
            img_range=work.recipe.img_range,
        )
        done.report.require(fused)

    def made_of() -> str:
        seen = [photos(asked.images), photos(asked.gt) if asked.gt else {}, asked.neosr]
        return work.key("validate", content(work.output / fused), *seen)

    yield Step("validate", (f"{VALIDATION}/validation.json",), "validate", made_of, make, late=True)


def _exporting(work: Work) -> Iterator[Step]:
    for number, table in enumerate(work.recipe.export):
        plan = plan_export(work.checkpoint, _options(work, table))
        eight_bits = (photos(table.calibration) if table.calibration else "", table.quality, table.max_lost)

        def make(needed: Sequence[Step], plan: ExportPlan = plan) -> None:
            targets = tuple(step.target for step in needed if step.target is not None)
            export_model(dataclasses.replace(plan, targets=targets), trained=work.trained)

        for target in plan.targets:
            beside = [target.onnx.path] if target.onnx else []
            made = [path for file in (target.path, *beside) for path in (file, manifest_path(file))]
            files = [path.relative_to(work.output).as_posix() for path in (*made, *target.parts)]
            settings = repr(
                (
                    target.variant,
                    target.engine and target.engine.request,
                    target.engine and target.engine.tag,
                    eight_bits if target.variant.row.quantizes else "",
                )
            )
            yield Step(
                "export",
                tuple(files),
                f"export {number}",
                lambda name=files[0], settings=settings: work.key("export", name, settings),  # type: ignore[misc]
                make,
                work.proof[target.variant.precision],
                check=lambda name=files[0]: work.prove_again(name),  # type: ignore[misc]
                target=target,
            )


def _options(work: Work, table: Export) -> ExportOptions:
    return ExportOptions(
        formats=tuple(table.format),
        variants=variants(
            table.precision,
            io=table.io,
            islands=table.islands,
            ffn=table.ffn,
            opset=table.opset,
            static=_shape(table.static) if table.static else None,
            pad=table.pad,
        ),
        output=work.output,
        name=work.name,
        images=work.images,
        engine=EngineOptions(
            tuple(map(_shape, table.min_shape)),
            tuple(map(_shape, table.opt_shape)),
            tuple(map(_shape, table.max_shape)),
            tuple(table.gpu),
            table.workspace_mib << 20 or None,
        ),
        calibration=table.calibration or None,
        quality=table.quality,
        max_lost=table.max_lost,
    )


def _shape(text: str) -> Shape:
    n, c, h, w = (int(part) for part in text.split("x"))
    return n, c, h, w


def _reporting(work: Work, onnx: Sequence[Step]) -> Iterator[Step]:
    asked = work.recipe.report
    if asked is None:
        return
    rows = list(PRECISIONS)
    fitting = [step.target for step in onnx if step.target and asked.precision in ("", step.target.variant.precision)]
    if not fitting:
        raise ConfigError(
            f"[report] needs an ONNX file in {asked.precision or 'any precision'}; add it to an [[export]]"
        )
    shown = max(fitting, key=lambda target: rows.index(target.variant.precision)).path
    benchmark = Path(asked.benchmark) if asked.benchmark else None

    def make(_: Sequence[Step]) -> None:
        request = Request(shown, work.checkpoint.path, work.images, device="cpu", trained=work.checkpoint)
        facts = write_report(request, shown.with_name(f"{shown.name}.html"), benchmark=benchmark)
        assert facts.parity is not None  # it was compared with the checkpoint
        facts.parity.require(shown.name)

    def made_of() -> str:
        seen = [content(shown), content(manifest_path(shown)), work.photos]
        return work.key("report", *seen, content(benchmark) if benchmark else "")

    yield Step("report", (f"{shown.name}.html",), "report", made_of, make, late=True)


def _releasing(work: Work, steps: Sequence[Step], onnx: Sequence[Step]) -> Iterator[Step]:
    asked = work.recipe.release
    if asked is None:
        return
    if not any(step.target and not step.target.variant.row.rounds for step in onnx):
        raise ConfigError("[release] needs an ONNX file in fp32; add it to an [[export]]")
    details = Details(
        tuple(asked.author),
        asked.license,
        work.name,
        asked.description,
        tuple(asked.tags),
        asked.base_model,
        asked.url_base,
    )
    require_name(work.checkpoint, details)
    folder = work.output / RELEASE
    files = list(dict.fromkeys(name for step in steps if step.kind in ("fuse", "export") for name in step.files))

    def make(_: Sequence[Step]) -> None:
        with staging(work.output) as stage:
            staged = stage / folder.name
            staged.mkdir()
            for name in files:
                shutil.copyfile(work.output / name, staged / name)
            assemble(staged, work.checkpoint, details, images=work.images)
            settle(staged, folder)

    def made_of() -> str:
        made = {name: content(work.output / name) for name in files}
        return work.key("release", made, asked.model_dump(), work.photos)

    yield Step("release", (RELEASE,), "release", made_of, make, late=True)
