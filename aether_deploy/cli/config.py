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
    values = load_config(path, ctx.command.params)
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
        result[str(names[name].name)] = _as_typed(f"{path}: {key}", value, names[name])
    return result


def _as_typed(what: str, value: Any, option: click.Option) -> Any:
    """A value as it would be typed after the flag, checked by the option's own type."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"{what} is {value!r}; expected true or false")
        return value
    values = value if option.multiple and isinstance(value, list) else [value]
    if not values or any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in values):
        raise ConfigError(f"{what} is {value!r}; expected text or a number{', or a list' if option.multiple else ''}")
    typed = [str(item) for item in values]
    for item in typed:
        try:
            option.type.convert(item, option, None)
        # ValueError: a name with a zero byte, which no system takes.
        except (click.BadParameter, ValueError) as error:
            raise ConfigError(f"{what}: {getattr(error, 'message', error)}") from error
    return typed if option.multiple else typed[0]
