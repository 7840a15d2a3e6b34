"""`python -m aether_deploy.demo`: the whole pipeline on the packaged sample and a packaged photo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aether_deploy import cli
from aether_deploy.samples import SAMPLE
from aether_deploy.text import printable

if TYPE_CHECKING:
    from aether_deploy.proof.verdict import ParityReport

__all__ = ["command"]


@click.command(cls=cli.Command, example="demo", name="demo", context_settings={"show_default": True})
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", default="demo", help="Folder for the files."
)
@cli.json_option
def command(output: Path, as_json: bool) -> None:
    """Run the whole pipeline on a packaged checkpoint and photo, and write a report."""
    with cli.progress("demo"):
        from aether_deploy.artifacts.checkpoint_file import default_output, fuse_checkpoint
        from aether_deploy.artifacts.model import ExportOptions
        from aether_deploy.artifacts.pipeline import export_model
        from aether_deploy.network.checkpoint import load_checkpoint
        from aether_deploy.precisions.variant import variants
        from aether_deploy.proof.reference import Trained

        started = time.perf_counter()
        checkpoint = load_checkpoint(SAMPLE)
        trained = Trained(checkpoint)
        fused = fuse_checkpoint(checkpoint, output / default_output(checkpoint).name, trained=trained)
        assert fused.report is not None  # the sample is unfused
        options = ExportOptions(variants=variants(("fp32", "fp16")), output=output)
        artifacts = export_model(checkpoint, options, trained=trained)
        rows = [(fused.output, fused.report), *((artifact.path, artifact.report) for artifact in artifacts)]
        photo = _upscale_photo(artifacts[0].path, output)
        # Of the fp16 file, which has the larger differences.
        page = _write_report(artifacts[-1].path)
        seconds = time.perf_counter() - started

    out = cli.console(stderr=as_json)
    out.print(f"read {SAMPLE.name}: {checkpoint.spec.describe()}, trained in neosr")
    out.print(_table(rows, output))
    psnr, bicubic = photo["psnr"], photo["psnr_bicubic"]
    out.print(f"chelsea, {photo['lr']} -> {photo['sr']}: PSNR {psnr:.2f} dB, bicubic {bicubic:.2f} dB")
    out.print(f"pictures: {output / 'chelsea_aether.png'} beside {output / 'chelsea_bicubic.png'}")
    out.print(f"report:   {page}")
    out.print(f"all of it took {seconds:.0f} s")
    cli.show_verdict(rows[-1][1], out)
    if as_json:
        files = [{"file": str(path), "parity": report.as_dict()} for path, report in rows]
        cli.print_json({"files": files, "photo": photo, "report": str(page)})
    cli.next_command(
        "python",
        "-m",
        "aether_deploy.upscale",
        artifacts[0].path,
        output / "chelsea_lr.png",
        "--overwrite",
        as_json=as_json,
    )


def _write_report(model: Path) -> Path:
    """Writes the page that shows the comparison with the sample; on the CPU, so that it is the same everywhere."""
    from aether_deploy.html_report.facts import Request
    from aether_deploy.html_report.page import write_report

    page = model.with_name(f"{model.name}.html")
    facts = write_report(Request(model, SAMPLE, device="cpu"), page)
    assert facts.parity is not None  # it was compared with the sample
    facts.parity.require(model.name)
    return page


def _upscale_photo(model: Path, folder: Path) -> dict[str, float | str]:
    """Halves a photo, enlarges it again with the network and with bicubic, and measures both against the original."""
    from aether_deploy.artifacts.opening import open_runner
    from aether_deploy.pictures.images import read_image, write_image
    from aether_deploy.pictures.sizes import bicubic
    from aether_deploy.proof.figures import figures_of
    from aether_deploy.samples import PHOTOS

    truth = read_image(PHOTOS / "chelsea.png")
    height, width = truth.shape[2:]
    lr = bicubic(truth, width // 2, height // 2)
    pictures = {"lr": lr, "aether": open_runner(model).run(lr), "bicubic": bicubic(lr, width, height)}
    for name, picture in pictures.items():
        write_image(folder / f"chelsea_{name}.png", picture)
    psnr = {name: figures_of(truth, read_image(folder / f"chelsea_{name}.png")).psnr for name in ("aether", "bicubic")}
    return {
        "lr": f"{width // 2}x{height // 2}",
        "sr": f"{width}x{height}",
        "psnr": psnr["aether"],
        "psnr_bicubic": psnr["bicubic"],
    }


def _table(rows: list[tuple[Path, ParityReport]], folder: Path) -> object:
    from rich.table import Table

    count = len(rows[0][1].results)
    title = f"in {printable(folder)}, reloaded from disk and compared with the network as trained, on {count} inputs"
    table = Table("file", "MB", "worst error", "allowed", "in levels", title=title, title_justify="left")
    for path, report in rows:
        figures = report.overall
        table.add_row(
            path.name,
            f"{path.stat().st_size / 1e6:.1f}",
            f"{figures.max_abs:.1e}",
            f"{report.tolerance.max_abs:.0e}",
            f"{figures.max_abs * 255:.4f}",
        )
    return table


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.demo")
