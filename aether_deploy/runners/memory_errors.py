"""Memory that ran out, as one error of ours, whatever the runtime."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from aether_deploy.errors import OutOfMemoryError

__all__ = ["memory_errors"]

# How the runtimes say that memory ran out; they have no exception of their own for it (torch on the CPU, and
# ONNX Runtime everywhere).
_OUT_OF_MEMORY = re.compile(r"failed to allocate|can't allocate|bad_?alloc|not enough memory|out of memory", re.I)


@contextlib.contextmanager
def memory_errors(shape: tuple[int, ...], *errors: type[Exception]) -> Iterator[None]:
    """Turns the errors that say so into OutOfMemoryError; others pass."""
    try:
        yield
    except errors as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        raise OutOfMemoryError(
            f"out of memory for an input of {'x'.join(map(str, shape))}; give a smaller tile"
        ) from error
