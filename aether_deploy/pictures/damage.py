"""What decoders say about damaged files, made fit for one line."""

from __future__ import annotations

import unicodedata

__all__ = ["in_words"]

# Some decoders quote what they could not read.
_LONGEST = 200


def in_words(error: BaseException) -> str:
    """An error's message on one line, without control characters; its kind where it says nothing."""
    text = str(error)[: 10 * _LONGEST]
    line = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    return line[:_LONGEST] or type(error).__name__
