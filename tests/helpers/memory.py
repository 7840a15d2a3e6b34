"""How much memory a call takes, beyond what the tests before it left in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["memory_below"]

_PROCESS = Path("/proc/self")


@contextmanager
def memory_below(mib: int) -> Iterator[None]:
    """Checks that what runs inside takes less than `mib` MiB more than this process held before.

    Not ru_maxrss, the peak since the process began: a test before this one may have left it high, and then it either
    refuses what took nothing or, as a difference, lets everything pass.
    """
    (_PROCESS / "clear_refs").write_text("5")  # the kernel's peak of memory starts anew
    before = _memory("VmRSS")
    yield
    assert _memory("VmHWM") - before < mib << 20


def _memory(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", (_PROCESS / "status").read_text())
    assert found
    return int(found[1]) * 1024
