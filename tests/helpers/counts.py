"""How many inputs were tried and how many commands killed, over all of pytest's workers; shown at the end of a run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

__all__ = ["CountsPlugin", "count"]

_COUNTS: Counter[str] = Counter()
_KEY = "aether_deploy_counts"


def count(what: str, number: int = 1) -> None:
    """Adds to the line at the end of the run."""
    _COUNTS[what] += number


class CountsPlugin:
    """Collects the counts of the workers and prints them."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_KEY] = dict(_COUNTS)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        _COUNTS.update(getattr(node, "workeroutput", {}).get(_KEY, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if _COUNTS:
            said = ", ".join(f"{number:,} {what}" for what, number in sorted(_COUNTS.items()))
            terminalreporter.write_line(f"tried: {said}")
