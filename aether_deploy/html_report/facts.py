"""What a report states: the files, the parity of this run, and what was not executed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.inspection import describe_file
from aether_deploy.artifacts.opening import known_file, open_known
from aether_deploy.errors import EngineError, ManifestError
from aether_deploy.html_report.crops import Photo, detail, photo_of
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.pictures.sizes import centre
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.proof.cases import Case, parity_cases
from aether_deploy.proof.comparison import compare_runners, fitting_cases
from aether_deploy.proof.manifest import read_manifest, utc_now
from aether_deploy.proof.photos import PARITY_CROP, parity_photos
from aether_deploy.proof.verdict import ParityReport
from aether_deploy.samples import PHOTOS
from aether_deploy.text import printable

if TYPE_CHECKING:
    from aether_deploy.locating.location import Location
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.runners.protocol import Runner

__all__ = ["WHOLE", "Facts", "Request", "examine"]

logger = logging.getLogger(__name__)

# The largest part of a photo that is shown, (height, width) of the low resolution: what a large network takes less than
# a minute for.
WHOLE = (224, 256)


@dataclass(frozen=True, slots=True)
class Request:
    """What to report on.

    Attributes:
        model: any artifact.
        against: the checkpoint that it came from, or any other artifact; it runs on the CPU, an engine on the GPU. None
            compares nothing.
        images: folder of photos; by default the packaged ones.
        device: that the model runs on; see `open_runner`.
        trust: accept files that no manifest vouches for.
        trained: the checkpoint `against`, if it was read already, perhaps with options that its file does not tell.
        layers: find what each layer of the model errs; both must be checkpoints or ONNX files.
    """

    model: Path
    against: Path | None = None
    images: Path | None = None
    device: str = "auto"
    trust: bool = False
    trained: Checkpoint | None = None
    layers: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found.

    Attributes:
        request: the request.
        model, against: see `inspection.describe_file`.
        runner: name of the runner of the model, for people; "" if it could not be run.
        parity: of this run; None if nothing was compared.
        photos: the outputs for the parity cases that are photos.
        whole: the outputs for the photo with the most detail, as much of it as `WHOLE`; None if no photo is larger than
            a parity case, or the model takes no such size.
        siblings: (name, bytes) of the model, the checkpoint, and the files beside the model from the same checkpoint.
        statements: what a reader must know about how this was found, each a sentence.
        created: UTC, ISO 8601.
        location: what each layer errs; None if it was not asked for.
    """

    request: Request
    model: dict[str, Any]
    against: dict[str, Any] | None
    runner: str
    parity: ParityReport | None
    photos: tuple[Photo, ...]
    whole: Photo | None
    siblings: tuple[tuple[str, int], ...]
    statements: tuple[str, ...]
    created: str
    location: Location | None = None

    @property
    def verdict(self) -> str:
        """`passed`, `failed` or `not compared`, of this run."""
        if self.parity is None:
            return "not compared"
        return "passed" if self.parity.passed else "failed"

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON, without the pictures."""
        return {
            "verdict": self.verdict,
            "created": self.created,
            "model": self.model,
            "against": self.against,
            "device": self.request.device,
            "runner": self.runner or None,
            "statements": list(self.statements),
            "parity": self.parity and self.parity.as_dict(),
            "photos": [photo.as_dict() for photo in self.photos],
            **({"layers": self.location.as_dict()} if self.location else {}),
        }


def examine(request: Request) -> Facts:
    """Describes, runs and compares; a failed parity is a fact, not an error.

    Raises:
        AetherDeployError: a file cannot be read, may not be loaded, or cannot be run. If nothing is to be compared, an
            engine that cannot be run here is described all the same.
    """
    file = known_file(request.model, trust=request.trust)
    other = known_file(request.against, trust=request.trust) if request.against else None
    if other is not None:
        other = dataclasses.replace(other, loaded=request.trained)
    model, against = describe_file(file), describe_file(other) if other else None
    with _warnings() as warned, contextlib.ExitStack() as stack:
        try:
            opened = open_known(file, device=request.device, trust=request.trust, faithful=True)
        except EngineError as error:
            if request.against:
                raise
            said = (f"Not executed in this run: {error}.",)
            return Facts(request, model, None, "", None, (), None, _siblings(request, model, None), said, utc_now())
        runner = stack.enter_context(opened)
        reference = stack.enter_context(open_known(other, trust=request.trust, faithful=True)) if other else None
        parity, photos, left_out = _compare(request, runner, reference)
        whole = _whole(request, runner, reference)
    statements = [
        *_how_it_ran(request, model, runner),
        *([f"{against['file']}, the reference, ran as {reference.name}."] if against and reference else []),
        *_where_it_came_from(model, against),
        *([f"Outside the engine's profiles, so not run: {', '.join(left_out)}."] if left_out else []),
        *([] if photos else ["No photo is an input that the network takes, so there are no pictures."]),
        *(f"Warning of this run: {warning}." for warning in warned),
    ]
    location = None
    if request.layers and request.against is not None:
        from aether_deploy.artifacts.locating_files import locate_files

        device = None if request.device == "auto" else request.device
        found = locate_files(request.against, request.model, device=device, images=request.images, trust=request.trust)
        location = found.location
    return Facts(
        request,
        model,
        against,
        runner.name,
        parity,
        photos,
        whole,
        _siblings(request, model, against),
        tuple(statements),
        utc_now(),
        location,
    )


def _compare(
    request: Request, runner: Runner, reference: Runner | None
) -> tuple[ParityReport | None, tuple[Photo, ...], tuple[str, ...]]:
    """Runs each case once; the output that is judged is also the one that the pictures show."""
    photos = parity_photos(request.images)
    if reference is None:
        every = parity_cases(photos, in_chans=runner.in_chans, static=runner.static)
        cases, left_out = fitting_cases([case for case in every if _shows(case)], runner)
        return None, tuple(photo_of(case, None, runner.run(case.lr)) for case in cases), tuple(left_out)
    names = str(request.against), str(request.model)
    compared = compare_runners(reference, runner, photos, names=names)
    triples = zip(compared.reference.cases, compared.reference.outputs, compared.outputs, strict=True)
    shown = [photo_of(*one) for one in triples if _shows(one[0]) and one[1].shape == one[2].shape]
    return compared.report, tuple(shown), compared.left_out


def _whole(request: Request, runner: Runner, reference: Runner | None) -> Photo | None:
    """The part of at most `WHOLE` of the photo with the most detail, through both."""
    if runner.in_chans != 3:
        return None
    parts = []
    for path in list_images(PHOTOS if request.images is None else request.images):
        part = centre(read_image(path), *WHOLE)
        if part.shape[2] > PARITY_CROP[0] and part.shape[3] > PARITY_CROP[1]:
            parts.append(Case(printable(path.stem), part))
    best = max(parts, key=lambda case: float(detail(case.lr[0]).mean()), default=None)
    if best is None or not all(one.takes(best.lr.shape) for one in (runner, reference) if one):
        return None
    logger.info("the whole of %s", best.name)
    expected = reference.run(best.lr) if reference else None
    actual = runner.run(best.lr)
    return photo_of(best, expected, actual) if expected is None or expected.shape == actual.shape else None


def _siblings(request: Request, model: dict[str, Any], against: dict[str, Any] | None) -> tuple[tuple[str, int], ...]:
    found = {model["file"]: model["bytes"]}
    source = model["source"] and model["source"].get("sha256")
    for path in sorted(request.model.parent.glob("*.json")) if source and request.model.is_file() else ():
        with contextlib.suppress(ManifestError):
            manifest = read_manifest(path.with_suffix(""))
            if manifest is not None and manifest.source["sha256"] == source and path.with_suffix("").is_file():
                found[path.stem] = manifest.artifact["bytes"]
    if against is not None and against["sha256"] == source:
        found.setdefault(against["file"], against["bytes"])
    return tuple(sorted(found.items(), key=lambda item: -item[1]))


def _shows(case: Case) -> bool:
    """Whether a case is a picture that a page can show: a photo, in colour."""
    return not case.drawn and case.lr.shape[1] == 3


def _how_it_ran(request: Request, model: dict[str, Any], runner: Runner) -> Iterator[str]:
    gpu = "; no GPU took part" if runner.device == "cpu" else ""
    yield f"{model['file']} ran as {runner.name} (--device {request.device}{gpu})."
    row = PRECISIONS.get(runner.precision)
    executed = model["kind"] == "onnx" and runner.device == "cpu"
    if executed and row is not None and (row.half or not row.in_onnxruntime):
        yield (
            f"ONNX Runtime's CPU provider does not compute in {runner.precision}. Each operator ran in fp32 and its "
            "result was rounded as the graph says: what a GPU computes, but no GPU executed it in this run."
        )


def _where_it_came_from(model: dict[str, Any], against: dict[str, Any] | None) -> Iterator[str]:
    source = model["source"]
    origin = against["source"] if against else None
    if model["manifest"].startswith("of another file"):
        yield f"The manifest beside {model['file']} describes another file: what it records was not proved of this one."
    if against is None or not source:
        return
    if source["sha256"] == against["sha256"]:
        yield f"{against['file']} is the very file that {model['file']} was made from (same sha256)."
    elif origin and origin["sha256"] == source["sha256"]:
        yield f"{against['file']} and {model['file']} were made from one checkpoint, {source['file']} (same sha256)."
    else:
        yield f"{model['file']} names another file as its source: {source['file']}, sha256 {source['sha256'][:12]}…"


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the library's warnings, such as falling back to another device."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collector(logging.WARNING)
    log = logging.getLogger("aether_deploy")
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)
