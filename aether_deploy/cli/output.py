"""What people and programs see: consoles, progress, tables, one JSON object, and the next command."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from aether_deploy.proof.verdict import ParityReport

__all__ = ["console", "next_command", "print_json", "progress", "show_report"]


def console(*, stderr: bool = False) -> Console:
    """A rich console that never wraps a path or a command onto a second line."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


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
    click.echo(f"\nnext: {line}", err=as_json)


class _StatusHandler(logging.Handler):
    """Passes on each message, and the record's `fraction` of the work done, 0 to 1, or None."""

    def __init__(self, update: Callable[[str, float | None], None]) -> None:
        super().__init__(logging.INFO)
        self._update = update

    def emit(self, record: logging.LogRecord) -> None:
        self._update(record.getMessage(), getattr(record, "fraction", None))


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
    """Shows the library's log as a moving status line on stderr; warnings stay. Without a terminal, only warnings."""
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


def without_tf32() -> None:
    """Turns TF32 off in this process: it is the default on GPUs and adds an error of 1e-4.

    Call it before anything is opened: the libraries read this when they are loaded.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def show_report(report: ParityReport, out: Console, *, title: str = "parity") -> None:
    """Prints a table with one row per case, and what the gate allows."""
    out.print(report.table(title=title))
