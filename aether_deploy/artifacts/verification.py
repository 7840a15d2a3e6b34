"""Whether files are those that their manifests, and a list of hashes from elsewhere, describe; nothing is run."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from aether_deploy.artifacts.formats import format_of
from aether_deploy.errors import AetherDeployError, ManifestError
from aether_deploy.files import sha256_of
from aether_deploy.proof.manifest import manifest_path, read_manifest

__all__ = ["SUMS", "FileCheck", "verify_files"]

logger = logging.getLogger(__name__)

# The usual name of such a list, as `sha256sum` writes and reads it.
SUMS = "SHA256SUMS"
_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found out about one file.

    Attributes:
        file: relative to the folder.
        found: what agrees, for people: `its manifest`, `the list`.
        wrong: what does not; "" if nothing.
    """

    file: str
    found: tuple[str, ...]
    wrong: str


def verify_files(path: str | os.PathLike[str], against: str | os.PathLike[str] | None = None) -> list[FileCheck]:
    """Hashes a file, or every artifact in a folder, and compares it with its manifest and with a list of hashes.

    A manifest finds damage, and a file that took another's place. It does not find a forger, who changes both: only a
    list that came another way does.

    Args:
        path: an artifact or checkpoint; or a folder of them.
        against: a list as `sha256sum` writes it, its names relative to the folder; by default the folder's SHA256SUMS,
            if it has one.
    Raises:
        AetherDeployError: nothing to check, or the list cannot be read.
    """
    path = Path(path)
    folder, single = (path, None) if path.is_dir() else (path.parent, path.name)
    if against is None and (folder / SUMS).is_file():
        against = folder / SUMS
    listed = {} if against is None else _read_sums(Path(against))
    if single is not None:
        names = [single]
    else:
        there = {file.name for file in folder.iterdir() if not file.name.startswith(".") and format_of(file)}
        names = sorted(there | listed.keys())
    if not names:
        raise AetherDeployError(f"{folder}: no artifact in it, and no list of hashes; give a file or another folder")
    return [_check(folder, name, listed, against is not None) for name in names]


def _check(folder: Path, name: str, listed: dict[str, str], has_list: bool) -> FileCheck:
    path = folder / name
    logger.info("%s", name)
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        return FileCheck(name, (), f"cannot be read ({error.strerror})")
    found, wrong = [], []
    if has_list:
        if name not in listed:
            wrong.append("not in the list")
        elif listed[name] != sha256:
            wrong.append(f"sha256 {sha256[:12]}..., the list says {listed[name][:12]}...")
        else:
            found.append("the list")
    try:
        manifest = read_manifest(path)
        if manifest is None:
            if format_of(path) and not has_list:
                wrong.append(f"no {manifest_path(path).name} beside it")
        elif manifest.artifact["sha256"] != sha256:
            wrong.append(f"sha256 {sha256[:12]}..., its manifest says {manifest.artifact['sha256'][:12]}...")
        else:
            found.append("its manifest")
    except ManifestError as error:
        wrong.append(str(error))
    return FileCheck(name, tuple(found), "; ".join(wrong))


def _read_sums(path: Path) -> dict[str, str]:
    """Name -> sha256 of a list; names lead nowhere but into the folder."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise AetherDeployError(f"{path}: cannot be read ({reason}); give a list that sha256sum wrote") from error
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        name = Path(match["name"]) if match else Path("/")
        if match is None or name.is_absolute() or ".." in name.parts or str(name) in listed:
            raise AetherDeployError(f"{path}, line {number}: {line!r}; expected a sha256, two spaces and a file's name")
        listed[str(name)] = match["sha256"].lower()
    if not listed:
        raise AetherDeployError(f"{path}: an empty list; give one that sha256sum wrote")
    return listed
