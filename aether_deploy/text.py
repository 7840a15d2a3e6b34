"""Text of unknown origin, made safe to show: names, keys and messages of files can hold anything."""

from __future__ import annotations

__all__ = ["in_one_line", "printable"]

# Characters of a library's message; some quote what they could not read.
_LONGEST = 500


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


def in_one_line(error: BaseException) -> str:
    """The first line of what a library says of a file, made safe; its type if it says nothing."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return printable(line.strip(), longest=_LONGEST)
