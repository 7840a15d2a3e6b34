"""The options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy.errors import AetherDeployError, RunnerError
from aether_deploy.runners.devices import DEVICES, device_of

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape

__all__ = [
    "DEVICE",
    "Choice",
    "ShapeType",
    "checkpoint_options",
    "device_option",
    "images_option",
    "json_option",
    "overwrite_option",
    "require_readable",
    "trust_option",
    "verbose_option",
]


class Choice(click.Choice[str]):
    """One of some words, in capital or small letters."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__(list(words), case_sensitive=False)


def require_readable(*paths: Path | None) -> None:
    """Raises AetherDeployError for a path that is not there, before anything slow is imported."""
    for path in paths:
        # Where only the manifest is left, opening it has a better message.
        left = path is not None and path.with_name(f"{path.name}.json").exists()
        if path is not None and not left and not os.path.lexists(path):
            raise AetherDeployError(f"{path}: cannot be read (No such file or directory); check the path")


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, the rest on stderr."
)

images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Your own photos to prove parity on, instead of the packaged four.",
)


class _DeviceType(click.ParamType[str]):
    """A device by name, with its number where there are several."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join(DEVICES)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails as a usage error for anything else."""
        try:
            return str(device_of(str(value)))
        except RunnerError as error:
            self.fail(str(error), param, ctx)


DEVICE = _DeviceType()

device_option = click.option(
    "--device",
    type=DEVICE,
    default="auto",
    show_default=True,
    help="Which of several by its number, as in cuda:1. auto is CUDA if it loads, else the CPU; naming one that does "
    "not load is an error.",
)

verbose_option = click.option("--verbose", is_flag=True, help="Show the figures of every input, not the verdict alone.")

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there already.")

trust_option = click.option(
    "--trust", is_flag=True, help="Load an engine (which is code) even if no manifest vouches for it."
)


def checkpoint_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --param-key, --opt and --img-range: which weights to read, and the one value that they do not show."""
    for option in (
        click.option(
            "--img-range",
            type=float,
            help="The network's img_range; overrides --opt. 1.0 if neither gives it.",
            show_default=False,
        ),
        click.option(
            "--opt",
            type=click.Path(path_type=Path),
            metavar="NEOSR_OPTIONS",
            help="The neosr options file of the training, for img_range.",
            show_default=False,
        ),
        click.option(
            "--param-key", default="auto", help="Which weights in the file: params_ema, params ...", show_default=True
        ),
    ):
        function = option(function)
    return function


class ShapeType(click.ParamType["Shape"]):
    """`1x3x256x256` -> (1, 3, 256, 256)."""

    name = "NxCxHxW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        """Fails as a usage error unless there are four whole numbers of at least 1."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        # No more digits than a tensor's side has: Python refuses to read thousands of them.
        if len(parts) != 4 or not all(part.isdecimal() and len(part) < 10 and int(part) >= 1 for part in parts):
            self.fail(f"{value!r}; expected four whole numbers of at least 1, as in 1x3x256x256", param, ctx)
        n, c, h, w = (int(part) for part in parts)
        return n, c, h, w
