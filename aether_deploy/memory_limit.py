"""A limit on memory while a stranger's file is read: a claim of gigabytes fails at once, and takes nothing."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["memory_limit"]

_KIB = 1 << 10

# The limit is the process's: of two threads, one waits until the other has restored it.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def memory_limit(allowance: int) -> Iterator[None]:
    """Lets this process take so many more bytes than it has; allocations beyond fail, each library with its own error.

    Lowers the soft RLIMIT_DATA, and restores it afterwards. Not RLIMIT_AS: glibc reserves 64 MiB of address space for
    each thread's arena, which is no memory. Other threads and processes started meanwhile are under the same limit, so
    the block should read one file and no more. Linux only; elsewhere it does nothing, and the checks before and after
    it are all there is.

    Args:
        allowance: in bytes; what a thread has for its stack, mostly 8 MiB, counts too.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    with _ONE_AT_A_TIME:
        before, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limits = [limit for limit in (before, hard, _taken() + allowance) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _taken() -> int:
    """Bytes that count towards RLIMIT_DATA now."""
    found = re.search(r"^VmData:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * _KIB
