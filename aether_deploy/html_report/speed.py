"""The output of `benchmark --json` as the bars of a chart."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from aether_deploy.errors import ConfigError

__all__ = ["Bar", "Chart", "Speed", "read_speed"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One contender: its median, the spread as a share of it, its speed relative to the first, and its memory."""

    name: str
    peer: bool
    median_s: float
    spread: float
    ratio: float
    peak_rss_mib: float


@dataclass(frozen=True, slots=True)
class Chart:
    """All contenders on one input shape."""

    model: str
    shape: tuple[int, ...]
    bars: tuple[Bar, ...]

    @property
    def slowest(self) -> float:
        """The largest median in seconds, which is the length of the longest bar."""
        return max(bar.median_s for bar in self.bars)


@dataclass(frozen=True, slots=True)
class Speed:
    """A benchmark: how it was run, and one chart for each shape."""

    file: str
    measured: str
    device: str
    threads: int
    rounds: int
    tools: dict[str, str]
    charts: tuple[Chart, ...]


def read_speed(path: Path) -> Speed:
    """Reads the JSON of a benchmark.

    Raises:
        ConfigError: the file cannot be read, or is not the output of `benchmark --json`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        return _speed(path.name, json.loads(text, parse_constant=_refuse))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not what `benchmark --json` prints ({type(error).__name__}: {error}); redirect its output again"
        ) from error


def _speed(file: str, values: dict[str, Any]) -> Speed:
    charts = tuple(
        Chart(
            str(result["model"]),
            tuple(int(size) for size in result["shape"]),
            tuple(_bar(row) for row in result["contenders"]),
        )
        for result in values["results"]
    )
    if not charts or not all(chart.bars for chart in charts):
        raise ValueError("no results")
    return Speed(
        file=file,
        measured=str(values["measured"]),
        device=str(values["device"]),
        threads=int(values["threads"]),
        rounds=int(values["rounds"]),
        tools={str(name): str(version) for name, version in dict(values["tools"]).items()},
        charts=charts,
    )


def _bar(row: dict[str, Any]) -> Bar:
    figures = {name: float(row[name]) for name in ("median_s", "spread", "ratio", "peak_rss_mib")}
    if not all(math.isfinite(value) for value in figures.values()) or figures["median_s"] <= 0:
        raise ValueError(f"figures of {row['name']!r}")
    return Bar(str(row["name"]), bool(row["peer"]), **figures)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} among the figures")
