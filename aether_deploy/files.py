"""Writing so that nothing half-written and nothing unproved is ever seen under its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from aether_deploy.errors import AetherDeployError

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder; becomes the target if the block ends well, else is deleted.

    The block writes the file, reloads it and proves it.

    Raises:
        AetherDeployError: the folder cannot be made or written.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
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
