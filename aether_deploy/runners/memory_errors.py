"""Running out of memory, as one error of ours for all runtimes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from aether_deploy.errors import OutOfMemoryError

__all__ = ["memory_errors"]

# How runtimes without an exception for it (torch on the CPU, ONNX Runtime everywhere) say that memory ran out.
_OUT_OF_MEMORY = re.compile(r"failed to allocate|can't allocate|bad_?alloc|not enough memory|out of memory", re.I)


@contextlib.contextmanager
def memory_errors(shape: tuple[int, ...], *errors: type[Exception]) -> Iterator[None]:
    """Turns errors that mean that memory ran out into OutOfMemoryError; others pass unchanged.

    Args:
        shape: of the input, for the message.
        errors: the types to look at.
    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except errors as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise OutOfMemoryError(
            f"out of memory for an input of {'x'.join(map(str, shape))}; give a smaller tile"
        ) from error
