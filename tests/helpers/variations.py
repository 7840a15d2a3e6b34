"""Variations of one test, of which `make test` runs the first and `make test-all` every one."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["first_of"]


def first_of(values: Any, count: int = 1) -> list[Any]:
    """Parameters of a test, all but the first `count` of them marked `long`."""
    every = list(values)
    return [*every[:count], *(_long(value) for value in every[count:])]


def _long(value: Any) -> Any:
    return pytest.param(*value if isinstance(value, tuple) else (value,), marks=pytest.mark.long)
