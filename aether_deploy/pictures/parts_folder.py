"""The hidden folder beside a video's result that holds its parts, and that belongs to one run at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aether_deploy.errors import ImageError
from aether_deploy.files import lock_folder

__all__ = ["parts_folder"]

_DIGITS = 12


@contextlib.contextmanager
def parts_folder(target: Path, identity: dict[str, Any]) -> Iterator[Path]:
    """The folder for a run's parts, named by a hash of all that they depend on; deleted if the block succeeds.

    What an interrupted run with the same identity finished is still in it. Folders that others left for the same
    target are deleted. The kernel frees the folder when the process ends, however it ends.

    Args:
        target: the video to write.
        identity: what the parts depend on.
    Raises:
        ImageError: the folder cannot be made, an old one not deleted, or another run is writing the target.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:_DIGITS]
    folder = target.with_name(f".{target.name}.{digest}.parts")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(folder, target))
            stack.callback(_delete_empty, folder)
            _delete_others(folder, target)
            for unfinished in folder.glob("*.tmp"):
                unfinished.unlink()
        except OSError as error:
            raise ImageError(f"{target}: cannot be written ({error.strerror}); choose another --output") from error
        yield folder
        shutil.rmtree(folder)


def _delete_empty(folder: Path) -> None:
    """Deletes a folder unless it holds parts, for a run that resumes."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _delete_others(folder: Path, target: Path) -> None:
    for stale in _folders(target):
        if stale != folder:
            with _held(stale, target):
                shutil.rmtree(stale)


def _folders(target: Path) -> list[Path]:
    """The folders of exactly this target, whatever characters its name has."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{{_DIGITS}}}\.parts")
    return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


@contextlib.contextmanager
def _held(folder: Path, target: Path) -> Iterator[None]:
    """Makes a folder if need be, and holds it against other runs."""
    descriptor = _lock(folder, target)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path, target: Path) -> int | None:
    """See `lock_folder`; makes the folder, and again if a run that ended in between has deleted it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = lock_folder(folder, wait=False)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            raise ImageError(
                f"another run is writing {target}; wait until it has ended, or choose another --output"
            ) from None
        if descriptor is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(folder.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)
