"""The weights that a file claims to hold -> canonical names, dense tensors that are in the file, finite float32.

In this order, so that nothing is copied before it is known to be as large as it says, and to fit the network.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aether_deploy.errors import CheckpointError
from aether_deploy.memory_limit import memory_limit

__all__ = ["building_limit", "canonical_names", "finite_float32", "require_dense", "shown_keys"]

# neosr adds `_orig_mod.` (torch.compile) and `module.` (DataParallel, EMA) in any mix.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)+")

_TYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}

# Of buffers: indices into windows, numbers of batches.
_COUNTS = {torch.int64: "int64", torch.int32: "int32", torch.uint8: "uint8", torch.bool: "bool"}

_LONGEST_NAME = 200
# For spandrel, Python's objects, threads and their stacks.
_SPARE = 1 << 30


def canonical_names(wrapped: dict[Any, Any]) -> dict[str, Any]:
    """The same values below names without prefixes, and without the EMA counter.

    Raises:
        CheckpointError: a name is no text, cannot be printed, or is there twice.
    """
    named: dict[str, Any] = {}
    # A pickle can give an OrderedDict attributes, `items` too.
    for key, value in dict.items(wrapped):
        if not isinstance(key, str) or len(key) > _LONGEST_NAME or not key.isprintable():
            raise CheckpointError(f"one of its keys is {shown_keys([key])}; expected names such as conv_first.weight")
        name = _PREFIX.sub("", key)
        if name == "n_averaged":
            continue
        if name in named:
            raise CheckpointError(f"{name} is there twice, once with another prefix; save one network alone")
        named[name] = value
    return named


def require_dense(named: Mapping[str, Any], size: int, *, counts: bool = False) -> tuple[dict[str, Tensor], str]:
    """Checks type, layout and extent of every tensor; copies and changes none.

    Args:
        named: from `canonical_names`.
        counts: whether integers are allowed too.
        size: of the file in bytes, which together they cannot exceed: one value seen from many places is refused.
    Returns:
        (the tensors, their types: `float32`, or several with `+`).
    Raises:
        CheckpointError: a value that is not a tensor of floating-point numbers with all its data in the file.
    """
    claimed = 0
    dense: dict[str, Tensor] = {}
    types: set[str] = set()
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, expected tensors only")
        if value.dtype not in _TYPES and not (counts and value.dtype in _COUNTS):
            raise CheckpointError(
                f"{name} is {value.dtype}; expected floating-point weights, {', '.join(_TYPES.values())}"
            )
        plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and not value.is_nested
        if not plain or value.device.type != "cpu":
            raise CheckpointError(f"{name} is not a dense tensor with data; save the state dict again")
        # Without the attributes, `numel` too, that a pickle can give a tensor.
        dense[name] = Tensor.detach(value)
        if value.dtype in _TYPES:
            types.add(_TYPES[value.dtype])
        claimed += dense[name].numel() * dense[name].element_size()
        if claimed > size:
            raise CheckpointError(
                f"up to {name} the tensors have {claimed} bytes, the file only {size}: expanded or shared ones; "
                "save contiguous copies"
            )
    return dense, "+".join(sorted(types))


def finite_float32(dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous float32 tensors; integers stay what they are.

    Raises:
        CheckpointError: NaN or infinite values, before or after they became float32.
    """
    state_dict = {}
    for name, value in dense.items():
        state_dict[name] = (value.to(torch.float32) if value.is_floating_point() else value).contiguous()
        unfit = int((~torch.isfinite(state_dict[name])).sum())
        if unfit:
            raise CheckpointError(
                f"{name} holds {unfit} NaN or infinite values of {value.numel()}; the training has diverged, "
                "take an earlier checkpoint"
            )
    return state_dict


def building_limit(tensors: Iterable[Tensor]) -> contextlib.AbstractContextManager[None]:
    """A limit on memory while a stranger's network is built: it is no larger than its weights, whatever is said."""
    return memory_limit(8 * sum(value.numel() * value.element_size() for value in tensors) + _SPARE)


def shown_keys(keys: Iterable[Any]) -> str:
    """The first five keys of a dict, each short and on this line."""
    return ", ".join(_shown(key) for _, key in zip(range(5), keys, strict=False))


def _shown(key: Any) -> str:
    if not isinstance(key, str):
        return f"of type {type(key).__name__}"
    return key if len(key) <= _LONGEST_NAME and key.isprintable() else ascii(key[:40])
