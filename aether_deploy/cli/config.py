"""`--config TOML`: values for a command's options, under the names of its flags."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from aether_deploy.errors import ConfigError
from aether_deploy.files import read_toml

__all__ = ["config_option"]


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--config TOML`: values for the options of a command; flags override them."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="TOML",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="Options from a TOML file, under the names of the flags; flags given here override them.",
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

    Args:
        path: the file.
        params: of the command.
    Returns:
        Parameter name -> value.
    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a key that is not an option; the message names the
            nearest one.
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
