"""What decoders say about damaged files, made fit for one line."""

from __future__ import annotations

from aether_deploy.text import printable

__all__ = ["in_words"]

# Some decoders quote what they could not read.
_LONGEST = 200


def in_words(error: BaseException) -> str:
    """An error's message on one line, without control characters; its kind where it says nothing."""
    return printable(" ".join(str(error)[: 10 * _LONGEST].split()), longest=_LONGEST) or type(error).__name__
