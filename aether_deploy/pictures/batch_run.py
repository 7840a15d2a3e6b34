"""A folder of pictures: the tree is kept, finished results are skipped, and a bad file does not stop the run."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import AetherDeployError, ImageError
from aether_deploy.files import is_temporary, replacing
from aether_deploy.pictures.folder_record import read_record, write_record
from aether_deploy.pictures.images import SUFFIXES, Picture, check_writable, read_picture, write_picture
from aether_deploy.pictures.overlapped import Share, overlapped
from aether_deploy.pictures.upscaling import Upscaler

if TYPE_CHECKING:
    from aether_deploy.pictures.ray_pool import RayPool

__all__ = ["FolderResult", "Job", "Pace", "plan_folder", "require_no_folder", "upscale_folder", "upscale_picture"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to read and where its result goes."""

    source: Path
    target: Path


@dataclass(slots=True)
class FolderResult:
    """The outcome of a folder.

    Attributes:
        written, skipped: targets; the skipped ones already existed.
        failures: (source, reason) for each picture that could not be read, run or written.
        share: how much of the time the network was busy.
    """

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    share: Share = field(default_factory=lambda: Share(0, 0, 0, 0))


class Pace:
    """Speed so far and time left.

    Args:
        total: number of steps; 0 or None if unknown, which leaves the estimate out.
        done: how many of them an earlier run made.
    """

    def __init__(self, total: int | None, done: int = 0) -> None:
        self.total = total
        self.count = done
        self._began = time.monotonic()
        self._before = done

    def step(self, what: str) -> str:
        """Counts one more step: `3/10 what, 1.50/s, ETA 0:04`, minutes and seconds."""
        self.count += 1
        rate = (self.count - self._before) / max(time.monotonic() - self._began, 1e-9)
        if not self.total:
            return f"{self.count} {what}, {rate:.2f}/s"
        seconds = round(max(0, self.total - self.count) / rate)
        return f"{self.count}/{self.total} {what}, {rate:.2f}/s, ETA {seconds // 60}:{seconds % 60:02}"

    def stopped(self, kept: str = "") -> KeyboardInterrupt:
        """What to raise in place of a Ctrl-C: the command shows its message."""
        return KeyboardInterrupt(f"stopped at {self.count} of {self.total}{kept}; the same command goes on")


def plan_folder(folder: Path, output: Path, suffix: str | None = None) -> list[Job]:
    """A job for every picture below a folder, sorted by path, except hidden files and those below the output folder.

    Args:
        folder: searched recursively.
        output: gets the same tree.
        suffix: of the results, such as `.png`; by default each picture keeps its own.
    Raises:
        ImageError: no pictures, two that would become one file, or a result that would replace its source.
    """
    jobs: dict[Path, Job] = {}
    inside = output.resolve()
    for source in sorted(folder.rglob("*")):
        relative = source.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts) or is_temporary(source)
        if hidden or source.suffix.lower() not in SUFFIXES or not source.is_file():
            continue
        if source.resolve().is_relative_to(inside) and inside != folder.resolve():
            continue
        target = output / (relative.with_suffix(suffix) if suffix else relative)
        if target in jobs:
            raise ImageError(f"{jobs[target].source} and {source} would both become {target}; rename one")
        if target.resolve() == source.resolve():
            raise ImageError(f"{target} is the input itself; choose another --output")
        jobs[target] = Job(source, target)
    if not jobs:
        raise ImageError(f"{folder}: no picture below it; expected {', '.join(sorted(SUFFIXES))}")
    return list(jobs.values())


def upscale_folder(
    upscaler: Upscaler | RayPool, jobs: list[Job], output: Path, *, model: str = "", overwrite: bool = False
) -> FolderResult:
    """Runs every job that is not done yet; reading and writing overlap with the network.

    A target that exists is complete, since each is written under a temporary name first, and the record in the output
    folder says what made it: so a killed run resumes where it stopped. A picture edited since is done again; results
    older than any record are kept.

    Args:
        upscaler: the network, or workers that have it.
        jobs: from `plan_folder`.
        output: the folder given to `plan_folder`, which gets the record.
        model: the network's sha256.
        overwrite: redo every job.
    Raises:
        ImageError: the existing results were made by another model or with other settings.
    """
    result = FolderResult()
    open_jobs, result.skipped = _divide(jobs, output, upscaler.identity(model), overwrite)
    pace = Pace(len(jobs), len(result.skipped))

    def ended(job: Job, outcome: object) -> None:
        if isinstance(outcome, AetherDeployError):
            result.failures.append((job.source, str(outcome)))
        else:
            result.written.append(job.target)
        logger.info("%s", pace.step(job.source.name))

    try:
        if isinstance(upscaler, Upscaler):
            result.share = _here(upscaler, open_jobs, ended)
        else:
            result.share = _on_workers(upscaler, open_jobs, ended)
    except KeyboardInterrupt:
        raise pace.stopped() from None
    return result


