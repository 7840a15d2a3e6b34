"""Starts `worker`, talks to it, and ends it; all that it prints is kept as the log."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aether_deploy.engines.worker import MODULES
from aether_deploy.errors import EngineError
from aether_deploy.extras import install_extra
from aether_deploy.files import scratch

__all__ = ["FLAVOURS", "EngineProcess", "Flavour", "RefusedError", "tensorrt_version"]

# Seconds that a cancelled worker has to stop by itself: a build checks every few milliseconds, but one tactic of a
# large network can take longer.
STOP_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two TensorRTs.

    Attributes:
        name: of the format.
        title: the name shown to people.
        tag: in file names, before the version.
    """

    name: str
    title: str
    tag: str

    @property
    def install(self) -> str:
        """The pip command that installs it; the extra has the format's name."""
        return install_extra(self.name)

    @property
    def module(self) -> str:
        """The Python module to import."""
        return MODULES[self.name]


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("tensorrt", "TensorRT", "trt"),
        Flavour("tensorrt-rtx", "TensorRT-RTX", "trtrtx"),
    )
}


class RefusedError(EngineError):
    """TensorRT refused a request; `log` is all that it printed."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class EngineProcess:
    """A worker of one flavour, as a context manager. Leaving it ends the worker, whatever it is doing.

    The worker has a session of its own, so Ctrl-C reaches only this process, which then cancels.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`.
        gpu: the only one of several that the worker sees.
    Raises:
        EngineError: by `ask`, if the flavour is not installed, or incompletely.
    """

    def __init__(self, flavour: str, gpu: int = 0) -> None:
        self.flavour = FLAVOURS[flavour]
        self._closing = contextlib.ExitStack()
        self._log = self._closing.enter_context(scratch("engine")) / "log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aether_deploy.engines.worker", flavour],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(flavour, gpu),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker: cancels by closing its stdin, and kills it if that takes too long."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._closing.close()

    def ask(
        self,
        do: str,
        payload: bytes | memoryview = b"",
        *,
        progress: Callable[[str, float], None] | None = None,
        **values: Any,
    ) -> tuple[dict[str, Any], bytes]:
        """Sends one request, and returns its answer with the bytes that follow it.

        Args:
            do: the request, one of those in `worker`.
            payload: bytes that follow the request.
            progress: called with a phase and a fraction, 0 to 1.
            values: of the request, for JSON.
        Raises:
            RefusedError: TensorRT refused, or the worker died.
            EngineError: the flavour is not installed, or incompletely.
        """
        assert self._process.stdin and self._process.stdout
        head = json.dumps({"do": do, "nbytes": len(payload), **values}).encode() + b"\n"
        # A worker that cannot import its flavour says so on stdout before it ends.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(head)
            self._process.stdin.write(payload)
            self._process.stdin.flush()
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            data = self._process.stdout.read(answer["nbytes"])
            if answer["event"] == "progress":
                if progress is not None:
                    progress(answer["phase"], answer["fraction"])
                continue
            if answer["event"] == "missing":
                raise EngineError(missing(self.flavour, answer["message"], installed=answer["installed"]))
            if answer["event"] == "error":
                raise RefusedError(answer["message"], self.log())
            return answer, data
        raise RefusedError(f"the {self.flavour.title} process died ({self._process.wait()})", self.log())

    def log(self) -> str:
        """All that the worker has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")


def tensorrt_version(flavour: str) -> str:
    """The installed version, such as `1.7.1.116`.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`.
    Raises:
        EngineError: the flavour is not installed, or incompletely.
    """
    with EngineProcess(flavour) as process:
        return str(process.ask("about")[0]["version"])


def missing(flavour: Flavour, reason: str, *, installed: bool) -> str:
    """Why a flavour cannot be imported, and the command that helps."""
    if not installed:
        return f"{flavour.title} is not installed ({reason}): {flavour.install}"
    if flavour.name == "tensorrt":
        return (
            f"TensorRT's Python module is there but its libraries are not ({reason}): PyPI's tensorrt-cu13-libs is a "
            "placeholder that downloads them from NVIDIA's own index, which pip could not reach; where it can, "
            f"{flavour.install} --force-reinstall; elsewhere take --format tensorrt-rtx, which is complete on PyPI"
        )
    return f"{flavour.title} is installed incompletely ({reason}): {flavour.install} --force-reinstall"


def _environment(flavour: str, gpu: int) -> dict[str, str]:
    """The worker's: Polygraphy's switch, no automatic installs, this package, and the CUDA runtime from the wheels."""
    environment = dict(os.environ)
    environment["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if flavour == "tensorrt-rtx" else "0"
    environment["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"
    if gpu:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        environment["CUDA_VISIBLE_DEVICES"] = seen[gpu] if gpu < len(seen) else str(gpu)
    package_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package_root)))
    libraries = _cuda_runtime_folders()
    if libraries:
        known = os.environ.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join([*([known] if known else []), *libraries])
    return environment


def _cuda_runtime_folders() -> list[str]:
    """Where wheels keep libcudart: Polygraphy does not search `nvidia/cu13/lib`."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    return [str(file.parent) for root in roots for file in sorted(root.glob("*/lib/libcudart.so.*"))]
