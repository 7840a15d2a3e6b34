"""`python -m aether_deploy.conform`: a file in every reader that is installed here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from aether_deploy import cli

__all__ = ["command"]


@click.command(cls=cli.Command, example="conform out/2x_Name_fp32_op20.onnx", name="conform")
@click.argument("file", type=click.Path(path_type=Path))
@cli.trust_option
@cli.json_option
def command(file: Path, trust: bool, as_json: bool) -> None:
    """Try FILE in every reader that is installed here.

    Each gets the same photo in a process of its own; its picture is compared with what the file gives here. The exit
    code is 3 if one gives another picture.
    """
    cli.require_readable(file)
    with cli.progress("conform"):
        from aether_deploy.readers.trial import DIFFERS, MISSING, WORKS, DiffersError, try_readers

        trials = list(try_readers(file, trust=trust))
    for trial in trials:
        mark = {WORKS: "✓", MISSING: "-"}.get(trial.verdict, "✗")
        cli.say(f"{mark} {trial.reader}: {trial.verdict}, {trial.detail}", err=as_json)
    found = {"file": str(file), "readers": [dataclasses.asdict(trial) for trial in trials]}
    wrong = [trial.reader for trial in trials if trial.verdict == DIFFERS]
    if wrong:
        raise DiffersError(
            f"{file}: another picture in {', '.join(wrong)}; report it there, with the file", facts=found
        )
    if as_json:
        cli.print_json(found)
    cli.next_command("upscale", file, "PHOTO.png", as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.conform")
