"""What a command did, and its one error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def error_line(ran: Ran) -> str:
    """The one `error:` line of a run that ended with it."""
    lines = [line for line in ran.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    return lines[0]
