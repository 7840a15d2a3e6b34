"""Workers on Ray, each with an opened network: pictures or frames go to whichever is idle.

What a worker needs travels through Ray: the network's files once, pictures as they are on the disk, frames as pixels.
So no folder has to be shared; each machine needs aether-deploy installed. A worker or a machine that dies costs the
tasks that it had, which run again elsewhere.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aether_deploy.errors import RunnerError
from aether_deploy.extras import install_extra
from aether_deploy.pictures.overlapped import Share
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from aether_deploy.pictures.upscaling import Upscaler

__all__ = ["Done", "Network", "RayPool", "Workers"]

logger = logging.getLogger(__name__)

# How often a task may lose its worker before it counts as the reason.
_ATTEMPTS = 3
# Tasks under way and results that wait for an earlier one, for each worker.
_AHEAD = 3
# Seconds that Ray may take to start a worker while none is left.
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Workers:
    """Where and how many.

    Attributes:
        address: of a Ray that runs already, such as `ray://head:10001`; "" starts one on this machine.
        count: of workers; 0 is one for each GPU or, without any, one for each machine.
        devices: one worker for each, on this machine; empty if they are all alike.
        threads: of each on the CPU; 0 shares a machine's cores between its workers.
    """

    address: str = ""
    count: int = 0
    devices: tuple[str, ...] = ()
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """How a worker opens the network.

    Attributes:
        files: of the network, its manifest and what else belongs to it; the first is opened.
        worker: the class of the actors, `ray_worker.Worker`.
        open: (path, device, threads) -> what upscales; sent to the workers.
        device: of each worker, unless `Workers.devices` says another.
        overlap: see `Upscaler`; part of what determines the pixels.
    """

    files: tuple[Path, ...]
    worker: type
    open: Callable[[Path, str, int], Upscaler]
    device: str = "auto"
    overlap: str | int = "auto"


@dataclass(frozen=True, slots=True)
class Done[T]:
    """A task and what became of it.

    Attributes:
        task: as it was given.
        result: of the method; None after an error.
        error: why there is no result; "" if there is one.
        seconds: that the worker took.
    """

    task: T
    result: Any
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one worker takes: cores and GPUs of Ray's, its device, and its threads."""

    cores: float
    gpus: float
    device: str
    threads: int


@dataclass(slots=True)
class _Task:
    """A task, its number in the order given, the arguments of its method, and how often it lost its worker."""

    number: int
    task: Any
    arguments: tuple[Any, ...]
    lost: int = 0


@dataclass(slots=True)
class _Flow:
    """The state of one `map`: what is left, what waits after it lost its worker, and what runs where."""

    source: Iterator[_Task]
    waiting: deque[_Task] = field(default_factory=deque)
    running: dict[Any, tuple[Any, _Task]] = field(default_factory=dict)
    given: int = 0


