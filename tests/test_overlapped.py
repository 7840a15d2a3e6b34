"""Three threads, one order, bounded queues, and errors that end all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from aether_deploy.pictures.overlapped import DEPTH, Share, overlapped


def test_keeps_the_order_and_runs_each_part_in_its_own_thread() -> None:
    threads: dict[str, set[int]] = {"read": set(), "work": set(), "write": set()}
    written: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            threads["read"].add(threading.get_ident())
            yield number

    def work(number: int) -> int:
        threads["work"].add(threading.get_ident())
        return number * number

    def sink(number: int) -> None:
        threads["write"].add(threading.get_ident())
        written.append(number)

    share = overlapped(source(), work, sink)
    assert written == [number * number for number in range(50)]
    assert share.items == 50
    assert [len(found) for found in threads.values()] == [1, 1, 1]
    assert len(set.union(*threads.values())) == 3
    assert threads["work"] == {threading.get_ident()}


def test_reading_and_writing_happen_while_the_network_works() -> None:
    """Not a timing: while an item is worked on, the next is read and the one before is written, or this hangs."""
    next_was_read, last_was_written = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        yield 1
        next_was_read.set()

    def work(number: int) -> int:
        if number == 0:
            assert next_was_read.wait(10)
        else:
            assert last_was_written.wait(10)
        return number

    overlapped(source(), work, lambda _: last_was_written.set())


def test_queues_are_bounded() -> None:
    ahead: list[int] = []
    read = done = 0

    def source() -> Iterator[int]:
        nonlocal read
        for number in range(40):
            read += 1
            yield number

    def sink(_: int) -> None:
        nonlocal done
        done += 1
        time.sleep(0.001)
        ahead.append(read - done)

    overlapped(source(), lambda number: number, sink)
    # Two queues, and one item in the hands of each of the three threads.
    assert max(ahead) <= 2 * DEPTH + 3


@pytest.mark.parametrize("where", ["read", "work", "write"])
def test_an_error_anywhere_ends_all(where: str) -> None:
    def source() -> Iterator[int]:
        for number in range(1000):
            if where == "read" and number == 5:
                raise ValueError("read")
            yield number

    def work(number: int) -> int:
        if where == "work" and number == 5:
            raise ValueError("work")
        return number

    def sink(number: int) -> None:
        if where == "write" and number == 5:
            raise ValueError("write")

    before = threading.active_count()
    with pytest.raises(ValueError, match=where):
        overlapped(source(), work, sink)
    assert threading.active_count() == before


def test_nothing_to_do() -> None:
    assert overlapped([], lambda item: item, lambda item: None).value == 1.0
    assert Share(3, 1, 0, 2).value == 0.75
