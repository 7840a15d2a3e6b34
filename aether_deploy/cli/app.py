"""`aether-deploy COMMAND`: the commands, and how their errors end."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

from aether_deploy.cli.output import console, print_json, say, say_error, show_cases
from aether_deploy.errors import AetherDeployError

__all__ = ["COMMANDS", "Command", "main"]

# Command -> module, in the order of `aether-deploy --help`.
COMMANDS = {
    "demo": "demo",
    "inspect": "inspect",
    "install-arch": "install_arch",
    "train": "train",
    "fuse": "fuse",
    "validate": "validate",
    "export": "export",
    "parity": "parity",
    "locate": "locate",
    "verify": "verify",
    "upscale": "upscale",
    "conform": "conform",
    "benchmark": "benchmark",
    "report": "report",
    "release": "release",
    "run": "run",
    "doctor": "doctor",
}

_HELP = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A click command that turns known errors into one line and an exit code, and SIGTERM into an orderly end."""

    def __init__(self, *args: Any, example: str = "", **attributes: Any) -> None:
        """Takes click's arguments, and an example: what follows `aether-deploy ` on a line of its own."""
        attributes["context_settings"] = {**_HELP, **(attributes.get("context_settings") or {})}
        super().__init__(*args, **attributes)
        self.example = example

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first sentence of the help, whole."""
        first, _, _ = (self.help or "").partition("\n\n")
        return " ".join(first.split()).rstrip(".")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Adds the example."""
        if self.example:
            with formatter.section("Example"):
                formatter.write(f"{'':{formatter.current_indent}}aether-deploy {self.example}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the command line; a wrong one ends with one line and exit code 2."""
        ctx.meta["aether_deploy.words"] = list(args)
        with _one_line(ctx, as_json="--json" in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        A known error, one of the operating system and a lack of memory exit with 1; a failed parity shows its report
        and exits with 3; Ctrl-C exits with 130 and SIGTERM with 143, after what is half-written has been deleted.
        """
        with _one_line(ctx, as_json=bool(ctx.params.get("as_json"))), _orderly_end():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_line(ctx: click.Context, *, as_json: bool) -> Iterator[None]:
    """Turns what can go wrong into one line on stderr, an object on stdout with --json, and the exit code."""
    facts: dict[str, Any] = {}
    try:
        yield
        return
    except click.UsageError as error:
        message, code = f"{_sentence(error)}; see {ctx.command_path} --help", 2
    except AetherDeployError as error:
        from aether_deploy.proof.verdict import ParityError

        message, code, facts = str(error), error.exit_code, error.facts
        if isinstance(error, ParityError):
            show_cases(error.report, console(stderr=True))
    except BrokenPipeError:
        raise
    except OSError as error:
        named = f"{error.filename}: " if error.filename is not None else ""
        message, code = f"{named}{error.strerror or error}; check the path, the permissions and the space left", 1
    except MemoryError:
        message, code = "not enough memory; try smaller inputs, or close other programs", 1
    except KeyboardInterrupt as stopped:
        say(str(stopped) or "stopped", err=True)
        ctx.exit(130)
    say_error(message)
    if as_json:
        print_json({**facts, "error": message, "exit_code": code})
    ctx.exit(code)


def _sentence(error: click.UsageError) -> str:
    """Click's message without its last full stop, and with a small letter, as ours have."""
    if isinstance(error, click.NoSuchOption):
        nearest = difflib.get_close_matches(error.option_name, error.possibilities or (), n=1)
        return f"no option {error.option_name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
    message = " ".join(error.format_message().split()).rstrip(".")
    return message[:1].lower() + message[1:]


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Lets SIGTERM raise SystemExit, so that every `finally` runs; only the main thread may set this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Lazy(click.Group):
    """Imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"aether_deploy.{COMMANDS[cmd_name]}")
        found: click.Command = module.command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _one_line(ctx, as_json="--json" in args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(COMMANDS)}"
            with _one_line(ctx, as_json="--json" in args):
                ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={**_HELP, "max_content_width": 120})
@click.version_option(package_name="aether-deploy")
def main() -> None:
    """Deploy super-resolution networks that neosr trained: fuse, prove, export, run, publish.

    Every command is also `python -m aether_deploy.COMMAND`.
    """
