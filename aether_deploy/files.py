"""Reads options files and hashes; writes so that no file under its final name is ever half-written or unproved."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aether_deploy.errors import AetherDeployError, ConfigError

__all__ = ["is_temporary", "publish", "read_toml", "replacing", "require_free", "sha256_of", "staging"]

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<pid>\d+)(?P<suffix>\.\w+)?")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder; it becomes the target if the block succeeds, else it is deleted.

    The block writes, reloads and proves the file. Leftovers of killed processes for the same target are deleted too.

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
    """A hidden folder inside another, for files that `publish` moves out together; deleted with what is left in it.

    Such folders left by killed processes are deleted too.

    Raises:
        AetherDeployError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".staging-*"):
            match = re.match(r"\.staging-(\d+)-", left.name)
            if match and not _alive(int(match[1])):
                shutil.rmtree(left, ignore_errors=True)
        made = tempfile.TemporaryDirectory(prefix=f".staging-{os.getpid()}-", dir=folder)
    except OSError as error:
        raise AetherDeployError(
            f"{folder}: cannot be written ({error.strerror}); choose another place with --output"
        ) from error
    with made as path:
        yield Path(path)


def publish(staged: Path, folder: Path) -> None:
    """Moves every file of a staging folder into place, manifests first.

    At every moment an artifact is whole and beside its own manifest, or absent: old artifacts are deleted first, and so
    are old manifests that no new one replaces.

    Raises:
        AetherDeployError: something in the way cannot be replaced, such as a folder.
    """
    files = sorted(staged.iterdir(), key=lambda path: (path.suffix != ".json", path.name))
    try:
        for path in files:
            if path.suffix != ".json":
                (folder / path.name).unlink(missing_ok=True)
                if not path.with_name(f"{path.name}.json").exists():
                    (folder / f"{path.name}.json").unlink(missing_ok=True)
        for path in files:
            path.replace(folder / path.name)
    except OSError as error:
        raise AetherDeployError(
            f"{folder / path.name}: cannot be replaced ({error.strerror}); move it away, or choose another --output"
        ) from error


def is_temporary(path: Path) -> bool:
    """Whether a file has the name of a temporary file of `replacing`."""
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
    """Reads an options file.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read ({reason}); check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no TOML ({error}); options files are TOML") from error


def require_free(target: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raises AetherDeployError if a target is one of the inputs, or exists and may not be replaced."""
    if target.resolve() in [path.resolve() for path in inputs]:
        raise AetherDeployError(f"{target} is an input itself; choose another --output")
    if target.exists() and not overwrite:
        raise AetherDeployError(f"{target} is there already; add --overwrite or choose another --output")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
