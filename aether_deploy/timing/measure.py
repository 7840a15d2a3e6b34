"""Times contenders side by side: one process each, interleaved rounds, medians and their spread.

In a process of its own each has its own peak memory and thread pool. Only one runs at a time and each round visits all,
so a machine that is slower for a while is slower for all of them.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.errors import RunnerError
from aether_deploy.timing.contender import Contender, Timing
from aether_deploy.timing.contenders import open_contender

__all__ = ["measure", "usable_cores"]

logger = logging.getLogger(__name__)


def usable_cores() -> int:
    """The number of cores that this process may use, possibly fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    contenders: Sequence[Contender], lr: Array, *, device: str = "cpu", threads: int, rounds: int = 7, warmup: int = 2
) -> list[Timing]:
    """Times all contenders on one input, in turn.

    Args:
        contenders: the others are compared with the output of the first.
        lr: (N, C, H, W) float32 in [0, 1].
        device: one of `aether_deploy.runners.devices.DEVICES`.
        threads: CPU threads of each.
        rounds: at least 2; each runs every contender once, forwards and backwards by turns.
        warmup: untimed runs of each before the first round, at least 1.
    Raises:
        RunnerError: a contender, which it names, failed.
    """
    workers = [_Worker(contender, device, threads, lr) for contender in contenders]
    try:
        firsts = []
        for worker in workers:
            logger.info("warming up %s", worker.contender.name)
            firsts.append(worker.ask("run"))
            for _ in range(warmup - 1):
                worker.ask("run")
        seconds: list[list[float]] = [[] for _ in workers]
        for number in range(rounds):
            logger.info("round %d/%d of %s", number + 1, rounds, "x".join(map(str, lr.shape)))
            order = range(len(workers)) if number % 2 == 0 else reversed(range(len(workers)))
            for index in order:
                seconds[index].append(workers[index].ask("run"))
        outputs = [worker.ask("output") for worker in workers]
        peaks = [worker.ask("memory") for worker in workers]
    finally:
        for worker in workers:
            worker.end()
    return [
        Timing(
            worker.contender,
            tuple(timed),
            first,
            peak,
            float(np.abs(output - outputs[0]).max()) if output.shape == outputs[0].shape else float("nan"),
        )
        for worker, timed, first, peak, output in zip(workers, seconds, firsts, peaks, outputs, strict=True)
    ]


class _Worker:
    """A process that holds one contender."""

    def __init__(self, contender: Contender, device: str, threads: int, lr: Array) -> None:
        self.contender = contender
        # OpenMP reads this at its start; the new process inherits it.
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, contender, device, threads, lr), daemon=True)
        self._process.start()
        theirs.close()
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before

    def ask(self, what: str) -> Any:
        try:
            self._pipe.send(what)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            self._process.join()
            raise RunnerError(f"{self.contender.name}: its process ended ({self._process.exitcode})") from error
        if isinstance(answer, RunnerError):
            raise RunnerError(f"{self.contender.name}: {answer}")
        return answer

    def end(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()


def _serve(pipe: Connection, contender: Contender, device: str, threads: int, lr: Array) -> None:
    try:
        run = open_contender(contender, device, threads)
    except RunnerError as error:
        # No question comes if another contender has already failed.
        with contextlib.suppress(EOFError):
            pipe.recv()
            pipe.send(RunnerError(str(error)))
        return
    output = lr[:0]
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if question == "run":
            began = time.perf_counter()
            output = run(lr)
            pipe.send(time.perf_counter() - began)
        else:
            pipe.send(output if question == "output" else _peak_rss())


def _peak_rss() -> int:
    """Peak resident memory of this process, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which starts from the parent's memory at the fork.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
