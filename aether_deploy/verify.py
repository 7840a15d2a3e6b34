"""`python -m aether_deploy.verify`: files compared with their manifests and with a list of hashes."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli

__all__ = ["command"]


@click.command(cls=cli.Command, name="verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="SHA256SUMS",
    help="A list of hashes that came another way than the files; the folder's own SHA256SUMS, if there is one, by "
    "default.",
)
@cli.json_option
def command(path: Path, against: Path | None, as_json: bool) -> None:
    """Hashes PATH, a file or every artifact in a folder, and compares it with its manifest and a list of hashes.

    Nothing is loaded or run. A manifest finds damage, not a forger, who would change both; --against does.
    """
    with cli.progress("verify"):
        from aether_deploy.artifacts.verification import verify_files
        from aether_deploy.errors import ManifestError

        checked = verify_files(path, against)
    out = cli.console(stderr=as_json)
    for check in checked:
        out.print(cli.mark(not check.wrong), f"{check.file}: {check.wrong or ', '.join(check.found)}")
    bad = [check for check in checked if check.wrong]
    if as_json:
        files = [{"file": check.file, "agrees_with": list(check.found), "wrong": check.wrong} for check in checked]
        cli.print_json({"files": files, "passed": not bad})
    if bad:
        raise ManifestError(
            f"{len(bad)} of {len(checked)} files are not what is recorded, the first {bad[0].file}; get them again"
        )
    cli.next_command(
        "python", "-m", "aether_deploy.inspect", path if path.is_file() else path / checked[0].file, as_json=as_json
    )


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.verify")
