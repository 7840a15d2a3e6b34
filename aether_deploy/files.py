"""Reading options files and hashes; writing so that nothing half-written or unproved is seen under its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aether_deploy.errors import AetherDeployError, ConfigError

__all__ = ["is_temporary", "read_toml", "replacing", "require_free", "sha256_of", "staging"]

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


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder in another, for files that are moved out of it together; deleted with what is left in it.

    Raises:
        AetherDeployError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix=".staging-", dir=folder)
    except OSError as error:
        raise AetherDeployError(
            f"{folder}: cannot be written ({error.strerror}); choose another place with --output"
        ) from error
    with made as path:
        yield Path(path)


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


def read_toml(path: Path) -> dict[str, Any]:
    """An options file.

    Raises:
        ConfigError: not there, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read ({reason}); check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no TOML ({error}); options files are TOML") from error


def require_free(target: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raises AetherDeployError if a target is one of the inputs, or is there and may not be replaced."""
    if target.resolve() in [path.resolve() for path in inputs]:
        raise AetherDeployError(f"{target} is an input itself; choose another --output")
    if target.exists() and not overwrite:
        raise AetherDeployError(f"{target} is there already; add --overwrite or choose another --output")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
