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


def without_tf32() -> None:
    """Turns TF32 off in this process; it is a GPU's default and errs by 1e-4 of its own.

    To be called before anything is opened: its libraries read this when they are loaded.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def show_report(report: ParityReport, out: Console, *, title: str = "parity") -> None:
    """A table with a row a case, and what the gate allows."""
    out.print(report.table(title=title))
