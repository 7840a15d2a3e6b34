"""What people and programs see: consoles, progress, tables, one JSON object, and the next command."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from aether_deploy.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from aether_deploy.proof.verdict import ParityReport

__all__ = [
    "console",
    "mark",
    "next_command",
    "print_json",
    "progress",
    "same_command",
    "say",
    "say_error",
    "show_cases",
    "show_verdict",
    "without_tf32",
]

# Seconds between two lines of progress where there is no terminal.
EVERY = 10.0
# Characters of an error line; a key of a stranger's file can have millions.
_LONGEST = 2000


def console(*, stderr: bool = False) -> Console:
    """A rich console for lines with names in them: never wrapped, never read as markup, without control characters."""
    from rich.console import Console

    class Safe(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            super().print(*(printable(item) if isinstance(item, str) else item for item in objects), **how)

    return Safe(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def mark(good: bool) -> Text:
    """A green tick or a red cross, for `console`."""
    from rich.text import Text

    return Text("✓", "green") if good else Text("✗", "red")


def say(line: object, *, err: bool = False) -> None:
    """Prints one line, made safe."""
    click.echo(printable(line), err=err)


def say_error(error: object) -> None:
    """Prints the one line that ends a failed command."""
    click.echo(f"error: {printable(error, longest=_LONGEST)}", err=True)


def print_json(value: dict[str, Any]) -> None:
    """Prints the one JSON object on stdout.

    Raises:
        ValueError: NaN or Infinity among the values, which JSON does not have.
    """
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def next_command(*words: object, as_json: bool = False) -> None:
    """Prints the last line, what to type next; on stderr if stdout holds JSON."""
    import shlex

    line = shlex.join(str(word) for word in words)
    click.echo(err=as_json)
    say(f"next: {line}", err=as_json)


def same_command(ctx: click.Context, *, without: str, as_json: bool = False) -> None:
    """Prints the command that was typed, without one of its flags, as the next one."""
    words = [word for word in ctx.meta["aether_deploy.words"] if word != without]
    next_command("python", "-m", f"aether_deploy.{ctx.command.name}", *words, as_json=as_json)


class _StatusHandler(logging.Handler):
    """Passes on each message, and the record's `fraction` of the work done, 0 to 1, or None."""

    def __init__(self, update: Callable[[str, float | None], None]) -> None:
        super().__init__(logging.INFO)
        self._update = update

    def emit(self, record: logging.LogRecord) -> None:
        self._update(printable(record.getMessage()), getattr(record, "fraction", None))


class _NoteHandler(logging.Handler):
    """Prints a warning as `note: ` and its message, through the console that draws the moving line."""

    def __init__(self, out: Console) -> None:
        super().__init__(logging.WARNING)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        self._out.print(f"note: {printable(record.getMessage(), longest=_LONGEST)}")


class _Sparse:
    """Without a terminal: every ten seconds one plain line, what is being done and for how long."""

    def __init__(self, out: Console, description: str) -> None:
        self._out, self._description = out, description
        self._latest, self._began, self._ended = "", time.monotonic(), threading.Event()
        self.handler = _StatusHandler(self._note)
        threading.Thread(target=self._print, daemon=True).start()

    def _note(self, text: str, fraction: float | None) -> None:
        self._latest = f": {text}" + ("" if fraction is None else f", {fraction:.0%}")

    def _print(self) -> None:
        while not self._ended.wait(EVERY):
            seconds = time.monotonic() - self._began
            self._out.print(f"{self._description}{self._latest} ({seconds:.0f} s)")

    def end(self) -> None:
        self._ended.set()


def _moving_line(out: Console, description: str, stack: contextlib.ExitStack) -> logging.Handler:
    """A spinner and a text, with a bar while the fraction is known."""
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
    """Shows the library's log as a moving line on stderr, or as a line every ten seconds; warnings stay."""
    out = console(stderr=True)
    log = logging.getLogger("aether_deploy")
    log.setLevel(logging.INFO)
    with contextlib.ExitStack() as stack:
        if out.is_terminal:
            moving = _moving_line(out, description, stack)
        else:
            sparse = _Sparse(out, description)
            stack.callback(sparse.end)
            moving = sparse.handler
        for handler in (_NoteHandler(out), moving):
            log.addHandler(handler)
            stack.callback(log.removeHandler, handler)
        yield


def without_tf32() -> None:
    """Turns TF32 off in this process: it is the default on GPUs and adds an error of 1e-4.

    Call it before anything is opened: the libraries read this when they are loaded.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def show_cases(report: ParityReport, out: Console, *, title: str = "parity") -> None:
    """Prints a table with one row per case, and what is allowed."""
    out.print(report.table(title=printable(title)))


def show_verdict(report: ParityReport, out: Console) -> None:
    """Prints the verdict in one plain line."""
    from aether_deploy.proof.words import verdict_line

    out.print(verdict_line(report.as_dict()))
