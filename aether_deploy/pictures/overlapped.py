"""Reading, inference and writing at once: two threads with bounded queues around the network."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Share", "overlapped"]

# Items that may wait on each side: enough to absorb single slow ones, few enough to keep memory bounded.
DEPTH = 2


@dataclass(frozen=True, slots=True)
class Share:
    """Where the network's thread spent its time.

    Attributes:
        busy: seconds of work.
        reading, writing: seconds spent waiting for each side, between the first item and the last. Reading the
            first item and writing the last are not counted: there is nothing to overlap them with.
        items: number processed.
    """

    busy: float
    reading: float
    writing: float
    items: int

    @property
    def value(self) -> float:
        """busy / (busy + waiting), 0 to 1; 1 if nothing was done."""
        total = self.busy + self.reading + self.writing
        return self.busy / total if total else 1.0


class _Cancelled(BaseException):
    """Ends a thread whose partner has failed; never leaves this module."""


def overlapped[A, B](source: Iterable[A], work: Callable[[A], B], sink: Callable[[B], None]) -> Share:
    """sink(work(item)) for each item of the source, in order, each of the three in its own thread.

    `work` runs in the caller's thread. An error in any of the three stops all of them and is raised here.

    Args:
        source: iterated in the reader's thread.
        work: the network.
        sink: called in the writer's thread.
    """
    stop = threading.Event()
    read: queue.Queue[tuple[A] | None] = queue.Queue(DEPTH)
    done: queue.Queue[tuple[B] | None] = queue.Queue(DEPTH)
    failures: list[BaseException] = []

    def put[T](into: queue.Queue[T], item: T) -> None:
        while not stop.is_set():
            try:
                return into.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Cancelled

    def get[T](out: queue.Queue[T]) -> T:
        while not stop.is_set():
            try:
                return out.get(timeout=0.1)
            except queue.Empty:
                continue
        raise _Cancelled

    def guarded(run: Callable[[], None]) -> Callable[[], None]:
        def target() -> None:
            try:
                run()
            except _Cancelled:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread, whatever it is
                failures.append(error)
                stop.set()

        return target

    def reader() -> None:
        for item in source:
            put(read, (item,))
        put(read, None)

    def writer() -> None:
        while (item := get(done)) is not None:
            sink(item[0])

    threads = [threading.Thread(target=guarded(run), daemon=True) for run in (reader, writer)]
    for thread in threads:
        thread.start()
    try:
        share = _work(lambda: get(read), work, lambda item: put(done, item))
        put(done, None)
        threads[1].join()
    except _Cancelled:
        share = Share(0, 0, 0, 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return share


def _work[A, B](take: Callable[[], tuple[A] | None], work: Callable[[A], B], give: Callable[[tuple[B]], None]) -> Share:
    busy = reading = writing = 0.0
    items = 0
    item = take()
    while item is not None:
        began = time.perf_counter()
        result = work(item[0])
        worked = time.perf_counter()
        give((result,))
        given = time.perf_counter()
        item = take()
        busy += worked - began
        writing += given - worked
        reading += time.perf_counter() - given if item is not None else 0.0
        items += 1
    return Share(busy, reading, writing, items)
