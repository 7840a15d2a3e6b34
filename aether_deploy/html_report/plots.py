"""The plots of the page: SVG that takes its colours from the page, so that it is right in light, dark and print.

Matplotlib draws them; it is imported only when a page is made.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

from markupsafe import Markup

from aether_deploy.proof.words import allowed_of
from aether_deploy.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aether_deploy.locating.location import LayerError

__all__ = ["layers_plot", "margin_plot", "ranges_plot", "shares_plot", "sizes_plot"]

# Stand-ins that Matplotlib writes, and what the page's style sheet calls them.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--quiet)",
    "#030303": "var(--line)",
    "#040404": "var(--bar)",
    "#050505": "var(--good)",
    "#060606": "var(--bad)",
}
_INK, _QUIET, _LINE, _BAR, _GOOD, _BAD = _COLOURS
# Inches; the page scales them to its width.
_WIDTH, _ROW, _EXTRA = 5.6, 0.23, 0.7
# The smallest error shown, in 8-bit levels: float32 has no steps finer than a tenth of this.
_FLOOR = 1e-6
_LONGEST = 30
_SEEN = 'role="img" focusable="false"'


def margin_plot(parity: Mapping[str, Any]) -> Markup:
    """Each input's largest error beside what is allowed for it, in 8-bit levels on a log scale.

    Args:
        parity: a report as in a manifest.
    """
    cases = list(reversed(parity["cases"]))
    figure, axes = _figure(len(cases))
    allowed = [max(allowed_of(case, parity) * 255, _FLOOR) for case in cases]
    errors = [
        limit * 10 if case["max_abs"] is None else max(case["max_abs"] * 255, _FLOOR)
        for case, limit in zip(cases, allowed, strict=True)
    ]
    rows = range(len(cases))
    axes.hlines(rows, errors, allowed, color=_LINE, linewidth=2, zorder=1)
    axes.plot(allowed, rows, "|", color=_INK, markersize=11, markeredgewidth=2, zorder=2)
    # One line for all dots that look alike.
    marks = [("X" if case["max_abs"] is None else "o", _BAD if case["failure"] else _GOOD) for case in cases]
    for marker, colour in dict.fromkeys(marks):
        chosen = [row for row in rows if marks[row] == (marker, colour)]
        axes.plot([errors[row] for row in chosen], chosen, marker, color=colour, markersize=6, zorder=3)
    _log(axes)
    _rows(axes, [_short(case["case"]) for case in cases])
    axes.set_xlabel("steps of an 8-bit picture   ● largest error   | allowed", color=_QUIET)
    worst = ", ".join(case["case"] for case in cases if case["failure"]) or "none"
    return _svg(figure, f"Largest error of each of {len(cases)} inputs beside what is allowed; failed: {worst}")


def sizes_plot(files: Sequence[tuple[str, int]]) -> Markup:
    """Sizes of files in MB as bars.

    Args:
        files: (name, bytes) of each.
    """
    figure, axes = _figure(len(files))
    names, sizes = [name for name, _ in reversed(files)], [size / 1e6 for _, size in reversed(files)]
    axes.barh(range(len(files)), sizes, color=_BAR, height=0.6)
    for row, size in enumerate(sizes):
        axes.annotate(f"{size:.1f} MB", (size, row), (4, 0), textcoords="offset points", va="center", color=_INK)
    axes.set_xlim(0, max(sizes) * 1.18)
    _rows(axes, names)
    axes.set_xlabel("MB", color=_QUIET)
    return _svg(figure, "Sizes: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in files))


def ranges_plot(activations: Mapping[str, Any]) -> Markup:
    """The largest activation of each operator type beside the largest number that the precision holds, on a log scale.

    Args:
        activations: a manifest's {limit, operators}.
    """
    known = {op: value for op, value in activations["operators"].items() if value}
    limit = activations["limit"]
    if not known or not limit:
        return Markup("")
    ordered = sorted(known.items(), key=lambda item: item[1])
    figure, axes = _figure(len(ordered))
    axes.barh(range(len(ordered)), [value for _, value in ordered], color=_BAR, height=0.6)
    axes.axvline(limit, color=_BAD, linewidth=2)
    axes.set_title(f"limit {_plain(limit)}", loc="right", fontsize="medium", color=_BAD)
    _log(axes)
    _rows(axes, [op for op, _ in ordered])
    axes.set_xlabel("largest activation", color=_QUIET)
    return _svg(figure, f"Largest activations of {len(ordered)} operators; the limit is {_plain(limit)}")


def _figure(rows: int) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _EXTRA + _ROW * max(rows, 2)), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_QUIET, length=0)
    return figure, axes


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"


def _short(case: str) -> str:
    """`chelsea 64x96` of `chelsea 1x3x64x96`; a batch stays."""
    return re.sub(r" 1x\d+x(\d+x\d+)$", r" \1", case)


def _log(axes: Axes) -> None:
    """A log scale whose numbers are plain: 0.001, 0.1, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10f}".rstrip("0").rstrip(".")))
    axes.xaxis.set_minor_locator(NullLocator())


