"""Readers as none should be."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from aether_deploy.arrays import Array
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.readers.reader import MissingError

__all__ = ["absent", "black", "darker", "deadly", "raising", "small"]


def darker(path: Path, lr: Array) -> Array:
    """By two levels."""
    return open_runner(path).run(lr) - 2 / 255


def black(path: Path, lr: Array) -> Array:
    """As custom models are in some programs."""
    return open_runner(path).run(lr) * 0


def small(path: Path, lr: Array) -> Array:
    """Not enlarged at all."""
    return lr


def deadly(path: Path, lr: Array) -> None:
    """Ends its process."""
    os.kill(os.getpid(), signal.SIGSEGV)


def raising(path: Path, lr: Array) -> None:
    """Has an error of its own."""
    raise KeyError("no such operator")


def absent(path: Path, lr: Array) -> None:
    """Is not installed."""
    raise MissingError("No module named 'reader'")
