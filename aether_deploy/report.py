"""`python -m aether_deploy.report`: one HTML file that shows whether an artifact is the network as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli
from aether_deploy.files import require_free

if TYPE_CHECKING:
    from aether_deploy.html_report.facts import Facts

__all__ = [
    "command",
]


@click.command(cls=cli.Command, example="report out/2x_Name_fp16_op20.onnx 2x_Name.pth", name="report")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("against", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="HTML file, or a folder for it; <MODEL>.html beside MODEL by default.",
)
@cli.images_option
@click.option(
    "--benchmark",
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="The output of `benchmark --json`, to show as bars.",
)
@click.option("--layers", is_flag=True, help="Show what each layer errs, as `locate` does; takes longer.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@cli.device_option
@cli.trust_option
@cli.json_option
def command(
    model: Path,
    against: Path | None,
    output: Path | None,
    images: Path | None,
    benchmark: Path | None,
    layers: bool,
    overwrite: bool,
    device: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a page with pictures that shows whether MODEL is the network of AGAINST.

    MODEL is any artifact; AGAINST is the checkpoint that it came from, or any other artifact, and runs on the CPU.
    Without AGAINST nothing is compared: the page shows the proof that the manifest records, and says so. Exits with 3
    if the comparison fails; the page is still written and says so first.
    """
    if layers and against is None:
        raise click.UsageError("--layers needs AGAINST, the checkpoint that MODEL came from")
    name = f"{model.resolve().name}.html"
    target = output or model.parent / name
    target = target / name if target.is_dir() else target
    require_free(target, [path for path in (model, against, benchmark) if path], overwrite=overwrite)
    cli.without_tf32()
    with cli.progress("report"):
        from aether_deploy.html_report.facts import Request
        from aether_deploy.html_report.page import write_report

        facts = write_report(Request(model, against, images, device, trust, layers=layers), target, benchmark=benchmark)
    found = {"report": str(target), "bytes": target.stat().st_size, **facts.as_dict()}
    if facts.parity is not None:
        from aether_deploy.proof.verdict import ParityError

        try:
            facts.parity.require(f"{model}, compared with {against},", hint=f"; {target} shows it")
        except ParityError as error:
            error.facts = {**found, **error.facts}
            raise
    for line in _summary(facts, target):
        cli.say(line, err=as_json)
    if as_json:
        cli.print_json(found)
    cli.next_command(*_next(facts, model, output), as_json=as_json)


def _summary(facts: Facts, target: Path) -> list[str]:
    wrote = f"wrote {target} ({target.stat().st_size / 1e3:.0f} kB)"
    if facts.parity is None:
        return [f"{wrote}: nothing was compared in this run", *facts.statements]
    from aether_deploy.proof.words import verdict_line

    return [f"{wrote}, run by {facts.runner}", verdict_line(facts.parity.as_dict())]


def _next(facts: Facts, model: Path, output: Path | None) -> list[Any]:
    """The comparison, if none was made; else a use of the file."""
    if not facts.runner:
        return ["python", "-m", "aether_deploy.doctor"]
    if facts.parity is not None:
        return ["python", "-m", "aether_deploy.upscale", model, "PHOTO.png"]
    named = facts.model["source"]
    source = model.with_name(named["file"]) if named else None
    words = ["python", "-m", "aether_deploy.report", model, source if source and source.is_file() else "CHECKPOINT"]
    return [*words, *(["-o", output] if output else []), "--overwrite"]


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.report")
