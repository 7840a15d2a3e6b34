"""A file -> what is known about it, and a runner: found, hashed once, compared with its manifest, opened."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aether_deploy.artifacts.formats import FORMATS, KnownFile, format_of
from aether_deploy.errors import ManifestError, RunnerError
from aether_deploy.files import sha256_of
from aether_deploy.network.experiment import newest_checkpoint
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.proof.manifest import manifest_path, read_manifest, require_match

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

logger = logging.getLogger(__name__)

__all__ = ["OpenedArtifact", "files_of", "known_file", "open_artifact", "open_known", "open_runner", "open_upscaler"]


@dataclass(frozen=True, slots=True)
class OpenedArtifact:
    """A file that runs; a context manager that closes the runner at the end.

    Attributes:
        file: what is known about it.
        runner: of the file.
    """

    file: KnownFile
    runner: Runner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.runner.close()


def files_of(file: KnownFile) -> tuple[Path, ...]:
    """The file, its parts and its manifest: what has to travel with it."""
    path = file.path.resolve()
    beside = (manifest_path(path),) if manifest_path(path).exists() else ()
    return (path, *file.format.parts_of(path), *beside)


def known_file(path: str | os.PathLike[str], *, trust: bool = False) -> KnownFile:
    """Recognises a file by its suffix, hashes it, and compares it with the manifest beside it.

    Args:
        path: a checkpoint, neosr's folder, an ONNX file or an engine.
        trust: accept a file that is not the one that its manifest describes.
    Raises:
        RunnerError: the file cannot be read, or has an unknown suffix.
        CheckpointError: a folder without checkpoints.
        ManifestError: not the file that was proved, a damaged manifest, or a manifest without its file.
    """
    path = Path(path)
    if path.is_dir():
        path = newest_checkpoint(path)
    row = format_of(path)
    if row is None:
        known = ", ".join(dict.fromkeys(suffix for row in FORMATS.values() for suffix in row.suffixes))
        raise RunnerError(f"{path}: no runner for {path.suffix or 'this'}; expected one of {known}")
    # A link is judged by the file behind it, wherever it is; a manifest may also have been linked beside it.
    found = read_manifest(path.resolve()) or read_manifest(path)
    if path.exists() and not path.is_file():
        raise RunnerError(f"{path}: no regular file; give a file on a disk")  # a pipe or a device may have no end
    try:
        sha256 = sha256_of(path, *row.parts_of(path.resolve()))
    except OSError as error:
        if found is not None and not path.exists():
            raise ManifestError(f"{path}: not there, only its manifest is; export it again") from error
        raise RunnerError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error
    if found is not None and not trust:
        require_match(path, found, sha256)
    return KnownFile(path, row, sha256, found)


def open_known(
    file: KnownFile,
    *,
    device: str | None = None,
    threads: int | None = None,
    trust: bool = False,
    faithful: bool = False,
) -> Runner:
    """A runner for a file from `known_file`, with a warning if no manifest vouches for it; see `open_artifact`."""
    if not file.matches and file.format.kind != "checkpoint":
        what = "no manifest is beside it" if file.manifest is None else "it is not the file that its manifest describes"
        logger.warning("%s: %s: what was proved about it is not known", file.path, what)
    return file.format.maker.open_file(file, device=device, threads=threads, trust=trust, faithful=faithful)


def open_artifact(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    trust: bool = False,
    faithful: bool = False,
) -> OpenedArtifact:
    """Opens a checkpoint in PyTorch, an ONNX file in ONNX Runtime, or an engine in TensorRT.

    Args:
        path: the file; for a checkpoint also neosr's folder.
        device: one of `devices.DEVICES`, with its number where there are several, such as `cuda:1`. `auto` is CUDA
            if it really loads, else the CPU, with a warning. None is the CPU, except for an engine, which runs on the
            GPU and refuses `cpu`.
        threads: on the CPU; by default one per core.
        trust: open a file that its manifest does not describe, or an engine that no manifest vouches for.
        faithful: on the CPU, round the results of half precision as its types say; ONNX Runtime's CPU provider computes
            in fp32, which is faster.
    Raises:
        RunnerError: an unknown suffix, or a device that is missing or cannot run the file.
        CheckpointError: a checkpoint that cannot be read.
        EngineError, ManifestError: a file that may not or cannot be loaded.
    """
    file = known_file(path, trust=trust)
    return OpenedArtifact(file, open_known(file, device=device, threads=threads, trust=trust, faithful=faithful))


def open_upscaler(
    path: Path,
    device: str,
    threads: int,
    *,
    tile: int | None = None,
    overlap: str | int = "auto",
    batch: int = 1,
    trust: bool = False,
) -> Upscaler:
    """A file, ready to upscale pictures, in a worker; see `open_artifact` and `Upscaler`."""
    runner = open_artifact(path, device=device, threads=threads or None, trust=trust).runner
    return Upscaler(runner, tile=tile, overlap=overlap, batch=batch)


def open_runner(
    path: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None, trust: bool = False
) -> Runner:
    """A runner for any artifact or checkpoint; `with` closes it.

    Its `run` takes (N, C, H, W) float32 RGB in [0, 1] and returns (N, C, scale*H, scale*W), unclamped.

    Args:
        path, device, threads, trust: see `open_artifact`.
    Raises:
        RunnerError, CheckpointError, EngineError, ManifestError: see `open_artifact`.
    """
    return open_artifact(path, device=device, threads=threads, trust=trust).runner
