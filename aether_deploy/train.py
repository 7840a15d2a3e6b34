"""`train`: neosr's own training with our network injected, even on a machine without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.files import replacing, require_free
from aether_deploy.templates import template_names, template_text

__all__ = ["command"]


@click.command(cls=cli.Command, example="train --template medium-x2 train.toml")
@click.argument("options", required=False, type=click.Path(path_type=Path))
@click.option("--neosr", "checkout", type=click.Path(path_type=Path), metavar="PATH", help="A neosr checkout.")
@click.option("--neosr-python", default=sys.executable, metavar="EXE", show_default="this one", help="neosr's Python.")
@click.option("--resume", is_flag=True, help="Continue from the newest training state (checkout only).")
@click.option(
    "--template",
    type=cli.Choice(template_names()),
    help="Write a commented options file to OPTIONS, and stop; train.toml by default.",
)
@cli.overwrite_option
@cli.json_option
def command(
    options: Path | None,
    checkout: Path | None,
    neosr_python: str,
    resume: bool,
    template: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train in neosr itself, with the options file OPTIONS.

    Nothing is installed there. The installed package writes below ./experiments, a checkout below its own folder.
    Without a GPU the CPU stands in for CUDA, in float32: enough for small networks and trials.
    """
    if template is not None:
        _write_template(template, options or Path("train.toml"), overwrite=overwrite, as_json=as_json)
        return
    if options is None:
        raise click.UsageError("missing argument 'OPTIONS'; --template NAME writes a file to begin with")
    cli.require_readable(options)
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
    passes = f": {trained.receipt.forwards} forward passes" if trained.receipt.forwards else ""
    cli.say(f"{trained.receipt.describe()}{passes}")
    cli.say(f"newest checkpoint: {trained.checkpoint}")
    cli.next_command("python", "-m", "aether_deploy.fuse", trained.experiment)


def _write_template(name: str, target: Path, *, overwrite: bool, as_json: bool) -> None:
    require_free(target, [], overwrite=overwrite)
    with replacing(target) as temporary:
        temporary.write_text(template_text(name), encoding="utf-8")
    cli.say(f"wrote {target}; set the folders of your photos in it, dataroot_gt and dataroot_lq", err=as_json)
    if as_json:
        cli.print_json({"options": str(target)})
    cli.next_command("python", "-m", "aether_deploy.train", target, as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.train")
