"""`validate`: neosr's own test run of the fused network against the unfused one as it was trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aether_deploy import cli
from aether_deploy.errors import ConfigError
from aether_deploy.text import printable

if TYPE_CHECKING:
    from aether_deploy.neosr_run.neosr import NeosrRunError
    from aether_deploy.neosr_run.validation import Validation

__all__ = ["command"]


@click.command(cls=cli.Command, example="validate 2x_Name_fused.pth --against 2x_Name.pth --images photos/lq")
@click.argument("fused", type=click.Path(path_type=Path))
@click.option(
    "--against",
    required=True,
    type=click.Path(path_type=Path),
    metavar="UNFUSED",
    help="The checkpoint as it was trained, or neosr's experiments/<name>.",
)
@click.option("--images", type=click.Path(path_type=Path), metavar="DIR", help="Low-resolution images to run.")
@click.option("--gt", type=click.Path(path_type=Path), metavar="DIR", help="Ground truth with the same file names.")
@click.option("--opt", type=click.Path(path_type=Path), metavar="TOML", help="Your own neosr test options.")
@click.option("--neosr", "checkout", type=click.Path(path_type=Path), metavar="PATH", help="A neosr checkout.")
@click.option("--neosr-python", default=sys.executable, metavar="EXE", show_default="this one", help="neosr's Python.")
@click.option("--img-range", type=float, metavar="X", help="The network's img_range, if it was not trained with 1.0.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Options, logs and images of both runs; by default <FUSED>_validation beside it.",
)
@cli.verbose_option
@cli.json_option
def command(
    fused: Path,
    against: Path,
    images: Path | None,
    gt: Path | None,
    opt: Path | None,
    checkout: Path | None,
    neosr_python: str,
    img_range: float | None,
    output: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Let neosr itself run the fused and the trained network, and compare both.

    Nothing is installed or copied into neosr. PSNR and SSIM are computed here; what neosr prints is shown as neosr's.
    Exits with 3 if the networks differ.
    """
    cli.require_readable(fused, against, images, gt, opt)
    if images is None and opt is None:
        raise ConfigError("no images: give --images DIR, or --opt TOML with datasets of its own")
    from aether_deploy.neosr_run.neosr import Neosr, NeosrRunError
    from aether_deploy.neosr_run.validation import validate

    folder = output or fused.parent / f"{fused.stem}_validation"
    neosr = Neosr(checkout, neosr_python)
    try:
        with cli.progress("validate"):
            validation = validate(
                fused, against, folder, images=images, gt=gt, opt=opt, neosr=neosr, img_range=img_range
            )
    except NeosrRunError as error:
        _show_log(error)
        raise
    if as_json and validation.report.passed:
        cli.print_json(validation.as_dict())
    elif not as_json:
        _show(validation, verbose=verbose)
    validation.report.require(fused.name)
    if not as_json:
        cli.say(f"{fused.name} is the trained network: {len(validation.images)} images run by neosr itself")
        cli.show_verdict(validation.report, cli.console())
        cli.next_command("python", "-m", "aether_deploy.export", fused)


def _show(validation: Validation, *, verbose: bool) -> None:
    from rich.table import Table

    out = cli.console()
    out.print(validation.fused.describe())
    out.print(validation.fused.neosr)
    out.print()
    for note in validation.notes:
        out.print(f"note: {note}")
    if verbose and validation.report.passed:
        cli.show_cases(validation.report, out, title="floats of both networks, caught in neosr")
    table = Table(
        "image",
        "levels",
        "differing",
        "PSNR unfused",
        "fused",
        "SSIM unfused",
        "fused",
        title="images that neosr saved",
    )
    for image in validation.images:
        psnr = ("–", "–") if image.psnr is None else tuple(f"{value:.3f}" for value in image.psnr)
        ssim = ("–", "–") if image.ssim is None else tuple(f"{value:.4f}" for value in image.ssim)
        table.add_row(printable(image.name), str(image.max_level), f"{image.levels_share:.3%}", *psnr, *ssim)
    table.title_justify = "left"
    out.print(table)
    for name, (unfused, fused) in validation.neosr_metrics.items():
        out.print(f"neosr printed {name}: {unfused} unfused, {fused} fused (not used here)")
    out.print(f"options, logs and images: {validation.folder}")


def _show_log(error: NeosrRunError) -> None:
    for line in error.log_tail:
        cli.say(f"neosr: {line}", err=True)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.validate")
