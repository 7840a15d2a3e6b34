"""What parity means: the figures, the comparison, and the report as a value; nothing here needs torch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aether_deploy.arrays import Array, finite, psnr, quantize
from aether_deploy.errors import AetherDeployError
from aether_deploy.proof.cases import Case
from aether_deploy.proof.tolerances import TOLERANCES, Tolerance

__all__ = ["CaseResult", "Figures", "ParityError", "ParityReport", "Reference", "capture", "compare", "verify"]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """The difference of two outputs.

    Attributes:
        max_abs, mean_abs: absolute error in output units (1.0 is white).
        psnr: dB, peak 1.0; infinite if equal.
        max_level: largest difference in 8-bit levels after clamping to [0, 1] and rounding.
        levels_share: share of 8-bit values that differ, 0 to 1.
        nan, inf: values of the candidate that are not finite where the reference's are.
    """

    max_abs: float
    mean_abs: float
    psnr: float
    max_level: int
    levels_share: float
    nan: int
    inf: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The figures of one case, and why it failed ("" if it passed)."""

    case: str
    figures: Figures
    failure: str


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The verdict on one artifact.

    Attributes:
        gate: the row of `TOLERANCES`.
        tolerance: that row.
        results: one a case.
    """

    gate: str
    tolerance: Tolerance
    results: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        """All cases, and at least one."""
        return bool(self.results) and not any(result.failure for result in self.results)

    @property
    def worst(self) -> CaseResult:
        """A failed case if there is one, else the one with the largest error."""
        return max(self.results, key=lambda r: (bool(r.failure), _rank(r.figures.max_abs)))

    @property
    def overall(self) -> Figures:
        """The worst of each figure over all cases."""
        figures = [result.figures for result in self.results]
        return Figures(
            max_abs=max((f.max_abs for f in figures), key=_rank),
            mean_abs=max((f.mean_abs for f in figures), key=_rank),
            psnr=min((f.psnr for f in figures), key=lambda psnr: -math.inf if math.isnan(psnr) else psnr),
            max_level=max(f.max_level for f in figures),
            levels_share=max(f.levels_share for f in figures),
            nan=sum(f.nan for f in figures),
            inf=sum(f.inf for f in figures),
        )

    def require(self, what: str, *, hint: str = "") -> None:
        """Raises ParityError, naming the worst case and then the hint, unless all passed."""
        if not self.passed:
            worst = self.worst
            message = f"{what} is not the network as it was trained: {worst.case}: {worst.failure}{hint}"
            raise ParityError(message, self)

    def summary(self) -> dict[str, Any]:
        """{passed, worst, figures} for JSON, without the cases."""
        return {"passed": self.passed, "worst": self.worst.case, "figures": finite(dataclasses.asdict(self.overall))}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN or Infinity, which JSON has not; they become null."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "tolerance": dataclasses.asdict(self.tolerance),
            "worst": self.worst.case,
            "figures": finite(dataclasses.asdict(self.overall)),
            "cases": [
                {"case": r.case, "failure": r.failure, **finite(dataclasses.asdict(r.figures))} for r in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """What the network gave as it was trained, captured before any transformation."""

    cases: tuple[Case, ...]
    outputs: tuple[Array, ...]


def capture(run: Callable[[Array], Array], cases: Iterable[Case]) -> Reference:
    """Runs the reference on every case."""
    cases = tuple(cases)
    outputs = []
    for number, case in enumerate(cases, start=1):
        logger.info("reference %d/%d: %s", number, len(cases), case)
        outputs.append(run(case.lr))
    return Reference(cases, tuple(outputs))


def verify(reference: Reference, run: Callable[[Array], Array], gate: str, *, what: str = "candidate") -> ParityReport:
    """Runs a candidate on the reference's inputs and compares; raises nothing on a failure.

    Args:
        reference: from `capture`.
        run: the candidate, (N, C, H, W) -> (N, C, scale*H, scale*W).
        gate: a row of `TOLERANCES`.
        what: the candidate's name, for the progress shown.
    """
    tolerance = TOLERANCES[gate]
    results = []
    for number, (case, expected) in enumerate(zip(reference.cases, reference.outputs, strict=True), start=1):
        logger.info("%s %d/%d: %s", what, number, len(reference.cases), case)
        results.append(_judge(case, expected, run(case.lr), tolerance))
    return ParityReport(gate, tolerance, tuple(results))


def compare(expected: Array, actual: Array) -> Figures:
    """The difference of two outputs of one shape; both (N, C, H, W), RGB, about [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ValueError(f"shapes differ: {expected.shape} and {actual.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which no gate passes
        difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    mse = float(np.mean(difference**2))
    levels = np.abs(quantize(actual).astype(np.int16) - quantize(expected))
    return Figures(
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        psnr=psnr(mse),
        max_level=int(levels.max()),
        levels_share=float(np.mean(levels > 0)),
        nan=int(np.isnan(actual).sum()),
        inf=int(np.isinf(actual).sum()),
    )


def _judge(case: Case, expected: Array, actual: Array, tolerance: Tolerance) -> CaseResult:
    if expected.shape != actual.shape:
        nothing = Figures(math.nan, math.nan, math.nan, 255, 1.0, 0, 0)
        return CaseResult(str(case), nothing, f"shape {actual.shape}, expected {expected.shape}")
    figures = compare(expected, actual)
    return CaseResult(str(case), figures, _failure(figures, tolerance.for_drawn() if case.drawn else tolerance))


def _failure(figures: Figures, tolerance: Tolerance) -> str:
    """The first limit that is exceeded; written so that a NaN, which compares false, never passes."""
    if figures.nan or figures.inf:
        return f"{figures.nan} NaN and {figures.inf} infinite values"
    if not figures.max_abs <= tolerance.max_abs:
        levels = f"{figures.max_abs * 255:.3g} of an 8-bit level"
        return f"max abs error {figures.max_abs:.2e} ({levels}), at most {tolerance.max_abs:.1e} is allowed"
    if not figures.mean_abs <= tolerance.mean_abs:
        return f"mean abs error {figures.mean_abs:.2e}, at most {tolerance.mean_abs:.1e} is allowed"
    if not figures.psnr >= tolerance.min_psnr:
        return f"PSNR {figures.psnr:.1f} dB, at least {tolerance.min_psnr:.0f} is required"
    return ""


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


class ParityError(AetherDeployError):
    """Outputs that differ by more than the tolerance; `report` has the figures, `facts` what `--json` adds to them."""

    exit_code = 3

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message)
        self.report = report
        self.facts: dict[str, Any] = {}
