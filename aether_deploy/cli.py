"""What every command shares: errors in one line, progress on stderr, JSON on stdout, a config file.

Importing this must stay cheap: `--help` of a command imports neither torch nor onnx.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy.errors import AetherDeployError, ConfigError, ParityError
from aether_deploy.files import read_toml

if TYPE_CHECKING:
    from rich.console import Console

    from aether_deploy.parity import ParityReport

__all__ = [
    "DEVICE",
    "Command",
    "config_option",
    "console",
    "device_option",
    "images_option",
    "json_option",
    "main",
    "next_command",
    "print_json",
    "progress",
    "show_report",
    "trust_option",
]

# Command -> module; the order is that of `aether-deploy --help`.
COMMANDS = {
    "demo": "demo",
    "inspect": "inspect",
    "install-arch": "install_arch",
    "train": "train",
    "fuse": "fuse",
    "validate": "validate",
    "export": "export",
    "parity": "parity",
    "upscale": "upscale",
    "benchmark": "benchmark",
    "report": "report",
    "doctor": "doctor",
}


class Command(click.Command):
    """A click command that turns known errors into one line and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Known errors end it with 1, a failed parity with 3 and its report."""
        try:
            return super().invoke(ctx)
        except AetherDeployError as error:
            as_json = bool(ctx.params.get("as_json"))
            if isinstance(error, ParityError):
                show_report(error.report, console(stderr=True))
            click.echo(f"error: {error}", err=True)
            if as_json and isinstance(error, ParityError):
                print_json({**error.facts, "error": str(error), "parity": error.report.as_dict()})
            ctx.exit(error.exit_code)


class _Lazy(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"aether_deploy.{COMMANDS[cmd_name]}")
        found: click.Command = module.command
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(COMMANDS)}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy)
@click.version_option(package_name="aether-deploy")
def main() -> None:
    """Deploys AetherNet checkpoints: fuse, prove, export, run.

    Every command is also `python -m aether_deploy.COMMAND`.
    """


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, the rest on stderr."
)

images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos to prove parity on, your own instead of the packaged four.",
)


# `runners.DEVICES`, which `--help` does not import.
DEVICE = click.Choice(["auto", "cpu", "cuda", "tensorrt"])

device_option = click.option(
    "--device",
    type=DEVICE,
    default="auto",
    show_default=True,
    help="auto is CUDA where it loads, else the CPU; one that is named and does not load is an error.",
)

trust_option = click.option(
    "--trust", is_flag=True, help="Load an engine, which is code, that no manifest vouches for."
)


def checkpoint_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How to read a checkpoint: which weights of it, and the one value that they do not show."""
    for option in (
        click.option(
            "--img-range",
            type=float,
            help="The network's img_range; overrides --opt. 1.0 where neither says.",
            show_default=False,
        ),
        click.option(
            "--opt",
            type=click.Path(path_type=Path),
            metavar="NEOSR_OPTIONS",
            help="The training's neosr options file, for img_range.",
            show_default=False,
        ),
        click.option(
            "--param-key", default="auto", help="Which weights of the file: params_ema, params ...", show_default=True
        ),
    ):
        function = option(function)
    return function


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--config TOML`: values for the options of a command; flags override them."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="TOML",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="Options from a TOML file, named as the flags; flags given here override them.",
    )(function)


def _read_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        values = load_config(path, ctx.command.params)
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        ctx.exit(error.exit_code)
    ctx.default_map = {**(ctx.default_map or {}), **values}


def load_config(path: Path, params: Sequence[click.Parameter]) -> dict[str, Any]:
    """Reads a command's options from TOML.

    Raises:
        ConfigError: not there, no TOML, or a key that is no option; names the nearest one.
    """
    values = read_toml(path)
    names = {
        flag.removeprefix("--"): param
        for param in params
        if isinstance(param, click.Option) and param.expose_value
        for flag in param.opts
        if flag.startswith("--")
    }
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names)}"
            raise ConfigError(f"{path}: unknown key {key!r}; {hint}")
        param = names[name]
        if param.multiple and not isinstance(value, list):
            value = [value]
        result[str(param.name)] = value
    return result


def console(*, stderr: bool = False) -> Console:
    """A rich console that never breaks a path or a command over two lines."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_json(value: dict[str, Any]) -> None:
    """The one JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def next_command(*words: object, as_json: bool = False) -> None:
    """The last line: what to type next."""
    import shlex

    line = shlex.join(str(word) for word in words)
    click.echo(f"\nnext: {line}", err=as_json)


class _StatusHandler(logging.Handler):
    """Hands on each message, and the `fraction` of the work done where a record has one (else None)."""

    def __init__(self, update: Callable[[str, float | None], None]) -> None:
        super().__init__(logging.INFO)
        self._update = update

    def emit(self, record: logging.LogRecord) -> None:
        self._update(record.getMessage(), getattr(record, "fraction", None))


def _moving_line(out: Console, description: str, stack: contextlib.ExitStack) -> logging.Handler:
    """A spinner and a text, with a bar while a fraction is known."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    bar = BarColumn()
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    moving = stack.enter_context(Progress(*columns, console=out, transient=True))
    task = moving.add_task(escape(description), total=None)

    def update(text: str, fraction: float | None) -> None:
        moving.columns = columns if fraction is None else (*columns, bar)
        moving.update(task, description=f"{escape(description)}: {escape(text)}", total=1.0, completed=fraction or 0.0)

    return _StatusHandler(update)


@contextlib.contextmanager
def progress(description: str) -> Iterator[None]:
    """Shows the library's log as a moving status line on stderr; warnings stay. Silent where no terminal is."""
    out = console(stderr=True)
    log = logging.getLogger("aether_deploy")
    log.setLevel(logging.INFO)
    warning = logging.StreamHandler(sys.stderr)
    warning.setLevel(logging.WARNING)
    warning.setFormatter(logging.Formatter("note: %(message)s"))
    with contextlib.ExitStack() as stack:
        handlers: list[logging.Handler] = [warning]
        if out.is_terminal:
            handlers.append(_moving_line(out, description, stack))
        for handler in handlers:
            log.addHandler(handler)
            stack.callback(log.removeHandler, handler)
        yield


def show_report(report: ParityReport, out: Console, *, title: str = "parity") -> None:
    """A table with a row a case, and what the gate allows."""
    from rich.table import Table

    table = Table(
        "case", "max abs", "mean abs", "PSNR dB", "levels", "differing", "", title=title, title_justify="left"
    )
    for result in report.results:
        figures = result.figures
        table.add_row(
            result.case,
            f"{figures.max_abs:.1e}",
            f"{figures.mean_abs:.1e}",
            f"{figures.psnr:.1f}",
            str(figures.max_level),
            f"{figures.levels_share:.3%}",
            "[red]✗[/red]" if result.failure else "[green]✓[/green]",
        )
    table.add_section()
    limits = {f"allowed ({report.gate})": report.tolerance}
    if report.tolerance.drawn != 1:
        limits["allowed on what is drawn"] = report.tolerance.for_drawn()
    for name, limit in limits.items():
        table.add_row(name, f"{limit.max_abs:.1e}", f"{limit.mean_abs:.1e}", f"≥ {limit.min_psnr:.0f}", "", "", "")
    out.print(table)
