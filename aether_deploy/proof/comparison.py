"""Compares two runners of one network on the same inputs, as `parity` and `report` do."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_deploy.arrays import Array
from aether_deploy.errors import RunnerError
from aether_deploy.pictures.sizes import run_fitted
from aether_deploy.proof.cases import Case, parity_cases
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.proof.verdict import ParityReport, Reference, capture, verify

if TYPE_CHECKING:
    from aether_deploy.runners.protocol import Runner

__all__ = ["Comparison", "compare_runners", "fitting_cases"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of a comparison.

    Attributes:
        runners: names of both runners, for people.
        reference: the inputs, and the reference's outputs.
        outputs: the candidate's outputs.
        report: the verdict.
        left_out: inputs that one of them does not take, for people.
    """

    runners: tuple[str, str]
    reference: Reference
    outputs: tuple[Array, ...]
    report: ParityReport
    left_out: tuple[str, ...]

    def require(self, what: str = "the second file", *, hint: str = "") -> None:
        """Raises ParityError, with the worst input and the hint in its message, unless both are the same network."""
        self.report.require(what, hint=hint)


def compare_runners(
    reference: Runner,
    candidate: Runner,
    photos: Sequence[tuple[str, Array]],
    *,
    names: tuple[str, str],
    gate: str = "auto",
) -> Comparison:
    """Runs both on photos, noise and drawn patterns; a failed parity is a result, not an error.

    Args:
        reference, candidate: of one network.
        photos: see `parity_cases`.
        names: of both, in that order, for people.
        gate: a key of `TOLERANCES`; `auto` takes that of the less precise runner.
    Raises:
        RunnerError: their channels or scales differ, or they take no shape in common.
    """
    first, second = names
    if (reference.in_chans, reference.scale) != (candidate.in_chans, candidate.scale):
        raise RunnerError(
            f"{first} has {reference.in_chans} channels and scale {reference.scale}, {second} {candidate.in_chans} and "
            f"{candidate.scale}; give two files of one network"
        )
    every = parity_cases(photos, in_chans=reference.in_chans, static=reference.static or candidate.static)
    cases, left_out = fitting_cases(every, reference, candidate)
    if not cases:
        raise RunnerError(f"{first} and {second} take no shape in common; export one of them again")
    outputs: list[Array] = []

    def run(lr: Array) -> Array:
        outputs.append(run_fitted(candidate, lr))
        return outputs[-1]

    if gate == "auto":
        gate = max(reference.precision, candidate.precision, key=lambda precision: TOLERANCES[precision].max_abs)
    captured = capture(functools.partial(run_fitted, reference), cases)
    report = verify(captured, run, gate, what=second)
    return Comparison((reference.name, candidate.name), captured, tuple(outputs), report, tuple(left_out))


def fitting_cases(cases: Sequence[Case], *runners: Runner) -> tuple[list[Case], list[str]]:
    """(cases that all runners take, names of those left out); adds small drawn cases if any were left out."""

    def taken(case: Case) -> bool:
        return all(runner.takes(case.lr.shape) for runner in runners)

    left_out = [str(case) for case in cases if not taken(case)]
    fitting = [case for case in cases if taken(case)]
    smallest = next((runner.smallest for runner in runners if runner.smallest), None)
    if left_out and smallest and any(case.drawn for case in cases):
        fitting += [case for case in parity_cases(static=smallest) if taken(case)]
    return fitting, left_out
