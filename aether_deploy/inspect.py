"""`python -m aether_deploy.inspect`: what a checkpoint, an ONNX file or an engine is."""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.artifacts.formats import format_of

__all__ = ["command"]


@click.command(cls=cli.Command, example="inspect 2x_Name.pth", name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@cli.checkpoint_options
@cli.json_option
def command(file: Path, param_key: str, opt: Path | None, img_range: float | None, as_json: bool) -> None:
    """Show what FILE is: a checkpoint, neosr's experiments/NAME, an ONNX file or an engine."""
    with cli.progress("inspect"):
        from aether_deploy.artifacts.inspection import inspect_file

        found = inspect_file(file, param_key=param_key, img_range=img_range, options=opt)
    if as_json:
        cli.print_json(found)
    else:
        out = cli.console()
        for key, value in found.items():
            shown = " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
            out.print(f"{key:12} {shown}")
    row = format_of(Path(found["file"]))
    assert row is not None  # it has just been inspected
    onward, *rest = row.next
    cli.next_command("python", "-m", f"aether_deploy.{onward}", file, *rest, as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.inspect")
