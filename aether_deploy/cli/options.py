"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aether_deploy.runners.devices import DEVICES

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape

__all__ = ["DEVICE", "ShapeType", "device_option", "images_option", "json_option", "trust_option"]


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, the rest on stderr."
)

images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos to prove parity on, your own instead of the packaged four.",
)

DEVICE = click.Choice(DEVICES)

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


class ShapeType(click.ParamType["Shape"]):
    """`1x3x256x256` -> (1, 3, 256, 256)."""

    name = "NxCxHxW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        """Fails as a usage error unless there are four whole numbers of at least 1."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 4 or not all(part.isdecimal() and int(part) >= 1 for part in parts):
            self.fail(f"{value!r}; expected four whole numbers of at least 1, as in 1x3x256x256", param, ctx)
        n, c, h, w = (int(part) for part in parts)
        return n, c, h, w
