"""The opsets that are offered; apart, so that naming them waits for no torch."""

from __future__ import annotations

__all__ = ["DEFAULT_OPSET", "OPSETS"]

# At 20 GELU is one operator; readers with an older runtime ask for 17.
DEFAULT_OPSET = 20
OPSETS = range(17, 24)
