"""The facts and pictures of a report as one HTML file that loads nothing else."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aether_deploy.artifacts.formats import FORMATS
from aether_deploy.files import replacing
from aether_deploy.html_report.crops import amplification, data_uri, difference_uri
from aether_deploy.html_report.facts import Facts, Request, examine
from aether_deploy.html_report.speed import Speed, read_speed
from aether_deploy.precisions.precision import Tolerance

__all__ = ["render", "write_report"]

_KINDS = {row.kind: row.title for row in reversed(FORMATS.values())}


def render(facts: Facts, speed: Speed | None = None) -> str:
    """The page; every value in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    factor = amplification(facts.photos)
    return environment.get_template("page.html").render(
        facts=facts,
        parity=facts.parity and facts.parity.as_dict(),
        recorded=facts.model["recorded"],
        model_rows=list(_rows(facts.model)),
        against_rows=list(_rows(facts.against)) if facts.against else [],
        photos=[(photo, difference_uri(photo, factor)) for photo in facts.photos],
        factor=f"{factor:,}",
        speed=speed,
        check=_check(facts),
    )


def _check(facts: Facts) -> str:
    """The command that, typed in the files' folder, shows the figures again."""
    names = [facts.against["file"] if facts.against else "CHECKPOINT", facts.model["file"]]
    return shlex.join(["python", "-m", "aether_deploy.parity", *names])


def _rows(file: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, text) for each fact known about a file, in the order in which a reader asks for them."""
    makers: dict[str, Callable[[dict[str, Any]], str | None]] = {
        "file": lambda f: f"{f['file']}, {_size(f['bytes'])}",
        "kind": _kind,
        "network": lambda f: f["summary"],
        "scale": lambda f: f"{f['network']['scale']}x" if f["network"] else None,
        "parameters": lambda f: f"{f['parameters']:,}" if "parameters" in f else None,
        "shapes": _shapes,
        "kept in fp32": _islands,
        "runs on": lambda f: _listed(f["targets"]) if "targets" in f else None,
        "executed when it was built": lambda f: None if f.get("executed") is None else "yes" if f["executed"] else "no",
        "made from": _source,
        "sha256": lambda f: f["sha256"],
        "manifest": lambda f: f["manifest"],
        "tools": lambda f: _pairs(f.get("tools", {})),
        "created": lambda f: f["created"],
    }
    for label, make in makers.items():
        text = make(file)
        if text:
            yield label, text


def _kind(file: dict[str, Any]) -> str:
    what = _KINDS[file["kind"]] if "flavour" not in file else f"{file['flavour']} {file['version']} engine"
    details = [file.get("precision") or file.get("dtype")]
    if file.get("io", file.get("precision")) != file.get("precision"):
        details.append(f"{file['io']} at both ends")
    if "opset" in file:
        details.append(f"opset {file['opset']}")
    if file.get("ffn") == "conv1x1":
        details.append("FFN as 1x1 convolutions")
    return ", ".join([what, *filter(None, details)])


def _shapes(file: dict[str, Any]) -> str | None:
    if "profiles" in file:
        return "; ".join(
            " / ".join("x".join(map(str, profile[which])) for which in ("min", "opt", "max"))
            for profile in file["profiles"]
        )
    ends = [*file.get("inputs", {}).items(), *file.get("outputs", {}).items()]
    return " → ".join(f"{name}: {end}" for name, end in ends) or None


def _islands(file: dict[str, Any]) -> str | None:
    islands = file.get("fp32_islands")
    if not islands or "ops" not in islands:
        return None
    return f"{_pairs(islands['ops'])}; {islands['casts']} casts (islands: {islands['policy']})"


def _source(file: dict[str, Any]) -> str | None:
    source = file["source"]
    if not source:
        return None
    details = [source.get("form"), f"sha256 {source['sha256']}" if "sha256" in source else None]
    return ", ".join([source["file"], *filter(None, details)])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _listed(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _scientific(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _decibel(figures: dict[str, Any]) -> str:
    """PSNR in dB; equal outputs have an infinite one, which JSON cannot hold."""
    if figures["psnr"] is not None:
        return f"{figures['psnr']:.1f}"
    return "∞" if figures["max_abs"] == 0 else "–"


def _levels(value: float | None) -> str:
    """Output units -> words in 8-bit levels, with as many digits as a reader needs."""
    if value is None or not math.isfinite(value):
        return "not finite"
    levels = value * 255
    if levels >= 1:
        return f"{levels:.1f} 8-bit levels"
    return f"{levels:.2g} of an 8-bit level" if levels >= 1e-3 or not levels else f"{levels:.0e} of an 8-bit level"


def _allowed(parity: dict[str, Any]) -> list[tuple[str, Tolerance]]:
    """(label, limits) for each tolerance that a report was judged by."""
    limit = Tolerance(**parity["tolerance"])
    if limit.drawn == 1:
        return [(f"allowed ({parity['gate']})", limit)]
    return [(f"allowed ({parity['gate']}) on photos", limit), ("on noise and patterns", limit.for_drawn())]


_FILTERS: dict[str, Callable[..., Any]] = {
    "allowed": _allowed,
    "data_uri": data_uri,
    "decibel": _decibel,
    "levels": _levels,
    "pairs": _pairs,
    "scientific": _scientific,
    "shape": lambda shape: "x".join(map(str, shape)),
}


def write_report(request: Request, target: Path, *, benchmark: Path | None = None) -> Facts:
    """Examines the files and writes the page, whole or not at all, even if parity failed.

    Args:
        request: what to report on.
        target: the HTML file; an existing one is replaced.
        benchmark: file with the output of `benchmark --json`.
    Raises:
        AetherDeployError: see `examine` and `read_speed`; or the page cannot be written.
    """
    speed = read_speed(benchmark) if benchmark else None
    facts = examine(request)
    page = render(facts, speed)
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return facts