def _rows(axes: Axes, names: Sequence[str]) -> None:
    whole = [printable(name) for name in names]
    shown = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in whole]
    # Matplotlib takes what stands between dollar signs for mathematics.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in shown], color=_INK)
    axes.set_ylim(-0.6, len(names) - 0.4)


def layers_plot(layers: Sequence[Mapping[str, Any]]) -> Markup:
    """The error of the network with one layer at a time in 8 bits, beside what is allowed; grey: not in 8 bits.

    Args:
        layers: a manifest's `quantization.layers`.
    """
    ordered = list(reversed(layers))
    errors = [math.sqrt(row["share"] or 0.0) for row in ordered]
    figure, axes = _figure(len(ordered))
    axes.barh(range(len(ordered)), errors, color=[_BAR if row["eight_bits"] else _QUIET for row in ordered], height=0.6)
    axes.axvline(1, color=_BAD, linewidth=2)
    axes.set_title("allowed for all of them", loc="right", fontsize="medium", color=_BAD)
    _rows(axes, [", ".join(row["layers"]) for row in ordered])
    axes.set_xlabel("error alone, as a multiple of what is allowed", color=_QUIET)
    kept = ", ".join(name for row in layers if not row["eight_bits"] for name in row["layers"]) or "none"
    return _svg(figure, f"Error of each of {len(ordered)} layers alone in 8 bits; not in 8 bits in the file: {kept}")


def shares_plot(rows: Sequence[LayerError]) -> Markup:
    """What each layer alone causes of the picture's squared error, in the order of execution.

    Args:
        rows: with shares, at most a few dozen.
    """
    ordered = list(reversed(rows))
    figure, axes = _figure(len(ordered))
    axes.barh(range(len(ordered)), [100 * (row.share or 0.0) for row in ordered], color=_BAR, height=0.6)
    _rows(axes, [row.layer for row in ordered])
    axes.set_xlabel("% of the squared error", color=_QUIET)
    told = ", ".join(
        f"{row.layer} {row.share or 0.0:.0%}" for row in sorted(rows, key=lambda row: -(row.share or 0.0))[:5]
    )
    return _svg(figure, f"Share of the error that each layer causes: {told}")


def _svg(figure: Figure, description: str) -> Markup:
    """The drawing inline, its text as text, with a description for those who do not see it."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description, "font.size": 11}), catch_warnings():
        # Only matplotlib's own font lacks a letter; the browser draws the text, with any of its fonts.
        filterwarnings("ignore", message="Glyph .* missing from font")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    title = str(Markup("<title>{}</title>").format(description))
    for pattern, by in (
        (r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", ""),
        (
            r"^<svg [^>]*?(viewBox=\"[^\"]+\")[^>]*>",
            lambda found: f'<svg {found[1]} role="img" focusable="false">{title}',
        ),
        # Of groups, which nothing refers to; several plots on a page would have the same ones.
        (r' id="[\w.]+_\d+"', ""),
        (r"font-family: [^;\"]+", "font-family: inherit"),
        (r"xlink:href", "href"),
        (r"\s*\n\s*", " "),
    ):
        text = re.sub(pattern, by, text, flags=re.DOTALL)
    for stand_in, name in _COLOURS.items():
        text = text.replace(stand_in, name)
    return Markup(text.strip())
