"""Verdicts in plain words: the input that is named is the one that decided."""

from __future__ import annotations

from typing import Any

import pytest

from aether_deploy.proof.words import headline, in_levels, verdict_line


def report(*cases: tuple[float | None, float, str]) -> dict[str, Any]:
    """(error, allowed, failure) of each case, in 8-bit levels; half a level is allowed on photos."""
    return {
        "passed": not any(failure for *_, failure in cases),
        "tolerance": {"max_abs": 0.5 / 255},
        "cases": [
            {
                "case": f"c{number}",
                "failure": failure,
                "max_abs": None if error is None else error / 255,
                "allowed": allowed / 255,
                "nan": failure.count("NaN"),
                "inf": 0,
            }
            for number, (error, allowed, failure) in enumerate(cases)
        ],
    }


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([(0.2, 0.5, ""), (0.4, 1, "")], "Your eyes cannot tell them apart: at most 0.2 of one 8-bit step."),
        ([(1.5, 1.5, "")], "It is the same network: at most 1.5 8-bit levels apart"),
        # The photo is fine and the pattern is not: what is said must be the pattern's.
        ([(0.2, 0.5, ""), (3, 1, "max abs")], "up to 3 8-bit levels off, where 1 is allowed."),
        # Failed by its PSNR alone.
        ([(0.2, 0.5, "PSNR 69.0 dB, at least 70 is required")], "It is another network: PSNR 69.0 dB, at least 70"),
        ([(0.2, 0.5, ""), (None, 1, "3 NaN")], "It is another network: its output is not even finite."),
        ([(None, 1, "shape (1, 2), expected (1, 3)")], "It is another network: shape (1, 2), expected (1, 3)."),
    ],
)
def test_the_headline(cases: list[tuple[float | None, float, str]], said: str) -> None:
    assert said in headline(report(*cases))


def test_the_line_names_the_nearest_and_the_first_that_failed() -> None:
    assert verdict_line(report((0.3, 0.5, ""), (0.4, 1, ""))).startswith(
        "PROVED: 0.3 of an 8-bit level, 0.5 allowed (c0"
    )
    assert verdict_line(report((0.3, 0.5, ""), (3, 1, "bad"))).startswith("FAILED: bad (c1, the first of 1 of 2")
    assert verdict_line(report()) == "FAILED: nothing was compared"


def test_levels() -> None:
    shown = [in_levels(value) for value in (0.0, 1e-12, 2.1e-6, 0.5 / 255, 12.4 / 255, None, float("inf"))]
    assert shown == [
        "0 of an 8-bit level",
        "below 0.000001 of an 8-bit level",
        "0.00054 of an 8-bit level",
        "0.5 of an 8-bit level",
        "12 8-bit levels",
        "not finite",
        "not finite",
    ]
