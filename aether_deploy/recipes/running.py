"""Which steps of a recipe are needed, and doing them.

A run that finds nothing to do imports neither torch nor onnx: it compares hashes only.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import AetherDeployError
from aether_deploy.files import sha256_of
from aether_deploy.network.experiment import newest_checkpoint
from aether_deploy.recipes.keys import content, key_of, photos, tools
from aether_deploy.recipes.recipe import Recipe
from aether_deploy.recipes.record import Made, Record, read_record

if TYPE_CHECKING:
    from aether_deploy.recipes.estimates import Estimate
    from aether_deploy.recipes.steps import Step
    from aether_deploy.recipes.work import Work

__all__ = ["CHECKED", "MADE", "UNCHANGED", "Done", "run_recipe"]

logger = logging.getLogger(__name__)

UNCHANGED, CHECKED, MADE = "unchanged", "proved again", "made"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a step.

    Attributes:
        step: kind and first file.
        state: `unchanged`, `proved again` or `made`; in a dry run, what would become of it.
        files: relative to the output folder.
        seconds: that it took; of a batch, the share of each.
        estimate: of a step that was not done; None otherwise.
    """

    step: str
    state: str
    files: tuple[str, ...]
    seconds: float = 0.0
    estimate: Estimate | None = None


def run_recipe(recipe: Recipe, *, dry_run: bool = False, force: bool = False) -> list[Done]:
    """Does what is needed, in order; what was made of the same things and is still whole is left alone.

    A step whose photos or limits alone have changed is not made again: its files are compared once more.

    Args:
        recipe: see `read_recipe`.
        dry_run: say what would be done.
        force: do everything, and replace files that the recipe did not make.
    Returns:
        one for each step.
    Raises:
        ParityError: a file is not the network as it was trained, or not within the recipe's limits. What was made
            before stays.
        AetherDeployError: a step fails, or a file is in the way that is not the recipe's.
    """
    output = Path(recipe.output)
    record = read_record(output)
    whole = _whole_key(recipe)
    if not force and record.recipe == whole and record.whole(output):
        return [Done(name, UNCHANGED, tuple(made.files)) for name, made in record.steps.items()]
    from aether_deploy.recipes.steps import plan_steps
    from aether_deploy.recipes.work import Work

    work = Work(recipe)
    steps = plan_steps(work)
    if dry_run:
        return list(_foreseen(work, steps, record, force=force))
    _require_ours(work, steps, record, force=force)
    record = Record(steps={step.name: record.steps[step.name] for step in steps if step.name in record.steps})
    done: list[Done] = []
    for _, batch in itertools.groupby(steps, key=lambda step: step.batch):
        done += _do(work, list(batch), record, force=force)
    # Steps can write files that an earlier one had written: an engine brings its ONNX file.
    for step in steps:
        record.steps[step.name].files = _hashes(output, step.files)
    record.recipe = whole
    record.write(output)
    return done


def _whole_key(recipe: Recipe) -> str:
    """The key of everything that a run depends on."""
    path = Path(recipe.checkpoint)
    if path.is_dir():
        path = newest_checkpoint(path)
    validation, report, gpu = recipe.validation, recipe.report, read_driver().current
    return key_of(
        recipe.model_dump(),
        str(path),
        content(path),
        content(Path(recipe.opt)) if recipe.opt else "",
        photos(recipe.images),
        [photos(folder) for folder in (validation.images, validation.gt) if folder] if validation else [],
        [photos(table.calibration) for table in recipe.export if table.calibration],
        content(Path(report.benchmark)) if report and report.benchmark else "",
        str(gpu.capability) if gpu else "",
        tools(),
    )


def _state(step: Step, record: Record, output: Path, *, force: bool) -> str:
    made = record.steps.get(step.name)
    if force or made is None or not made.whole(output) or made.made_of != step.made_of():
        return MADE
    if made.checked_by != step.checked_by:
        return CHECKED
    return UNCHANGED


def _do(work: Work, batch: list[Step], record: Record, *, force: bool) -> Iterator[Done]:
    """Makes and checks the steps of a batch, each recorded as soon as it is done."""
    states = {step.name: _state(step, record, work.output, force=force) for step in batch}
    needed = [step for step in batch if states[step.name] == MADE]
    started = time.perf_counter()
    if needed:
        # Before anything is written, so that a run that is killed finds its own files again.
        for step in needed:
            record.steps[step.name] = Made(made_of="", files=dict.fromkeys(step.files, ""), seconds=0)
        record.write(work.output)
        needed[0].make(needed)
    each = (time.perf_counter() - started) / max(1, len(needed))
    for step in batch:
        state, seconds = states[step.name], each
        if state == CHECKED:
            assert step.check is not None  # only such steps have a second key
            logger.info("proving %s again", step.files[0])
            started = time.perf_counter()
            step.check()
            seconds = time.perf_counter() - started
        if state == UNCHANGED:
            yield Done(step.name, state, step.files)
            continue
        before = record.steps[step.name].seconds if state == CHECKED else seconds
        record.steps[step.name] = Made(
            made_of=step.made_of(),
            checked_by=step.checked_by,
            files=_hashes(work.output, step.files),
            seconds=before,
        )
        record.write(work.output)
        yield Done(step.name, state, step.files, seconds)


def _foreseen(work: Work, steps: Iterable[Step], record: Record, *, force: bool) -> Iterator[Done]:
    from aether_deploy.recipes.estimates import estimate

    earlier_changed = force
    for step in steps:
        # What is made of changed files will be made, too; its key cannot be known yet.
        state = MADE if step.late and earlier_changed else _state(step, record, work.output, force=force)
        earlier_changed |= state != UNCHANGED
        known = record.steps.get(step.name)
        foreseen = None if state == UNCHANGED else estimate(work, step, known, check=state == CHECKED)
        yield Done(step.name, state, step.files, estimate=foreseen)


def _hashes(output: Path, files: Iterable[str]) -> dict[str, str]:
    """Relative path -> sha256 of files, and of all files below folders."""
    found: dict[str, str] = {}
    for name in files:
        path = output / name
        below = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        found |= {item.relative_to(output).as_posix(): sha256_of(item) for item in below}
    return found


def _require_ours(work: Work, steps: Iterable[Step], record: Record, *, force: bool) -> None:
    """Raises AetherDeployError before anything is run if a file would be replaced that the recipe did not make."""
    from aether_deploy.publishing.release_folder import require_place, require_unchanged

    ours = {name: sha256 for made in record.steps.values() for name, sha256 in made.files.items()}
    for name in dict.fromkeys(name for step in steps for name in step.files):
        path = work.output / name
        if path.is_dir():
            # What is in a release is known by its list of hashes.
            require_place(path, overwrite=True)
            if not force:
                require_unchanged(path)
            continue
        # "" stands for a run that did not end.
        if force or not path.exists() or ours.get(name) in ("", sha256_of(path)):
            continue
        what = "was changed since this recipe made it" if name in ours else "is there already, not made by this recipe"
        raise AetherDeployError(f"{path}: {what}; move it away, or add --force to replace it")
