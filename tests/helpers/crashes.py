"""Commands that are killed: at the n-th time that they touch a folder, or after a time.

A server imports everything once and forks for each command, so that a command takes what it does and no more. Where a
command writes is learnt from Python's audit events: opening for writing, renaming, deleting, making folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.helpers.counts import count

__all__ = ["CommandServer", "Ended"]

_TOUCHING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_TIMEOUT = 120
_PIPE = 1 << 20


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: as of a shell: negative for a signal that ended it.
        points: how often it touched the watched folders, as `event name`.
        err: its stderr.
    """

    code: int
    points: list[str]
    err: str


class CommandServer:
    """Runs commands in forks of one process that has imported all that they need; a context manager.

    Args:
        scratch: the system's temporary folder for the commands; watched like their output.
    """

    def __init__(self, scratch: Path) -> None:
        root = Path(__file__).parents[2]
        environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.crashes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=root,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def run(
        self,
        *words: object,
        folder: Path,
        at: int | None = None,
        after: float | None = None,
        number: signal.Signals = signal.SIGKILL,
        largest: int | None = None,
    ) -> Ended:
        """Runs a command to its end, or until it is killed.

        Args:
            words: of the command.
            folder: its output, which is watched.
            at: the number, from 0, of the write point before which the signal comes.
            after: seconds until the signal comes.
            number: the signal.
            largest: bytes that a file may have: writing more fails, as on a full disk.
        """
        count("kills" if at is not None or after is not None else "full disks" if largest else "commands undisturbed")
        how = {"at": at, "after": after, "signal": int(number), "largest": largest}
        (ended,) = self._ask([{"words": [str(word) for word in words], "folder": str(folder), **how}])
        return ended

    def race(self, *commands: list[object], folder: Path) -> list[Ended]:
        """Runs several commands at once."""
        count("commands at once", len(commands))
        return self._ask([{"words": [str(word) for word in words], "folder": str(folder)} for words in commands])

    def _ask(self, commands: list[dict[str, Any]]) -> list[Ended]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([{"scratch": str(self._scratch), **item} for item in commands]) + "\n")
        self._process.stdin.flush()
        return [Ended(**values) for values in json.loads(self._process.stdout.readline())]


def _serve() -> None:
    import av  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import torch.onnx._internal.exporter._core  # noqa: F401

    import aether_deploy.artifacts.pipeline
    import aether_deploy.html_report.page
    import aether_deploy.pictures.upscale_any
    import aether_deploy.pictures.video  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        started = [(_start(request), request) for request in json.loads(line)]
        ended = []
        for (child, said, log), request in started:
            timer = threading.Timer(request.get("after") or _TIMEOUT, _kill, (child, request.get("signal", 9)))
            timer.start()
            _, status = os.waitpid(child, 0)
            timer.cancel()
            ended.append(vars(Ended(os.waitstatus_to_exitcode(status), _read(said).splitlines(), _read(log))))
        print(json.dumps(ended), file=answers, flush=True)


def _start(request: dict[str, Any]) -> tuple[int, int, int]:
    """(process, what it touches, what it prints)."""
    said, log = _pipe(), _pipe()
    child = os.fork()
    if not child:
        _child(request, said[1], log[1])
    for _, written in (said, log):
        os.close(written)
    return child, said[0], log[0]


def _pipe() -> tuple[int, int]:
    """A pipe that holds all that a command prints: a file would be limited by `largest`."""
    read, written = os.pipe()
    fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, _PIPE)
    os.set_blocking(read, False)
    return read, written


def _kill(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was done before
        os.kill(child, number)


def _read(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return (file.read(_PIPE) or b"").decode("utf-8", "replace")


def _child(request: dict[str, Any], said: int, log: int) -> None:
    """Becomes the command."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if largest := request.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & _WRITING:
                return
        elif event not in _TOUCHING:
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not str(path).startswith((request["folder"], request["scratch"])):
            return
        os.write(said, f"{event} {Path(path).name}\n".encode("utf-8", "backslashreplace"))
        number, count = count, count + 1
        if number == request.get("at"):
            os.kill(os.getpid(), request["signal"])
            # A handler runs in the main thread, between two of its instructions.
            time.sleep(0 if threading.current_thread() is threading.main_thread() else 1)

    from aether_deploy.cli.app import main

    sys.addaudithook(hook)
    code = 70
    try:
        main(request["words"], prog_name="aether-deploy")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - shown, as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
