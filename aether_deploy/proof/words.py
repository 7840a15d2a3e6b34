"""A verdict in one plain line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["allowed_of", "headline", "in_levels", "nearest_case", "verdict_line"]


def verdict_line(parity: Mapping[str, Any]) -> str:
    """`PROVED: 0.21 of an 8-bit level, 0.5 allowed (chelsea 1x3x64x96, the nearest of 15 inputs)`.

    It names the input that comes nearest to what is allowed for it, or the first that failed.

    Args:
        parity: a report as in a manifest, see `ParityReport.as_dict`.
    """
    cases = parity["cases"]
    failed = [case for case in cases if case["failure"]]
    if failed:
        which = f"{failed[0]['case']}, the first of {len(failed)} of {len(cases)} inputs that failed"
        return f"FAILED: {failed[0]['failure']} ({which})"
    if not cases:
        return "FAILED: nothing was compared"
    nearest = nearest_case(parity)
    error, allowed = in_levels(nearest["max_abs"]), in_levels(allowed_of(nearest, parity), bare=True)
    return f"PROVED: {error}, {allowed} allowed ({nearest['case']}, the nearest of {len(cases)} inputs)"


def headline(parity: Mapping[str, Any]) -> str:
    """The verdict for a person who has ten seconds: what the eye would see, in steps of an 8-bit picture.

    A failure is told by an input that failed, with what is allowed for that one; an error within that has failed by its
    mean or PSNR, and says so.

    Args:
        parity: see `verdict_line`.
    """
    failed = [case for case in parity["cases"] if case["failure"]]
    if failed:
        unknown = next((case for case in failed if case["max_abs"] is None), None)
        if unknown is not None:
            finite = not unknown["nan"] and not unknown["inf"]
            return f"It is another network: {unknown['failure'] if finite else 'its output is not even finite'}."
        worst = max(failed, key=lambda case: case["max_abs"] / allowed_of(case, parity))
        if worst["max_abs"] <= allowed_of(worst, parity):
            return f"It is another network: {worst['failure']}."
        allowed = in_levels(allowed_of(worst, parity), bare=True)
        return f"It is another network: up to {in_levels(worst['max_abs'])} off, where {allowed} is allowed."
    photos = [case for case in parity["cases"] if allowed_of(case, parity) <= parity["tolerance"]["max_abs"] * 1.001]
    error = max(case["max_abs"] for case in photos or parity["cases"])
    if error * 255 < 1:
        return f"Your eyes cannot tell them apart: at most {in_levels(error, bare=True)} of one 8-bit step."
    return f"It is the same network: at most {in_levels(error)} apart, which is allowed for this precision."


def nearest_case(parity: Mapping[str, Any]) -> Mapping[str, Any]:
    """The case of a passed report that comes nearest to what is allowed for it."""
    found: Mapping[str, Any] = max(parity["cases"], key=lambda case: case["max_abs"] / allowed_of(case, parity))
    return found


def allowed_of(case: Mapping[str, Any], parity: Mapping[str, Any]) -> float:
    """What a case may differ by, in output units; manifests of 0.1.0 have it for photos only."""
    return float(case.get("allowed") or parity["tolerance"]["max_abs"])


def in_levels(error: float | None, *, bare: bool = False) -> str:
    """An error in output units as `0.21 of an 8-bit level`; with `bare`, the number alone. Two digits are enough."""
    if error is None or not math.isfinite(error):
        return "not finite"
    levels = error * 255
    number = f"{levels:.0f}" if levels >= 10 or not levels else f"{levels:.2g}"
    if "e" in number:
        number = f"{levels:.7f}".rstrip("0") if levels >= 1e-6 else "below 0.000001"
    if bare:
        return number
    return f"{number} of an 8-bit level" if levels < 1 else f"{number} 8-bit levels"
