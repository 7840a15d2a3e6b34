"""Whether files are those that their manifests and a list of hashes describe, and whether they still prove right."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.formats import format_of
from aether_deploy.artifacts.opening import known_file
from aether_deploy.errors import AetherDeployError, ManifestError
from aether_deploy.files import replacing, sha256_of
from aether_deploy.proof.manifest import manifest_path, read_manifest

if TYPE_CHECKING:
    from aether_deploy.proof.verdict import ParityError

__all__ = ["SUMS", "FileCheck", "Proved", "files_below", "prove_files", "unlisted", "verify_files", "write_sums"]

logger = logging.getLogger(__name__)

# The usual name of such a list, as `sha256sum` writes and reads it.
SUMS = "SHA256SUMS"
# Strict, so that every changed byte of a list is found: hexadecimal digits can be written in two ways.
_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) (?P<mode>[ *])(?P<name>.+)")


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


@dataclass(frozen=True, slots=True)
class Proved:
    """A file that was compared once more.

    Attributes:
        file: relative to the folder.
        parity: the figures of this run, as in a manifest; None if it is the reference itself.
        error: why it is not the same network; None if it is.
    """

    file: str
    parity: dict[str, Any] | None
    error: ParityError | None = None

    @property
    def failure(self) -> str:
        """The error in words; "" if it is the same network."""
        return str(self.error or "")


def files_below(folder: Path) -> list[str]:
    """All files in a folder and below, but hidden ones and the list of hashes; relative, with `/`, sorted."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(
        path.as_posix() for path in found if path != Path(SUMS) and not any(part.startswith(".") for part in path.parts)
    )


def write_sums(folder: Path) -> Path:
    """Writes SHA256SUMS of all files in a folder and below, as `sha256sum` does; returns its path."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in files_below(folder)]
    target = folder / SUMS
    with replacing(target) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return target


def unlisted(folder: Path) -> list[str]:
    """Files in a folder and below that its SHA256SUMS does not list, hidden ones and what is below them too; relative.

    Raises:
        AetherDeployError: the list cannot be read.
    """
    listed = _read_sums(folder / SUMS)
    hidden = (path.relative_to(folder).as_posix() for path in folder.rglob(".*"))
    return [*(name for name in files_below(folder) if name not in listed), *hidden]


def verify_files(path: str | os.PathLike[str], against: str | os.PathLike[str] | None = None) -> list[FileCheck]:
    """Hashes a file, or every artifact in a folder, and compares it with its manifest and with a list of hashes.

    In a folder with a list, every file must be in it, pictures and texts too.

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
        there = files_below(folder) if (folder / SUMS).is_file() else _artifacts(folder)
        names = sorted({*there, *listed})
    if not names:
        raise AetherDeployError(f"{folder}: no artifact in it, and no list of hashes; give a file or another folder")
    return [_check(folder, name, listed, against is not None) for name in names]


def _artifacts(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith(".") and format_of(file))


def prove_files(
    folder: Path, checkpoint: Path | None = None, images: str | os.PathLike[str] | None = None
) -> Iterator[Proved]:
    """Compares every artifact of a folder with the trained network once more, one after the other.

    Args:
        folder: whose hashes were verified; nothing is written into it.
        checkpoint: as it was trained; by default the fused one in the folder.
        images: folder of photos for the cases; by default the packaged ones.
    Raises:
        AetherDeployError: there is no checkpoint to compare with, or a file cannot be run.
    """
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.network.families import spec_from_dict
    from aether_deploy.proof.reference import Trained
    from aether_deploy.proof.verdict import ParityError

    files = [file for file in map(known_file, (folder / name for name in _artifacts(folder))) if file.manifest]
    reference = checkpoint or next((file.path for file in files if file.format.kind == "checkpoint"), None)
    if reference is None or not files:
        raise AetherDeployError(f"{folder}: no artifact with a manifest, or no checkpoint to compare with; give one")
    assert files[0].manifest is not None  # chosen so
    img_range = spec_from_dict(files[0].manifest.network).img_range
    trained = Trained(load_checkpoint(reference, img_range=img_range), images)
    for file in files:
        if file.path == reference:
            yield Proved(file.path.name, None)
            continue
        try:
            manifest = file.format.maker.prove(file, trained)
        except ParityError as error:
            yield Proved(file.path.name, error.report.as_dict(), error)
        else:
            yield Proved(file.path.name, manifest.proof[1])


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
        elif manifest.artifact["sha256"] != (whole := _whole(path) or sha256):
            wrong.append(f"sha256 {whole[:12]}..., its manifest says {manifest.artifact['sha256'][:12]}...")
        else:
            found.append("its manifest")
    except ManifestError as error:
        wrong.append(str(error))
    return FileCheck(name, tuple(found), "; ".join(wrong))


def _whole(path: Path) -> str:
    """The sha256 of a file that has parts, with them; "" if it has none."""
    row = format_of(path)
    try:
        return sha256_of(path, *row.parts_of(path)) if row is not None and row.parts else ""
    except OSError as error:
        raise ManifestError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _read_sums(path: Path) -> dict[str, str]:
    """Name -> sha256 of a list; names lead nowhere but into the folder."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise AetherDeployError(f"{path}: cannot be read ({reason}); give a list that sha256sum wrote") from error
    listed: dict[str, str] = {}
    modes = set()
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    # Not `splitlines`, which takes six other characters for the end of a line.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        match = _LINE.fullmatch(line)
        name = Path(match["name"]) if match else Path("/")
        modes.add(match and match["mode"])
        if match is None or len(modes) > 1 or name.is_absolute() or ".." in name.parts or str(name) in listed:
            raise AetherDeployError(f"{path}, line {number}: {line!r}; expected a sha256, two spaces and a file's name")
        listed[str(name)] = match["sha256"]
    if not listed:
        raise AetherDeployError(f"{path}: an empty list; give one that sha256sum wrote")
    return listed
