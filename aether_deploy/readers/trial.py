"""A file in every reader, each in a process of its own, since some end theirs; judged by the file's own precision."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.artifacts.opening import known_file, open_known
from aether_deploy.errors import AetherDeployError, RunnerError
from aether_deploy.files import scratch
from aether_deploy.pictures.images import list_images, read_image
from aether_deploy.pictures.sizes import fitted
from aether_deploy.proof.figures import figures_of
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.readers.reader import READERS, MissingError, Reader, RefusedError, read_of
from aether_deploy.samples import PHOTOS
from aether_deploy.text import in_one_line

__all__ = ["DIFFERS", "MISSING", "REFUSES", "WORKS", "DiffersError", "Trial", "try_readers"]

logger = logging.getLogger(__name__)

WORKS, DIFFERS, REFUSES, MISSING = "works", "differs", "refuses", "not here"
# An odd size, so that no reader gets away with multiples of anything.
_SIZE = (37, 53)
_PATIENCE = 300
# A twentieth of an 8-bit level, which no picture shows: how fp32 is computed is the reader's own affair, and Vulkan in
# software is 0.014 of a level off the processor.
_NOTHING = 0.05 / 255


class DiffersError(AetherDeployError):
    """A reader makes another picture of a file."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """What a reader did.

    Attributes:
        reader: its name.
        verdict: works, differs, refuses or `not here`.
        detail: how far off it is, or why it refuses.
    """

    reader: str
    verdict: str
    detail: str


def try_readers(path: Path, *, trust: bool = False) -> Iterator[Trial]:
    """Gives a photo to the file itself and to every reader that knows its kind.

    Args:
        path: an exported file.
        trust: see `known_file`.
    Raises:
        AetherDeployError: the file cannot be read or run here.
    """
    file = known_file(path, trust=trust)
    readers = [reader for reader in READERS if file.format.kind in reader.kinds]
    if not readers:
        raise RunnerError(f"{path}: no reader of a {file.format.title}; give a file that export made")
    with scratch("readers") as folder:
        expected = None
        if file.format.kind != "engine":
            with open_known(file, device="cpu", faithful=True, trust=trust) as runner:
                n, c, h, w = runner.static or (1, runner.in_chans, *_SIZE)
                photo = fitted(read_image(list_images(PHOTOS)[0]), n, h, w)[:, [0, 1, 2, 0][:c]]
                lr = np.ascontiguousarray(photo, np.float32)
                expected, precision = runner.run(lr), runner.precision
            np.save(folder / "lr.npy", lr)
        for reader in readers:
            logger.info("%s", reader.name)
            verdict, detail = _in_a_process(reader, path, folder)
            if verdict == WORKS and (folder / "sr.npy").exists() and expected is not None:
                verdict, detail = _judged(expected, np.load(folder / "sr.npy"), precision)
                (folder / "sr.npy").unlink()
            yield Trial(reader.name, verdict, detail)


def _judged(expected: Array, found: Array, precision: str) -> tuple[str, str]:
    if found.shape != expected.shape:
        return DIFFERS, f"its output is {found.shape}, expected {expected.shape}"
    figures = figures_of(expected, found)
    limit = max(TOLERANCES[precision].max_abs, _NOTHING)
    detail = f"{figures.max_abs * 255:.2g} of an 8-bit level"
    return (WORKS if figures.max_abs <= limit else DIFFERS), f"{detail}, {limit * 255:.2g} allowed in {precision}"


def _in_a_process(reader: Reader, path: Path, folder: Path) -> tuple[str, str]:
    """(verdict, detail); an output is left in `folder`."""
    which = (reader.module, reader.function)
    words = [sys.executable, "-m", "aether_deploy.readers.trial", *which, str(path.resolve()), str(folder)]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
        verdict, detail = json.loads(ran.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return REFUSES, f"it was not done after {_PATIENCE} s"
    except (IndexError, ValueError):
        return REFUSES, f"its process died ({ran.returncode})"
    hint = f"; pip install {reader.package}" if verdict == MISSING and " and " not in reader.package else ""
    return str(verdict), f"{detail}{hint if reader.package else ''}"


def _main(module: str, function: str, path: Path, folder: Path) -> tuple[str, str]:
    given = folder / "lr.npy"
    try:
        found = read_of(module, function)(
            path, np.load(given) if given.exists() else np.zeros((1, 3, *_SIZE), np.float32)
        )
    except MissingError as error:
        return MISSING, in_one_line(error)
    except RefusedError as error:
        return REFUSES, in_one_line(error)[:200]
    except Exception as error:  # noqa: BLE001 - whatever a reader raises is its refusal
        return REFUSES, in_one_line(error)[:200]
    if found is not None:
        np.save(folder / "sr.npy", found)
    return WORKS, "takes it" if found is None else ""


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))))
