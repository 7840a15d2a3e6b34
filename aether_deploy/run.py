"""`python -m aether_deploy.run`: the whole pipeline from one file; what did not change is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli

if TYPE_CHECKING:
    from aether_deploy.recipes.recipe import Recipe
    from aether_deploy.recipes.running import Done

__all__ = ["command"]


def _show_schema(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from aether_deploy.recipes.recipe import schema

        click.echo(json.dumps(schema(), indent=2))
        ctx.exit()


@click.command(cls=cli.Command, example="run recipe.toml --dry-run", name="run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be done, with sizes, time and memory, and stop.")
@click.option("--force", is_flag=True, help="Do everything again, and replace files that the recipe did not make.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_schema,
    help="Print the JSON schema of recipes, for editors, and stop.",
)
@cli.json_option
def command(recipe: Path, dry_run: bool, force: bool, as_json: bool) -> None:
    """Do all that RECIPE asks for, a TOML file: fuse, validate, export, report, release.

    What was made of the same checkpoint, settings and tools is left as it is. If only photos or limits have changed,
    files are compared again, not made again. Complete recipes with comments are in export_configs/.
    """
    with cli.progress("run"):
        from aether_deploy.recipes.recipe import read_recipe
        from aether_deploy.recipes.running import run_recipe

        read = read_recipe(recipe)
        done = run_recipe(read, dry_run=dry_run, force=force)
    _show(read, done, dry_run=dry_run, as_json=as_json)
    words = ["python", "-m", "aether_deploy.run", recipe, *(["--force"] if force else [])]
    if not dry_run:
        folder = Path(read.output)
        words = ["python", "-m", "aether_deploy.verify", folder / "release" if read.release else folder]
        words += ["--parity"] if read.release else []
    cli.next_command(*words, as_json=as_json)


def _show(recipe: Recipe, done: list[Done], *, dry_run: bool, as_json: bool) -> None:
    out = cli.console(stderr=as_json)
    width = max((len(one.step) for one in done), default=0)
    for one in done:
        out.print(f"{one.step:{width}}  {_state(one, Path(recipe.output), dry_run=dry_run)}")
    todo = [one for one in done if one.state != "unchanged"]
    if not todo:
        out.print(f"nothing to do: {recipe.output} holds what this recipe makes")
    estimates = [one.estimate for one in todo if one.estimate]
    if dry_run and estimates:
        seconds, memory = sum(item.seconds for item in estimates), max(item.memory for item in estimates)
        out.print(f"together about {_duration(seconds)}, at most about {memory / 2**30:.1f} GiB of memory")
    if as_json:
        cli.print_json({"output": recipe.output, "dry_run": dry_run, "steps": [_as_dict(one) for one in done]})


def _state(one: Done, output: Path, *, dry_run: bool) -> str:
    if one.state == "unchanged":
        return "unchanged"
    if one.estimate is None:
        return f"{one.state} in {_duration(one.seconds)}{_verdict(output / one.files[0])}"
    size = "" if one.estimate.bytes is None else f", about {one.estimate.bytes / 1e6:.1f} MB"
    return f"would be {one.state}{size}, about {_duration(one.estimate.seconds)}"


def _verdict(file: Path) -> str:
    """What was proved about an artifact; "" for what is none."""
    from aether_deploy.proof.manifest import read_manifest
    from aether_deploy.proof.words import verdict_line

    manifest = read_manifest(file) if file.is_file() else None
    parity = manifest.proof[1] if manifest else None
    return "" if parity is None else f". {verdict_line(parity)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _as_dict(one: Done) -> dict[str, Any]:
    value: dict[str, Any] = {"step": one.step, "state": one.state, "files": list(one.files)}
    if one.estimate is None:
        return {**value, "seconds": round(one.seconds, 2)}
    about = one.estimate
    return {**value, "about": {"bytes": about.bytes, "seconds": round(about.seconds, 1), "memory": about.memory}}


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.run")
