"""`python -m aether_deploy.verify`: files compared with their manifests and a list of hashes, and proved once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli
from aether_deploy.errors import ManifestError

if TYPE_CHECKING:
    from aether_deploy.artifacts.verification import FileCheck, Proved

__all__ = ["command"]


@click.command(cls=cli.Command, example="verify out", name="verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="SHA256SUMS",
    help="A list of hashes that came another way than the files; the folder's own SHA256SUMS, if there is one, by "
    "default.",
)
@click.option("--parity", is_flag=True, help="Run every artifact of the folder and compare it with the network again.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="For --parity: the checkpoint as it was trained; the fused one in the folder by default.",
)
@cli.images_option
@cli.json_option
def command(
    path: Path, against: Path | None, parity: bool, checkpoint: Path | None, images: Path | None, as_json: bool
) -> None:
    """Check PATH, a file or a folder, against its manifests and a list of hashes.

    Every file of a folder with a SHA256SUMS is hashed, pictures and texts too. Without --parity nothing is loaded or
    run. A manifest finds damage, not a forger, who would change both; --against does. With --parity, every artifact is
    proved again; one that is not the same network makes the exit code 3.
    """
    if (checkpoint or images) and not parity:
        raise click.UsageError("--checkpoint and --images are for --parity; add it, or leave them out")
    if parity and not path.is_dir():
        raise click.UsageError(f"--parity is for a folder, {path} is none; compare two files with the parity command")
    with cli.progress("verify"):
        from aether_deploy.artifacts.verification import prove_files, verify_files
        from aether_deploy.proof.verdict import ParityError

        checked = verify_files(path, against)
        bad = [check for check in checked if check.wrong]
        # What is damaged is not run.
        proved = list(prove_files(path, checkpoint, images)) if parity and not bad else []
    failed = [one for one in proved if one.failure]
    _show(checked, proved, as_json=as_json)
    found = _as_json(checked, proved)
    if bad:
        raise ManifestError(
            f"{len(bad)} of {len(checked)} files are not what is recorded, the first {bad[0].file}; get them again",
            facts=found,
        )
    if failed:
        first = failed[0].error
        assert first is not None  # it failed
        error = ParityError(f"{len(failed)} of {len(proved)} files are not the same network: {first}", first.report)
        error.facts |= found
        raise error
    if as_json:
        cli.print_json(found)
    file = path if path.is_file() else path / next((one.file for one in checked if _is_artifact(one)), checked[0].file)
    cli.next_command("python", "-m", "aether_deploy.inspect", file, as_json=as_json)


def _is_artifact(check: FileCheck) -> bool:
    from aether_deploy.artifacts.formats import format_of

    return format_of(Path(check.file)) is not None


def _show(checked: list[FileCheck], proved: list[Proved], *, as_json: bool) -> None:
    out = cli.console(stderr=as_json)
    for check in checked:
        out.print(cli.mark(not check.wrong), f"{check.file}: {check.wrong or ', '.join(check.found)}")
    for one in proved:
        out.print(cli.mark(not one.failure), f"{one.file}: {_figures(one)}")


def _as_json(checked: list[FileCheck], proved: list[Proved]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "files": [{"file": check.file, "agrees_with": list(check.found), "wrong": check.wrong} for check in checked]
    }
    if proved:
        value["proved"] = [{"file": one.file, "failure": one.failure, "parity": one.parity} for one in proved]
    value["passed"] = not any(check.wrong for check in checked) and not any(one.failure for one in proved)
    return value


def _figures(one: Proved) -> str:
    if one.failure:
        return one.failure
    if one.parity is None:
        return "the reference that the others were compared with"
    from aether_deploy.proof.words import verdict_line

    return verdict_line(one.parity).replace("PROVED", "proved again")


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.verify")
