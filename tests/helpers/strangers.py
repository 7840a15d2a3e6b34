"""What every command owes a file from a stranger: an answer or one error line, and nothing else."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings

from tests.helpers.commands import Ran, error_line
from tests.helpers.counts import count
from tests.helpers.memory import memory_below

__all__ = ["inputs", "require_answer"]

_SECONDS = 10.0
_MIB = 2048
# torch, ONNX and ONNX Runtime, imported and used once: measured 0.7 GiB.
_LIBRARIES_MIB = 768
# `make test-all` tries so many times as many inputs as `make test`.
_ALL = 50


def inputs(count: int) -> int:
    """Inputs to try: `count` in `make test`, 50 times as many under the hypothesis profile `all`."""
    return count * _ALL if settings.get_current_profile_name() == "all" else count


def require_answer(run: Callable[[], Ran], folder: Path) -> Ran:
    """Runs a command on a stranger's file, and checks what it owes.

    An exit with 0, 1 or 3, one `error:` line unless it is 0, no traceback, no control characters, at most 10 s of a
    core and 2 GiB, and after an error the same files in the folder as before, with the same contents.

    The memory is what the command takes beyond what this process held before it, and the libraries that it would load
    in a process of its own.
    """
    count("files of strangers")
    before = _contents(folder)
    began = time.process_time()
    with memory_below(_MIB - _LIBRARIES_MIB):
        ran = run()
    assert time.process_time() - began < _SECONDS
    assert ran.code in (0, 1, 3), (ran.code, ran.err)
    for text in (ran.out, ran.err):
        assert "Traceback" not in text
        assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")], text
    if ran.code:
        error_line(ran)
        assert _contents(folder) == before
    else:
        assert "error:" not in ran.err
    return ran


def _contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
