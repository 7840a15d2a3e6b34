"""Engine files that are none: headers changed, cut, and foreign."""

from __future__ import annotations

import struct
from random import Random

from tests.helpers.strange_bytes import INTEGERS, changed_bytes

__all__ = ["strange_engine"]


def strange_engine(random: Random) -> bytes:
    """Contents of a file that is no engine, or hardly one; never larger than some hundred bytes."""
    magic = random.choice((b"vtrt", b"vtrt", b"ftrt", b"ptrt", b"PK\3\4", b"\0\0\0\0"))
    length = random.randrange(200)
    size = random.choice((length, length, *INTEGERS)) % 2**64
    mask = random.choice(INTEGERS) % 2**32
    whole = struct.pack("<4s12xQ4B4xI", magic, size, *random.randbytes(4), mask).ljust(length, b"\0")
    return changed_bytes(whole, random) if random.random() < 0.5 else whole[:length]
