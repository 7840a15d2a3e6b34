"""What a pickle would do, read from its opcodes before torch does any of it."""

from __future__ import annotations

import itertools
import pickletools
import re
from typing import IO

from aether_deploy.errors import CheckpointError

__all__ = ["MOST_TENSORS", "refusal", "require_tensors_only"]

# What a state dict is pickled with. torch's own list for `weights_only` is longer: with it, 30 bytes can ask for 8 GB
# (bytearray), for memory as it is (torch.FloatTensor), or for tensors that are no numbers in a row.
_ALLOWED = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.set|_codecs\.encode|torch\.(Size|device|bool)|"
    r"torch\.[a-z]+\d\w*|torch\.[A-Z]\w*Storage|"
    r"torch\._utils\.(_rebuild_tensor|_rebuild_tensor_v2|_rebuild_parameter|_rebuild_parameter_with_state)"
)
_MAKE_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_KEEP_TOP = frozenset({"BINPUT", "LONG_BINPUT", "PROTO"})
# A tuple of the same tuple twice, and so on: n of them take 2^n steps to hash, which a dict does to its keys. An
# optimizer's options share some tuples (betas), each once for a group of parameters.
_SHARED_TUPLES = 32
# Each tensor takes 40 opcodes and 3 calls, and torch 0.1 ms; the largest variant with its EMA and optimizer has 3200.
MOST_TENSORS = 20_000
_MOST_OPCODES = 50 * MOST_TENSORS
_MOST_CALLS = 3 * MOST_TENSORS
_CALLS = frozenset({"REDUCE", "NEWOBJ", "BINPERSID"})


def require_tensors_only(file: IO[bytes], pickles: int = 1) -> None:
    """Reads the opcodes of so many pickles, one after the other, and executes nothing.

    Args:
        file: at the first pickle; left behind the last.
        pickles: 1 for the `data.pkl` of a zip, 5 for a file as torch wrote it before version 1.6.
    Raises:
        CheckpointError: it holds anything but tensors, plain values and containers, which the message names, or more
            of them than any network has.
        ValueError: it is damaged.
    """
    for _ in range(pickles):
        _require_harmless(file)


def _require_harmless(file: IO[bytes]) -> None:
    tuples: set[object] = set()
    shared = itertools.count(1)
    top_is_tuple = False
    calls = itertools.count(1)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if number >= _MOST_OPCODES or (name in _CALLS and next(calls) > _MOST_CALLS):
            raise CheckpointError(f"holds more than {MOST_TENSORS} tensors or other objects; save its state dict alone")
        if name == "GLOBAL" and not _ALLOWED.fullmatch(found := str(argument).replace(" ", ".")):
            raise CheckpointError(refusal(f"it holds {found if found.isprintable() else ascii(found[:80])}"))
        if name in _KEEP_TOP:
            if top_is_tuple and name != "PROTO":
                tuples.add(argument)
        elif name in ("BINGET", "LONG_BINGET"):
            top_is_tuple = argument in tuples
            if top_is_tuple and next(shared) > _SHARED_TUPLES:
                raise CheckpointError(refusal(f"it uses more than {_SHARED_TUPLES} tuples again"))
        else:
            top_is_tuple = name in _MAKE_TUPLES


def refusal(what: str) -> str:
    """The one line for a pickle that does more than hold tensors."""
    return (
        f"refused, {what}; a checkpoint may hold tensors only, since a pickle can run code: "
        "save its state dict alone, best as .safetensors"
    )
