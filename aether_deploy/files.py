"""Writing so that nothing half-written and nothing unproved is ever seen under its name."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from aether_deploy.errors import AetherDeployError

__all__ = ["is_temporary", "replacing"]

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<pid>\d+)(?P<suffix>\.\w+)?")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder; becomes the target if the block ends well, else is deleted.

    The block writes the file, reloads it and proves it. What a killed process left of the same target goes too.

    Raises:
        AetherDeployError: the folder cannot be made or written.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _delete_leftovers(target)
        temporary.touch()
    except OSError as error:
        raise AetherDeployError(
            f"{target}: cannot be written ({error.strerror}); choose another place with --output"
        ) from error
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file has the name of a temporary one of `replacing`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _delete_leftovers(target: Path) -> None:
    for path in target.parent.glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["stem"] == target.stem and (match["suffix"] or "") == target.suffix:
            if _alive(int(match["pid"])):
                continue
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))
