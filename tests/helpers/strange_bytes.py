"""Bytes and values that a file should not have, and where to put them; all from one source of randomness."""

from __future__ import annotations

from random import Random
from typing import Any

__all__ = ["INTEGERS", "TEXTS", "VALUES", "changed_bytes"]

INTEGERS = (0, 1, -1, 2, 3, 255, 256, 65536, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "\0", "\x1b[31m", "a\nb", "\udc80", "é\u202e", "1" * 5000, "../../etc/passwd", "{", "%s%n", "nan")
VALUES: tuple[Any, ...] = (None, True, 0.5, float("nan"), float("inf"), [], {}, [[]], {"a": 1}, *INTEGERS, *TEXTS)


def changed_bytes(data: bytes, random: Random) -> bytes:
    """A copy with one to four places flipped, cut, doubled, replaced or inserted."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(changed) + 1)
        some = random.choice((1, 2, 4, 8, 64))
        match random.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1 if at < len(changed):
                changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del changed[at : at + some]
            case 3:
                changed[at:at] = changed[at : at + some]
            case 4:
                changed[at : at + some] = random.randbytes(some)
            case 5:
                number = random.choice(INTEGERS) % 2**64
                changed[at : at + 8] = number.to_bytes(8, random.choice(("little", "big")))
            case _ if random.random() < 0.2:
                del changed[at:]
    return bytes(changed)
