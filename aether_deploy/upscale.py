"""`python -m aether_deploy.upscale`: a picture, a folder of them or a video through any artifact of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli

if TYPE_CHECKING:
    from aether_deploy.pictures.upscaling import Upscaler

__all__ = ["FORMATS", "command"]


# As `pictures.images` and `pictures.video` have them; here so that `--help` imports neither.
FORMATS = ("png", "jpg", "webp", "tif", "bmp")


class _AutoOr(click.ParamType[int | str]):
    """A whole number of at least `least`, or one of some words."""

    name = "number"

    def __init__(self, *words: str, least: int) -> None:
        self._words = words
        self._least = least

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join((*self._words, "N"))

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Fails as a usage error for anything else."""
        text = str(value)
        if text in self._words:
            return text
        if not text.isdecimal() or int(text) < self._least:
            self.fail(f"{text!r}; expected {', '.join(self._words)} or a number of at least {self._least}", param, ctx)
        return int(text)


@click.command(cls=cli.Command, name="upscale", context_settings={"show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Picture, video or folder to write, its format by its suffix; beside INPUT, with the scale in its name, "
    "by default.",
    show_default=False,
)
@click.option(
    "--tile", type=_AutoOr("auto", least=16), default="auto", help="Largest side of a tile; auto fits memory."
)
@click.option(
    "--overlap",
    type=_AutoOr("auto", "exact", least=0),
    default="auto",
    help="Pixels not used at a tile's edges: auto measures them on this network, exact is as if untiled.",
)
@click.option("--batch", type=click.IntRange(1), default=1, help="Tiles in one run.")
@cli.device_option
@click.option("--threads", type=click.IntRange(1), help="Of the CPU; one a core by default.", show_default=False)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(FORMATS),
    help="Of a folder's results; as each picture by default.",
    show_default=False,
)
@click.option("--codec", help="Video encoder of FFmpeg; libx264 by default, libvpx-vp9 for .webm.", show_default=False)
@click.option("--crf", type=click.IntRange(0, 63), default=16, help="Video quality; lower is better and larger.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@cli.trust_option
@cli.json_option
def command(
    model: Path,
    source: Path,
    output: Path | None,
    tile: int | str,
    overlap: int | str,
    batch: int,
    device: str,
    threads: int | None,
    suffix: str | None,
    codec: str | None,
    crf: int,
    overwrite: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Upscales INPUT, a picture, a folder of pictures or a video, with MODEL: a checkpoint or an exported file.

    A folder keeps its tree; what is done is skipped, so the same command goes on after an interruption, as it does for
    a video. A picture that was edited since is done again. Another model or overlap needs another --output, or
    --overwrite.
    """
    with cli.progress("upscale"):
        from aether_deploy.artifacts.opening import open_runner
        from aether_deploy.pictures.upscaling import Upscaler
        from aether_deploy.proof.manifest import verify_artifact

        if model.is_dir():
            from aether_deploy.network.checkpoint import newest_checkpoint

            model = newest_checkpoint(model)
        if not trust:
            verify_artifact(model)
        runner = open_runner(model, device=device, threads=threads, trust=trust)
        upscaler = Upscaler(runner, tile=tile if isinstance(tile, int) else None, overlap=overlap, batch=batch)
        if source.is_dir():
            found = _folder(upscaler, model, source, output, suffix, overwrite)
        elif _is_video(source):
            found = _video(upscaler, model, source, output, codec, crf, overwrite)
        else:
            found = _picture(upscaler, source, output, overwrite)
    out = cli.console(stderr=as_json)
    out.print(f"{found.pop('text')} ({runner.name})", markup=False)
    if as_json:
        cli.print_json({**found, "scale": runner.scale, "runner": runner.name})
    failures = found.get("failures", [])
    if failures:
        from aether_deploy.errors import ImageError

        for failure in failures:
            click.echo(f"failed  {failure['reason']}", err=True)
        raise ImageError(f"{len(failures)} of {found['pictures']} pictures failed; the same command tries them again")
    cli.next_command("python", "-m", "aether_deploy.benchmark", model, as_json=as_json)


def _picture(upscaler: Upscaler, source: Path, output: Path | None, overwrite: bool) -> dict[str, Any]:
    from aether_deploy.files import require_free
    from aether_deploy.pictures.batch_run import Job, upscale_picture

    target = output or source.with_name(f"{source.stem}_{upscaler.scale}x.png")
    target = target / f"{source.stem}.png" if target.is_dir() else target
    require_free(target, [source], overwrite=overwrite)
    height, width, _ = upscale_picture(upscaler, Job(source, target)).pixels.shape
    text = f"wrote {target} ({width // upscaler.scale}x{height // upscaler.scale} -> {width}x{height})"
    return {"text": text, "output": str(target)}


def _folder(
    upscaler: Upscaler, model: Path, source: Path, output: Path | None, suffix: str | None, overwrite: bool
) -> dict[str, Any]:
    from aether_deploy.files import sha256_of
    from aether_deploy.pictures.batch_run import plan_folder, upscale_folder

    target = output or source.with_name(f"{source.resolve().name}_{upscaler.scale}x")
    jobs = plan_folder(source, target, f".{suffix}" if suffix else None)
    result = upscale_folder(upscaler, jobs, target, model=sha256_of(model), overwrite=overwrite)
    busy = f", network busy {result.share.value:.1%}" if result.written else ""
    text = f"wrote {len(result.written)} pictures to {target}, {len(result.skipped)} were there before{busy}"
    return {
        "text": text,
        "output": str(target),
        "pictures": len(jobs),
        "written": [str(path) for path in result.written],
        "skipped": [str(path) for path in result.skipped],
        "failures": [{"file": str(path), "reason": reason} for path, reason in result.failures],
        "network_busy": result.share.value,
    }


def _video(
    upscaler: Upscaler, model: Path, source: Path, output: Path | None, codec: str | None, crf: int, overwrite: bool
) -> dict[str, Any]:
    from aether_deploy.files import require_free, sha256_of
    from aether_deploy.pictures.video import OUTPUTS, VideoOptions, upscale_video

    suffix = source.suffix.lower() if source.suffix.lower() in OUTPUTS else ".mkv"
    target = output or source.with_name(f"{source.stem}_{upscaler.scale}x{suffix}")
    require_free(target, [source], overwrite=overwrite)
    result = upscale_video(upscaler, source, target, VideoOptions(codec, crf), model=sha256_of(model))
    sound = f", {result.audio} audio and {result.subtitles} subtitle streams copied"
    size = f"{result.width}x{result.height}"
    text = f"wrote {target} ({result.frames} frames of {size}{sound}, network busy {result.share.value:.1%})"
    return {
        "text": text,
        "output": str(target),
        "frames": result.frames,
        "resumed": result.resumed,
        "audio": result.audio,
        "subtitles": result.subtitles,
        "network_busy": result.share.value,
    }


def _is_video(source: Path) -> bool:
    from aether_deploy.pictures.images import SUFFIXES

    if source.suffix.lower() in SUFFIXES or not source.is_file():
        return False
    from aether_deploy.pictures.video import VIDEO_SUFFIXES

    return source.suffix.lower() in VIDEO_SUFFIXES


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.upscale")
