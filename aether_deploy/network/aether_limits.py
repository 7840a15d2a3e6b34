"""What the numbers of an AetherNet can be, wherever they come from: weights, a manifest, an ONNX file's metadata."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aether_deploy.errors import CheckpointError

__all__ = ["require_sensible"]

# As in aether_arch; repeated so that ONNX needs no torch.
_SCALES = (1, 2, 3, 4, 8)
# The largest variant has 64 blocks, D 180, 450 hidden channels and kernels of 13.
_MOST_BLOCKS = 1000
_MOST_CHANNELS = 1 << 16
_LARGEST_KERNEL = 255
_LARGEST_RANGE = 1e30


def _count(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _channels(value: object) -> bool:
    return _count(value, _MOST_CHANNELS)


def _kernel(value: object) -> bool:
    return type(value) is int and _count(value, _LARGEST_KERNEL) and value % 2 == 1


def _depths(value: object) -> bool:
    blocks = isinstance(value, list | tuple) and len(value) > 0 and all(_count(depth, _MOST_BLOCKS) for depth in value)
    return blocks and isinstance(value, list | tuple) and sum(value) <= _MOST_BLOCKS


def _range(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_RANGE


_CHANNELS = f"an integer from 1 to {_MOST_CHANNELS}"
_ODD = f"an odd integer up to {_LARGEST_KERNEL}"

_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "variant": (lambda value: isinstance(value, str) and bool(re.fullmatch(r"\w{1,40}", value, re.A)), "a name"),
    "scale": (lambda value: type(value) is int and value in _SCALES, ", ".join(map(str, _SCALES))),
    "in_chans": (_channels, _CHANNELS),
    "embed_dim": (_channels, _CHANNELS),
    "depths": (_depths, f"a list of integers of at least 1, together at most {_MOST_BLOCKS}"),
    "hidden": (_channels, _CHANNELS),
    "lk_kernel": (_kernel, _ODD),
    "sk_kernel": (lambda value: value is None or _kernel(value), f"{_ODD}, or none once fused"),
    "fused": (lambda value: isinstance(value, bool), "true or false"),
    "img_range": (_range, f"a number above 0, up to {_LARGEST_RANGE:g}"),
}


def require_sensible(values: Mapping[str, Any]) -> None:
    """Checks the type and the range of every field of an `AetherSpec`.

    Raises:
        CheckpointError: a field is missing, or no network has such a value.
    """
    for name, (valid, allowed) in _FIELDS.items():
        if name not in values:
            raise CheckpointError(f"the description of the network has no {name}; expected {allowed}")
        if not valid(values[name]):
            raise CheckpointError(f"{name} of the network is {_shown(values[name])}; allowed: {allowed}")
    if values["sk_kernel"] is not None and values["sk_kernel"] > values["lk_kernel"]:
        raise CheckpointError(
            f"sk_kernel of the network is {values['sk_kernel']}; allowed: at most lk_kernel, {values['lk_kernel']}"
        )


def _shown(value: object) -> str:
    """A stranger's value, short and on this line."""
    if isinstance(value, int | float) and -1e9 < value < 1e9:  # int has no limit, and its text has
        return repr(value)
    return ascii(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"