def _here(upscaler: Upscaler, jobs: list[Job], ended: Callable[[Job, object], None]) -> Share:
    """In this process."""

    def read() -> Iterator[tuple[Job, Picture | AetherDeployError]]:
        for job in jobs:
            yield job, _attempt(_read, job, upscaler.scale)

    def work(item: tuple[Job, Picture | AetherDeployError]) -> tuple[Job, Picture | AetherDeployError]:
        job, picture = item
        return job, picture if isinstance(picture, AetherDeployError) else _attempt(upscaler, picture)

    def write(item: tuple[Job, Picture | AetherDeployError]) -> None:
        job, picture = item
        ended(job, picture if isinstance(picture, AetherDeployError) else _attempt(_write, job, picture))

    return overlapped(read(), work, write)


def _on_workers(pool: RayPool, jobs: list[Job], ended: Callable[[Job, object], None]) -> Share:
    """Pictures travel as they are on the disk, and come back encoded; only this process writes into the folder."""
    began, busy = time.monotonic(), 0.0

    def tasks() -> Iterator[tuple[Job, tuple[Path, Path, bytes]]]:
        for job in jobs:
            content = _attempt(_content, job)
            if isinstance(content, AetherDeployError):
                ended(job, content)
            else:
                yield job, (job.source, job.target, content)

    for done in pool.map("picture", tasks()):
        busy += done.seconds
        ended(done.task, ImageError(done.error) if done.error else _attempt(_keep, done.task, done.result))
    return pool.share(began, busy, len(jobs))


def _divide(jobs: list[Job], output: Path, made_by: dict[str, Any], overwrite: bool) -> tuple[list[Job], list[Path]]:
    """(jobs to do, targets already done); checks the record, or writes it."""
    record = None if overwrite else read_record(output, made_by)
    open_jobs, skipped = [], []
    for job in jobs:
        if overwrite or not job.target.is_file() or (record and not record.is_done(job.source, job.target)):
            open_jobs.append(job)
        else:
            skipped.append(job.target)
    if skipped and record is None:
        logger.warning(
            "%d results were in %s without a record of what made them; they are kept, --overwrite replaces them",
            len(skipped),
            output,
        )
    if open_jobs and record is None:
        write_record(output, made_by, overwrite=overwrite)
    return open_jobs, skipped


def upscale_picture(upscaler: Upscaler, job: Job) -> Picture:
    """Upscales one picture and writes it.

    Returns:
        the upscaled picture.
    Raises:
        ImageError: the picture cannot be read or written.
        OutOfMemoryError: not even the smallest tile fits.
    """
    result = upscaler(_read(job, upscaler.scale))
    _write(job, result)
    return result


def _attempt[**P, T](run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | AetherDeployError:
    """The result, or the error as a value, so that it travels with its job."""
    try:
        return run(*args, **kwargs)
    except AetherDeployError as error:
        return error


def require_no_folder(target: Path) -> None:
    """Raises ImageError if a folder has the name of a file to write."""
    if target.is_dir():
        raise ImageError(f"{target}: a folder has this name; move it away, or choose another --output")


def _read(job: Job, scale: int) -> Picture:
    require_no_folder(job.target)
    picture = read_picture(job.source)
    height, width, _ = picture.pixels.shape
    check_writable(job.target, alpha=picture.alpha, width=width * scale, height=height * scale)
    return picture


def _content(job: Job) -> bytes:
    require_no_folder(job.target)
    try:
        return job.source.read_bytes()
    except OSError as error:
        raise ImageError(f"{job.source}: cannot be read ({error.strerror}); check the file") from error


def _write(job: Job, picture: Picture) -> None:
    with _dated(job) as temporary:
        write_picture(temporary, picture)


def _keep(job: Job, content: bytes) -> None:
    with _dated(job) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def _dated(job: Job) -> Iterator[Path]:
    """`replacing`, with a date that a later run takes for done."""
    with replacing(job.target) as temporary:
        yield temporary
        # Of a picture that is dated in the future, or every run would take it for edited.
        source, written = job.source.stat().st_mtime_ns, temporary.stat().st_mtime_ns
        if source > written:
            os.utime(temporary, ns=(source, source))
