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

from aether_deploy.cli.output import console, print_json, say_error, show_report
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
    "verify": "verify",
    "upscale": "upscale",
    "benchmark": "benchmark",
    "report": "report",
    "release": "release",
    "run": "run",
    "doctor": "doctor",
}


class Command(click.Command):
    """A click command that turns known errors into one line and an exit code, and SIGTERM into an orderly end."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        A known error, one of the operating system and a lack of memory exit with 1; a failed parity shows its report
        and exits with 3; SIGTERM exits with 143, after what is half-written has been deleted.
        """
        try:
            with _orderly_end():
                return super().invoke(ctx)
        except AetherDeployError as error:
            from aether_deploy.proof.verdict import ParityError

            as_json = bool(ctx.params.get("as_json"))
            if isinstance(error, ParityError):
                show_report(error.report, console(stderr=True))
            say_error(error)
            if as_json and isinstance(error, ParityError):
                print_json({**error.facts, "error": str(error), "parity": error.report.as_dict()})
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            raise
        except OSError as error:
            named = f"{error.filename}: " if error.filename is not None else ""
            say_error(f"{named}{error.strerror or error}; check the path, the permissions and the space left")
            ctx.exit(1)
        except MemoryError:
            say_error("not enough memory; try smaller inputs, or close other programs")
            ctx.exit(1)


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
