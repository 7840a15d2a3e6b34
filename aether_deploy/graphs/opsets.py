"""The opsets that are offered, in a module of their own so that listing them does not wait for torch."""

from __future__ import annotations

__all__ = ["AXES_AS_INPUT", "DEFAULT_OPSET", "OPSETS"]

# From 20 on, GELU is one operator; users of older runtimes need 17.
DEFAULT_OPSET = 20
OPSETS = range(17, 24)

# From this one on, ReduceMean takes its axes as an input.
AXES_AS_INPUT = 18
