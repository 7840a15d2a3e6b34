"""What parity means: figures, comparison, and the report as a value; nothing here needs torch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.arrays import Array, finite
from aether_deploy.errors import AetherDeployError
from aether_deploy.proof.cases import Case
from aether_deploy.proof.figures import Figures, figures_of
from aether_deploy.proof.tolerances import TOLERANCES, Tolerance

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["CaseResult", "ParityError", "ParityReport", "Reference", "capture", "verify"]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The figures of one case.

    Attributes:
        case: name and shape of the input.
        figures: of the outputs.
        failure: why it failed; "" if it passed.
        allowed: largest error of a single value that this input may have, in output units.
    """

    case: str
    figures: Figures
    failure: str
    allowed: float


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The verdict on one artifact.

    Attributes:
        gate: a key of `TOLERANCES`.
        tolerance: that row.
        results: one for each case.
    """

    gate: str
    tolerance: Tolerance
    results: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        """Whether all cases passed, and there is at least one."""
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

    def require(self, what: str = "the file", *, hint: str = "") -> None:
        """Raises ParityError, with the worst case and the hint in its message, unless all cases passed."""
        if not self.passed:
            worst = self.worst
            message = f"{what} is not the network as it was trained: {worst.case}: {worst.failure}{hint}"
            raise ParityError(message, self)

    def table(self, *, title: str = "parity") -> Table:
        """A rich table with one row per case, and what the gate allows."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            "case", "max abs", "mean abs", "PSNR dB", "levels", "differing", "", title=title, title_justify="left"
        )
        for result in self.results:
            figures = result.figures
            table.add_row(
                result.case,
                f"{figures.max_abs:.1e}",
                f"{figures.mean_abs:.1e}",
                f"{figures.psnr:.1f}",
                str(figures.max_level),
                f"{figures.levels_share:.3%}",
                Text("✗", "red") if result.failure else Text("✓", "green"),
            )
        table.add_section()
        limits = {f"allowed ({self.gate})": self.tolerance}
        if self.tolerance.drawn != 1:
            limits["allowed on what is drawn"] = self.tolerance.for_drawn()
        for name, limit in limits.items():
            table.add_row(name, f"{limit.max_abs:.1e}", f"{limit.mean_abs:.1e}", f"≥ {limit.min_psnr:.0f}", "", "", "")
        return table

    def __str__(self) -> str:
        """The table as plain text."""
        from rich.console import Console

        out = Console(width=100, color_system=None, force_terminal=False, highlight=False)
        with out.capture() as captured:
            out.print(self.table())
        return captured.get()

    def summary(self) -> dict[str, Any]:
        """{passed, worst, figures} for JSON, without the cases."""
        return {"passed": self.passed, "worst": self.worst.case, "figures": finite(dataclasses.asdict(self.overall))}

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON, which has no NaN or Infinity: they become None."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "tolerance": dataclasses.asdict(self.tolerance),
            "worst": self.worst.case,
            "figures": finite(dataclasses.asdict(self.overall)),
            "cases": [
                {
                    "case": result.case,
                    "failure": result.failure,
                    "allowed": result.allowed,
                    **finite(dataclasses.asdict(result.figures)),
                }
                for result in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """The inputs, and the outputs of the network as it was trained, captured before any transformation.

    Attributes:
        cases: the inputs.
        outputs: one for each.
        tolerances: gate -> by what candidates are judged; stricter than `TOLERANCES` where a recipe asks for it.
    """

    cases: tuple[Case, ...]
    outputs: tuple[Array, ...]
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: TOLERANCES)

    def fitting(self, takes: Callable[[tuple[int, ...]], bool]) -> Reference:
        """Without the cases whose shape an artifact does not take."""
        kept = [number for number, case in enumerate(self.cases) if takes(case.lr.shape)]
        cases, outputs = tuple(self.cases[n] for n in kept), tuple(self.outputs[n] for n in kept)
        return dataclasses.replace(self, cases=cases, outputs=outputs)


def capture(
    run: Callable[[Array], Array], cases: Iterable[Case], tolerances: Mapping[str, Tolerance] = TOLERANCES
) -> Reference:
    """Runs the reference on every case."""
    cases = tuple(cases)
    outputs = []
    for number, case in enumerate(cases, start=1):
        logger.info("reference %d/%d: %s", number, len(cases), case)
        outputs.append(run(case.lr))
    return Reference(cases, tuple(outputs), tolerances)


def verify(reference: Reference, run: Callable[[Array], Array], gate: str, *, what: str = "candidate") -> ParityReport:
    """Runs a candidate on the reference's inputs and compares; a failure is reported, not raised.

    Args:
        reference: from `capture`.
        run: the candidate, (N, C, H, W) -> (N, C, scale*H, scale*W).
        gate: a key of the reference's tolerances.
        what: the candidate's name, shown with the progress.
    """
    tolerance = reference.tolerances[gate]
    results = []
    for number, (case, expected) in enumerate(zip(reference.cases, reference.outputs, strict=True), start=1):
        logger.info("%s %d/%d: %s", what, number, len(reference.cases), case)
        results.append(_judge(case, expected, run(case.lr), tolerance))
    return ParityReport(gate, tolerance, tuple(results))


def _judge(case: Case, expected: Array, actual: Array, tolerance: Tolerance) -> CaseResult:
    limit = tolerance.for_drawn() if case.drawn else tolerance
    if tolerance.relative:
        limit = limit.scaled(_size(expected))
    if expected.shape != actual.shape:
        nothing = Figures(math.nan, math.nan, math.nan, 255, 1.0, 0, 0)
        failure = f"shape {actual.shape}, expected {expected.shape}"
        return CaseResult(str(case), nothing, failure, limit.max_abs)
    figures = figures_of(expected, actual)
    failure = _failure(figures, limit)
    if not failure and limit.p999_abs:
        off = float(np.quantile(np.abs(actual.astype(np.float64) - expected), 0.999))
        if off > limit.p999_abs:
            failure = f"one value in a thousand is {off:.2e} off or more, at most {limit.p999_abs:.1e} is allowed"
    return CaseResult(str(case), figures, failure, limit.max_abs)


def _size(expected: Array) -> float:
    """The factor by which outputs exceed those of a picture, at least 1.

    Float errors are proportional to the values: right networks with outputs up to 12 erred by up to 3.6e-6 on average,
    where 1e-6 is allowed. Outputs below twice white, as of trained networks, are judged by the limits as they are.
    """
    largest = float(np.abs(expected).max())
    return max(1.0, largest / 2) if math.isfinite(largest) else 1.0


def _failure(figures: Figures, tolerance: Tolerance) -> str:
    """The first limit that is exceeded, or ""; written so that NaN, which compares false, never passes."""
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
    """Outputs that differ by more than the tolerance; `report` has the figures."""

    exit_code = 3

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message, facts={"parity": report.as_dict()})
        self.report = report
