"""The facts and pictures of a report as one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aether_deploy.artifacts.formats import FORMATS
from aether_deploy.files import replacing
from aether_deploy.html_report.crops import Photo, data_uri, detail, heat_uri, scale_uri
from aether_deploy.html_report.facts import Facts, Request, examine
from aether_deploy.html_report.plots import layers_plot, margin_plot, ranges_plot, shares_plot, sizes_plot
from aether_deploy.html_report.speed import Speed, read_speed
from aether_deploy.precisions.precision import Tolerance
from aether_deploy.proof.words import headline, in_levels, verdict_line

__all__ = ["render", "write_report"]

# Layers whose shares are drawn; a network can have hundreds.
_LAYERS = 24
_KINDS = {row.kind: row.title for row in reversed(FORMATS.values())}


def render(facts: Facts, target: Path, speed: Speed | None = None) -> str:
    """The page; every value in it is escaped.

    Args:
        facts: what was found.
        target: where the page will be, from whose folder its commands are typed.
        speed: a benchmark, if there is one.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    # Exactly what stands between the tags, or a browser refuses to run it.
    script = f"\n{(folder / 'page.js').read_text(encoding='utf-8').rstrip()}\n"
    parity = facts.parity and facts.parity.as_dict()
    shown = sorted(facts.photos, key=lambda photo: -float(detail(photo.bicubic).mean()))
    shown = [*([facts.whole] if facts.whole else []), *shown]
    mapped = shown[: 1 if facts.verdict == "passed" else 3] if parity else []
    full = _full_scale(mapped, parity) if parity else 1.0
    known = facts.model["manifest"] == "sha256 matches"
    quantization = (facts.model.get("quantization") or {}) if known else {}
    activations = (facts.model.get("activations") or {}) if known else {}
    if activations.get("limit") == 1:  # shares of what 8 bits do not clip, not numbers
        activations = {}
    proof = parity or (facts.model["recorded"] if known else None)
    return environment.get_template("page.html").render(
        facts=facts,
        parity=parity,
        recorded=facts.model["recorded"],
        first_sentence=headline(parity) if parity else "",
        verdict=verdict_line(parity).removeprefix("PROVED: ") + "." if parity else "",
        margin=margin_plot(proof) if proof and proof["cases"] else "",
        shown=shown,
        others=shown[1:],
        heat=[(photo, heat_uri(photo, full)) for photo in mapped],
        scale=scale_uri(),
        full=full,
        amplified=round(1 / full),
        precision=facts.model.get("precision") or "the file",
        sizes=sizes_plot(facts.siblings) if facts.siblings else "",
        measure=_measure(facts, target),
        ranges=ranges_plot(activations) if activations else "",
        layers=layers_plot(quantization["layers"]) if quantization else "",
        location=facts.location,
        shares=shares_plot(facts.location.most(_LAYERS)) if facts.location else "",
        speed=speed,
        model_rows=list(_rows(facts.model)),
        against_rows=list(_rows(facts.against)) if facts.against else [],
        check=_check(facts, target),
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup(script.strip("\n")),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _full_scale(photos: Sequence[Photo], parity: dict[str, Any]) -> float:
    """The difference with the brightest colour: what is allowed; of a failed comparison the largest that is shown."""
    allowed = float(parity["tolerance"]["max_abs"])
    if parity["passed"]:
        return allowed
    found = [photo.difference for photo in photos]
    return max([allowed, *(float(one[np.isfinite(one)].max(initial=0)) for one in found)])


def _relative(path: Path, target: Path) -> str:
    """A path as typed in the page's folder; absolute on another drive."""
    try:
        return os.path.relpath(path.resolve(), target.resolve().parent)
    except ValueError:
        return str(path.resolve())


def _check(facts: Facts, target: Path) -> str:
    """The command that, typed in the page's folder, shows the figures again."""
    against = facts.request.against
    names = [_relative(against, target) if against else "CHECKPOINT", _relative(facts.request.model, target)]
    return shlex.join(["python", "-m", "aether_deploy.parity", *names, "--verbose"])


def _measure(facts: Facts, target: Path) -> list[str]:
    """The commands that time the model and make this page anew with the figures."""
    model = _relative(facts.request.model, target)
    against = [_relative(facts.request.against, target)] if facts.request.against else []
    times = f"{shlex.join(['python', '-m', 'aether_deploy.benchmark', model, '--json'])} > speed.json"
    words = ["python", "-m", "aether_deploy.report", model, *against, "--benchmark", "speed.json"]
    return [times, shlex.join([*words, "-o", target.name, "--overwrite"])]


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
    if file.get("quantization"):
        return f"all but {islands['policy']}"
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
    "levels": in_levels,
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
    page = render(facts, target, speed)
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return facts
