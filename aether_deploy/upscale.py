"""`python -m aether_deploy.upscale`: runs a picture, a folder of pictures or a video through any artifact."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli
from aether_deploy.errors import AetherDeployError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_deploy.artifacts.formats import KnownFile
    from aether_deploy.pictures.batch_run import FolderResult
    from aether_deploy.pictures.ray_pool import RayPool
    from aether_deploy.pictures.upscale_any import Upscaled
    from aether_deploy.pictures.upscaling import Upscaler

__all__ = ["FORMATS", "command"]


# As in `pictures.images`; repeated here so that `--help` does not import it.
FORMATS = ("png", "jpg", "webp", "tif", "bmp")


class _AutoOr(click.ParamType[int | str]):
    """A whole number of at least `least`, or one of the given words."""

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
        if not text.isdecimal() or len(text) > 9 or int(text) < self._least:
            self.fail(f"{text!r}; expected {', '.join(self._words)} or a number of at least {self._least}", param, ctx)
        return int(text)


class _Devices(click.ParamType[tuple[str, ...]]):
    """Devices, separated by commas."""

    name = "DEVICE,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Fails as a usage error for what is no device."""
        return tuple(cli.DEVICE.convert(text.strip(), param, ctx) for text in str(value).split(","))


@click.command(
    cls=cli.Command,
    example="upscale out/2x_Name_fp32_op20.onnx photo.png -o photo_2x.webp",
    name="upscale",
    context_settings={"show_default": True},
)
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
    "--tile", type=_AutoOr("auto", least=16), default="auto", help="Largest side of a tile; auto fits the memory."
)
@click.option(
    "--overlap",
    type=_AutoOr("auto", "exact", least=0),
    default="auto",
    help="Pixels not used at a tile's edges; auto measures them on this network, exact matches untiled output.",
)
@click.option("--batch", type=click.IntRange(1), default=1, help="Tiles in one run.")
@cli.device_option
@click.option("--threads", type=click.IntRange(1), help="CPU threads; one per core by default.", show_default=False)
@click.option(
    "--on",
    metavar="ray|ADDRESS",
    help="Several workers, on a Ray started here or on one that runs, as ray://HEAD:10001; for folders and videos.",
    show_default=False,
)
@click.option(
    "--workers", type=click.IntRange(1), help="How many; one per GPU or machine by default.", show_default=False
)
@click.option(
    "--devices",
    type=_Devices(),
    help="One worker for each device of this machine, as cuda:0,cuda:1.",
    show_default=False,
)
@click.option(
    "--format",
    "suffix",
    type=cli.Choice(FORMATS),
    help="Format of a folder's results; that of each picture by default.",
    show_default=False,
)
@click.option("--codec", help="Video encoder of FFmpeg; libx264 by default, libvpx-vp9 for .webm.", show_default=False)
@click.option("--crf", type=click.IntRange(0, 63), default=16, help="Video quality; lower is better and larger.")
@click.option("--keep-going", is_flag=True, help="Upscale what can be decoded of a damaged video.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
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
    on: str | None,
    workers: int | None,
    devices: tuple[str, ...] | None,
    suffix: str | None,
    codec: str | None,
    crf: int,
    keep_going: bool,
    overwrite: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Upscale INPUT, a picture, a folder of pictures or a video, with MODEL.

    MODEL is a checkpoint or an exported file. A folder keeps its tree. Finished pictures are skipped, so the same
    command resumes after an interruption, as for a video; a picture edited since is done again. Another model or
    overlap needs another --output, or --overwrite. A damaged video is refused before anything is upscaled, unless
    --keep-going is given.
    """
    _require_order(model, source)
    cli.require_readable(model, source)
    with cli.progress("upscale"):
        from aether_deploy.artifacts.opening import known_file, open_known, open_upscaler
        from aether_deploy.pictures.upscale_any import require_many, upscale_path
        from aether_deploy.pictures.upscaling import Upscaler

        file = known_file(model, trust=trust)
        upscaling: dict[str, Any] = {
            "tile": tile if isinstance(tile, int) else None,
            "overlap": overlap,
            "batch": batch,
        }
        with contextlib.ExitStack() as stack:
            upscaler: Upscaler | RayPool
            if on or workers or devices:
                require_many(source)
                opening = functools.partial(open_upscaler, **upscaling, trust=trust)
                pool = _pool(file, opening, on, workers, devices or (), threads, device, overlap)
                upscaler = stack.enter_context(pool)
                name = f"{pool.name}, {pool.count} workers"
            else:
                runner = stack.enter_context(open_known(file, device=device, threads=threads, trust=trust))
                upscaler, name = Upscaler(runner, **upscaling), runner.name
            done = upscale_path(
                upscaler,
                source,
                output,
                model=file.sha256,
                suffix=f".{suffix}" if suffix else None,
                codec=codec,
                crf=crf,
                overwrite=overwrite,
                keep_going=keep_going,
            )
    out = cli.console(stderr=as_json)
    out.print(f"{_describe(done, upscaler.scale)} ({name})")
    found = {**_as_json(done), "scale": upscaler.scale, "runner": name}
    if done.folder and done.folder.failures:
        from aether_deploy.errors import ImageError

        failures = done.folder.failures
        for _, reason in failures:
            cli.say(f"failed  {reason}", err=True)
        raise ImageError(
            f"{len(failures)} of {_count(done.folder)} pictures failed; the same command tries them again", facts=found
        )
    if as_json:
        cli.print_json(found)
    opener = {"darwin": ["open"], "win32": ["start"]}.get(sys.platform, ["xdg-open"])
    cli.next_command(*opener, done.output, as_json=as_json)


def _pool(
    file: KnownFile,
    opening: Callable[[Path, str, int], Upscaler],
    on: str | None,
    workers: int | None,
    devices: tuple[str, ...],
    threads: int | None,
    device: str,
    overlap: int | str,
) -> RayPool:
    from aether_deploy.artifacts.opening import files_of
    from aether_deploy.pictures.ray_pool import Network, RayPool, Workers
    from aether_deploy.pictures.ray_worker import Worker

    if devices and (workers or on not in (None, "ray")):
        raise AetherDeployError("--devices: one worker for each device of this machine; leave --workers and --on out")
    where = Workers("" if on in (None, "ray") else str(on), workers or 0, devices, threads or 0)
    return RayPool(where, Network(files_of(file), Worker, opening, device, overlap))


def _require_order(model: Path, source: Path) -> None:
    """Raises AetherDeployError if the arguments were swapped."""
    from aether_deploy.artifacts.formats import format_of

    if format_of(model) is None and model.suffix and format_of(source) is not None:
        raise AetherDeployError(
            f"{model} is no model, and {source} is one; the model comes first: aether-deploy upscale {source} {model}"
        )


def _describe(done: Upscaled, scale: int) -> str:
    if done.folder is not None:
        folder = done.folder
        busy = f", network busy {folder.share.value:.1%}" if folder.written else ""
        return f"wrote {len(folder.written)} pictures to {done.output}, {len(folder.skipped)} were there before{busy}"
    assert done.size is not None  # of a picture or a video
    width, height = done.size
    if done.video is not None:
        video = done.video
        sound = f", {video.audio} audio and {video.subtitles} subtitle streams copied"
        busy = f", network busy {video.share.value:.1%}"
        times = video.duration / max(video.seconds, 1e-9) * (1 - video.resumed / max(video.frames, 1))
        speed = f", {video.fps:.2f} fps, {video.seconds:.0f} s, {times:.2g} times real time"
        return f"wrote {done.output} ({video.frames} frames of {width}x{height}{sound}{busy}{speed})"
    return f"wrote {done.output} ({width // scale}x{height // scale} -> {width}x{height})"


def _as_json(done: Upscaled) -> dict[str, Any]:
    found: dict[str, Any] = {"output": str(done.output)}
    if done.folder is not None:
        folder = done.folder
        found |= {
            "pictures": _count(folder),
            "written": [str(path) for path in folder.written],
            "skipped": [str(path) for path in folder.skipped],
            "failures": [{"file": str(path), "reason": reason} for path, reason in folder.failures],
            "network_busy": folder.share.value,
        }
    if done.video is not None:
        names = ("frames", "damaged", "missing", "resumed", "audio", "subtitles")
        found |= {name: getattr(done.video, name) for name in names}
        found["network_busy"] = done.video.share.value
        found |= {"seconds": round(done.video.seconds, 3), "fps": round(done.video.fps, 3)}
    return found


def _count(folder: FolderResult) -> int:
    return len(folder.written) + len(folder.skipped) + len(folder.failures)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.upscale")
