"""Reads options files and hashes; writes so that no file under its final name is ever half-written or unproved."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aether_deploy.errors import AetherDeployError, ConfigError

__all__ = [
    "is_temporary",
    "lock_folder",
    "locked",
    "publish",
    "read_toml",
    "replacing",
    "require_free",
    "scratch",
    "sha256_of",
    "staging",
]

# Everything temporary names its owner, <machine>-<process>-<random>, so that a later run can tell what a killed one
# left from what another one is writing.
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_OWNER = r"(?P<machine>[0-9a-f]{6})-(?P<pid>\d{1,9})-[0-9a-f]{8}"
_TEMPORARY = re.compile(rf"\.(?:.+\.|staging-){_OWNER}(?:\.\w+)?")
_SCRATCH = re.compile(rf"aether-[a-z]+-{_OWNER}")
# A clock may be coarse; a process that began this much later than a file was last written is not its owner.
_CLOCK = 2.0

# What keeps a file from being written, whoever raises it.
_CANNOT_WRITE = frozenset(
    getattr(errno, name)
    for name in [
        "ENOSPC",
        "EDQUOT",
        "EFBIG",
        "EROFS",
        "EACCES",
        "EPERM",
        "EIO",
        "EISDIR",
        "ENOTDIR",
        "ENAMETOOLONG",
        "ENOTEMPTY",
    ]
    if hasattr(errno, name)
)

_swept: set[Path] = set()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder; it becomes the target if the block succeeds, else it is deleted.

    The block writes, reloads and proves the file. Leftovers of killed processes in that folder are deleted too.

    Raises:
        AetherDeployError: the folder cannot be made, the file not written, or a folder is in its place.
    """
    with _cannot_write(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_no_folder(target)
        if target.parent not in _swept:
            _sweep(target.parent, _TEMPORARY)
            _swept.add(target.parent)
        temporary = target.with_name(f".{target.stem}.{_owner()}{target.suffix}")
        temporary.touch()
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside another, for files that `publish` moves out together; deleted with what is left in it.

    Leftovers of killed processes are deleted too.

    Raises:
        AetherDeployError: the folder cannot be made, or what goes into it cannot be written.
    """
    with _cannot_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, _TEMPORARY)
        path = folder / f".staging-{_owner()}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A folder in the system's temporary one, deleted at the end; those that killed processes left are deleted too.

    Args:
        purpose: a word in lower case, for its name.
    """
    everywhere = Path(tempfile.gettempdir())
    _sweep(everywhere, _SCRATCH)
    path = everywhere / f"aether-{purpose}-{_owner()}"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish(staged: Path, folder: Path) -> None:
    """Moves every file of a staging folder into place, manifests first.

    At every moment an artifact is whole and beside its own manifest, or absent: old artifacts are deleted first, and so
    are old manifests that no new one replaces. Two runs that publish into one folder take turns.

    Raises:
        AetherDeployError: something in the way cannot be replaced, such as a folder; nothing is changed then.
    """
    files = sorted(staged.iterdir(), key=lambda path: (path.suffix != ".json", path.name))
    with locked(folder), _cannot_write(folder):
        for path in files:
            _require_no_folder(folder / path.name)
            _require_no_folder(folder / f"{path.name}.json")
        for path in files:
            if path.suffix != ".json":
                (folder / path.name).unlink(missing_ok=True)
                if not path.with_name(f"{path.name}.json").exists():
                    (folder / f"{path.name}.json").unlink(missing_ok=True)
        for path in files:
            path.replace(folder / path.name)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder alone among the processes that lock it; waits for the others."""
    descriptor = lock_folder(folder, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock_folder(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds a folder until it is closed, or until the process ends, however it ends.

    Args:
        folder: that exists.
        wait: until no other process holds it.
    Returns:
        None where folders cannot be locked: on Windows.
    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # some network file systems have no locks
    return descriptor


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has the name of one that `replacing` or `staging` made."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextlib.contextmanager
def _cannot_write(target: Path) -> Iterator[None]:
    """Turns a full disk, a missing permission and the like into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE and not isinstance(error, FileExistsError):
            raise
        raise AetherDeployError(
            f"{target}: cannot be written ({error.strerror}); free what it needs, or choose another place with --output"
        ) from error


def _require_no_folder(target: Path) -> None:
    if target.is_dir():
        raise AetherDeployError(
            f"{target}: cannot be written, a folder has that name; move it away, or choose another place with --output"
        )


def _owner() -> str:
    return f"{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"


def _sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Deletes what processes of this machine left that are no more."""
    for path in folder.iterdir():
        match = pattern.fullmatch(path.name)
        if match and match["machine"] == _MACHINE and not _lives(int(match["pid"]), path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _lives(pid: int, path: Path) -> bool:
    """Whether the process that made a file still runs; another one may have its number by now."""
    import psutil

    try:
        return bool(psutil.Process(pid).create_time() <= path.stat().st_mtime + _CLOCK)
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


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
    # Numbers of thousands of digits and deep nesting are not TOMLDecodeError.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no TOML ({error}); options files are TOML") from error


def require_free(target: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raises AetherDeployError if a target is one of the inputs, or exists and may not be replaced."""
    if target.resolve() in [path.resolve() for path in inputs]:
        raise AetherDeployError(f"{target} is an input itself; choose another --output")
    if target.exists() and not overwrite:
        raise AetherDeployError(f"{target} is there already; add --overwrite or choose another --output")


def sha256_of(*paths: Path) -> str:
    """Hexadecimal sha256 of a file, or of several one after the other, read in blocks."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
