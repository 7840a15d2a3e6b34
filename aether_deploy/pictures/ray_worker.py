"""What runs inside a worker on Ray: the network, opened once, and one method for each kind of task."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import AetherDeployError
from aether_deploy.files import scratch
from aether_deploy.pictures.batch_run import Job, upscale_picture

if TYPE_CHECKING:
    from aether_deploy.pictures.upscaling import Upscaler
    from aether_deploy.pictures.video_parts import Frame

__all__ = ["Worker"]

# (result, error in words or "", seconds)
Outcome = tuple[Any, str, float]


class Worker:
    """An actor.

    Args:
        files: (name, content) of the network and of what stands beside it; the first is opened.
        open_network: (path, device, threads) -> what upscales.
        device, threads: see `Network` and `Workers`.
    """

    def __init__(
        self,
        files: list[tuple[str, bytes]],
        open_network: Callable[[Path, str, int], Upscaler],
        device: str,
        threads: int,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(scratch("ray"))
        for name, content in files:
            (self._folder / name).write_bytes(content)
        self._open = functools.partial(open_network, self._folder / files[0][0], device, threads)
        self._upscaler: Upscaler | None = None

    def opened(self) -> Outcome:
        """({scale, name} of the opened network, error, seconds)."""
        began = time.monotonic()
        try:
            self._upscaler = self._open()
        except AetherDeployError as error:
            return None, str(error), time.monotonic() - began
        return {"scale": self._upscaler.scale, "name": self._upscaler.runner.name}, "", time.monotonic() - began

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def picture(self, source: Path, target: Path, content: bytes) -> Outcome:
        """A picture as it is on the disk -> the upscaled one, encoded for the target's name.

        Args:
            source, target: where they are for the one who asks; their names count here.
            content: of the source.
        """
        assert self._upscaler is not None  # no task comes before `opened`
        began = time.monotonic()
        here = Job(self._folder / "in" / source.name, self._folder / "out" / target.name)
        try:
            here.source.parent.mkdir(exist_ok=True)
            here.source.write_bytes(content)
            upscale_picture(self._upscaler, here)
            result = here.target.read_bytes()
        except AetherDeployError as error:
            said = str(error).replace(str(here.source), str(source)).replace(str(here.target), str(target))
            return None, said, time.monotonic() - began
        finally:
            here.source.unlink(missing_ok=True)
            here.target.unlink(missing_ok=True)
        return result, "", time.monotonic() - began

    def frame(self, frame: Frame) -> Outcome:
        """A frame of a video -> the upscaled one."""
        assert self._upscaler is not None  # no task comes before `opened`
        began = time.monotonic()
        try:
            picture = self._upscaler(frame.picture)
        except AetherDeployError as error:
            return None, str(error), time.monotonic() - began
        return dataclasses.replace(frame, picture=picture), "", time.monotonic() - began