class RayPool:
    """Workers, as a context manager; leaving it ends them, and the Ray that was started for them.

    Args:
        workers: where and how many.
        network: that each opens.
    Raises:
        RunnerError: Ray is not installed or not reached, or the network cannot be opened.

    Attributes:
        scale: output pixels for each input pixel along one side.
        name: of what runs the network, for people.
        count: workers that were asked for.
    """

    scale: int
    name: str

    def __init__(self, workers: Workers, network: Network) -> None:
        self._ray = _require_ray()
        self._network = network
        self._idle: deque[Any] = deque()
        self._starting: dict[Any, Any] = {}
        self._plans: dict[Any, _Plan] = {}
        self._own = not self._ray.is_initialized()
        if self._own:
            self._connect(workers)
        try:
            plans = self._planned(workers)
            self.count = len(plans)
            self._files = self._ray.put([(path.name, path.read_bytes()) for path in network.files])
            for plan in plans:
                self._start(plan)
            # One is enough to begin, and says if the network cannot be opened, before anything is read.
            while not self._idle:
                list(self._ended(_Flow(iter(()))))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def identity(self, model: str) -> dict[str, Any]:
        """See `Upscaler.identity`."""
        return {"model": model, "scale": self.scale, "overlap": self._network.overlap}

    def share(self, began: float, busy: float, items: int) -> Share:
        """How much of the time since `began`, by `time.monotonic`, the workers were busy; `busy` in seconds."""
        everywhere = (time.monotonic() - began) * self.count
        return Share(busy, max(0.0, everywhere - busy), 0.0, items)

    def close(self) -> None:
        """Ends the workers, at once."""
        for worker in self._plans:
            self._ray.kill(worker)
        self._plans = {}
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()

    def map[T](
        self, method: str, tasks: Iterable[tuple[T, tuple[Any, ...]]], *, ordered: bool = False
    ) -> Iterator[Done[T]]:
        """Each task's outcome, as they end, or in their order.

        Args:
            method: of `Worker`.
            tasks: each with the arguments of the method; taken only as workers become idle.
            ordered: whether outcomes come in the order of the tasks.
        Raises:
            RunnerError: no worker is left.
        """
        flow = _Flow(_Task(number, task, arguments) for number, (task, arguments) in enumerate(tasks))
        early: dict[int, Done[T]] = {}
        expected = 0
        while True:
            self._submit(method, flow, expected + _AHEAD * self.count if ordered else None)
            if not flow.running and not flow.waiting:
                return
            for number, done in self._ended(flow):
                if not ordered:
                    yield done
                    continue
                early[number] = done
                while expected in early:
                    yield early.pop(expected)
                    expected += 1

    def _submit(self, method: str, flow: _Flow, limit: int | None) -> None:
        """Gives every idle worker a task, but none from `limit` on, so that results do not pile up."""
        while self._idle:
            if flow.waiting:
                task = flow.waiting.popleft()
            elif limit is not None and flow.given >= limit:
                return
            else:
                found = next(flow.source, None)
                if found is None:
                    return
                task, flow.given = found, flow.given + 1
            worker = self._idle.popleft()
            flow.running[getattr(worker, method).remote(*task.arguments)] = worker, task

    def _ended(self, flow: _Flow) -> Iterator[tuple[int, Done[Any]]]:
        """Waits until something ends: a task, or the start of a worker."""
        if not flow.running and not self._starting:
            raise RunnerError("no worker is left; see to the memory of the machines, or give fewer --workers")
        limit = None if flow.running else _PATIENCE
        ended, _ = self._ray.wait([*flow.running, *self._starting], num_returns=1, timeout=limit)
        if not ended:
            raise RunnerError(f"Ray started no worker within {_PATIENCE:.0f} s; see whether its machines are busy")
        for reference in ended:
            if reference in self._starting:
                self._opened(reference)
                continue
            worker, task = flow.running.pop(reference)
            try:
                done = Done(task.task, *self._ray.get(reference))
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as why:
                self._replace(worker, why)
                task.lost += 1
                if task.lost < _ATTEMPTS:
                    flow.waiting.append(task)
                    continue
                done = Done(task.task, None, f"its worker died {_ATTEMPTS} times; see to its memory", 0.0)
            else:
                self._idle.append(worker)
            yield task.number, done

    def _replace(self, worker: Any, why: Exception) -> None:
        logger.warning("a worker died (%s); its task goes to another", in_one_line(why)[:100])
        self._start(self._plans.pop(worker))

    def _start(self, plan: _Plan) -> None:
        options = {"num_cpus": plan.cores, "num_gpus": plan.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(self._network.worker).options(**options)
        worker = actor.remote(self._files, self._network.open, plan.device, plan.threads)
        self._plans[worker] = plan
        self._starting[worker.opened.remote()] = worker

    def _opened(self, reference: Any) -> None:
        """A worker that has opened the network takes tasks; one that died in between is not replaced."""
        worker = self._starting.pop(reference)
        try:
            about, error, _ = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as why:
            del self._plans[worker]
            logger.warning("a worker did not start (%s)", in_one_line(why)[:100])
            return
        if error:
            raise RunnerError(error)
        self.scale, self.name = about["scale"], about["name"]
        self._idle.append(worker)

    def _connect(self, workers: Workers) -> None:
        # Ray hides GPUs from workers that take none of its own; here the device says which one is used.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logger.info("connecting to Ray" if workers.address else "starting Ray")
        here: dict[str, Any] = {}
        if not workers.address:
            here = {"num_cpus": max(os.cpu_count() or 1, workers.count), "include_dashboard": False}
        try:
            # What Ray warns of is said again by its error.
            with warnings.catch_warnings(action="ignore"):
                self._ray.init(workers.address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise RunnerError(f"Ray at {workers.address or 'this machine'}: {in_one_line(error)}") from error

    def _planned(self, workers: Workers) -> list[_Plan]:
        """One for each worker, all alike but for their devices."""
        machine = os.cpu_count() or 1
        if workers.devices:
            share = workers.threads or max(1, machine // len(workers.devices))
            return [_Plan(0.01, 0, device, share) for device in workers.devices]
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        if gpus and not self._network.device.startswith("cpu"):
            return [_Plan(1, 1, self._network.device, workers.threads or 1)] * (workers.count or gpus)
        cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1] or [1]
        count = workers.count or len(cores)
        share = max(1, min(cores) // -(-count // len(cores)))
        threads = workers.threads or (share if workers.address or not self._own else max(1, machine // count))
        return [_Plan(share, 0, self._network.device, threads)] * count


def _require_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RunnerError(f"Ray is not installed ({error}): {install_extra('ray')}") from error
    return ray
