"""Text of unknown origin, made safe to show: names, keys and messages of files can hold anything."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: object, *, longest: int | None = None) -> str:
    r"""Text on one line, without effect on a terminal.

    Line breaks, escape sequences, marks that reverse the direction of writing and bytes of a file name that are no
    UTF-8 are shown as `\n`, `\x1b`, `\u202e` and `\udcff`.

    Args:
        text: anything; its `str` is taken.
        longest: characters; what is beyond is cut off, and the cut shown. None keeps all.
    """
    shown = str(text)
    if longest is not None and len(shown) > longest:
        shown = f"{shown[:longest]}... ({len(shown)} characters)"
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in shown)
