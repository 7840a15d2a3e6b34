"""`train`: neosr's own training with our network injected, even on a machine without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aether_deploy import cli

__all__ = ["command"]


@click.command(cls=cli.Command)
@click.argument("options", type=click.Path(path_type=Path))
@click.option("--neosr", "checkout", type=click.Path(path_type=Path), metavar="PATH", help="A neosr checkout.")
@click.option("--neosr-python", default=sys.executable, metavar="EXE", show_default="this one", help="neosr's Python.")
@click.option("--resume", is_flag=True, help="Continue from the newest training state (checkout only).")
@cli.json_option
def command(options: Path, checkout: Path | None, neosr_python: str, resume: bool, as_json: bool) -> None:
    """Train with the neosr options file OPTIONS, in neosr itself; nothing is installed there.

    The installed package writes below ./experiments, a checkout below its own folder. Without a GPU the CPU stands in
    for CUDA, in float32: enough for small networks and trials.
    """
    from aether_deploy.neosr_run.neosr import Neosr, NeosrRunError
    from aether_deploy.neosr_run.training import train

    try:
        with cli.progress(f"neosr trains {options.name}"):
            trained = train(options, Neosr(checkout, neosr_python), resume=resume)
    except NeosrRunError as error:
        for line in error.log_tail:
            cli.say(f"neosr: {line}", err=True)
        raise
    if as_json:
        cli.print_json({"experiment": str(trained.experiment), "checkpoint": str(trained.checkpoint)})
        return
    cli.say(f"{trained.receipt.describe()}: {trained.receipt.forwards} forward passes")
    cli.say(f"newest checkpoint: {trained.checkpoint}")
    cli.next_command("python", "-m", "aether_deploy.fuse", trained.experiment)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.train")
