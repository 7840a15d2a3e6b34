"""What parity means: the inputs, the figures, the tolerances, and the report as a value.

All arrays are NCHW, RGB, float32 (a float64 reference stays float64), in [0, 1]; nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from aether_deploy import cli
from aether_deploy.errors import ParityError, RunnerError

__all__ = [
    "TOLERANCES",
    "Case",
    "CaseResult",
    "Figures",
    "ParityReport",
    "Reference",
    "Tolerance",
    "capture",
    "compare",
    "parity_cases",
    "verify",
]

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """An input: `lr` is (N, C, H, W) float32 in [0, 1]; `drawn` if it is noise or a pattern and no photo."""

    name: str
    lr: Array
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.lr.shape))}"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The most that an artifact of one precision may differ from the network as it was trained.

    Attributes:
        max_abs: of a single value, in output units (1.0 is white).
        mean_abs: of a case's mean absolute error, in output units.
        min_psnr: dB between both outputs, peak 1.0.
        drawn: by how much errors may be larger on what is drawn (noise at full contrast, a one-pixel
            checkerboard), whose activations are larger than those of any photo.
    """

    max_abs: float
    mean_abs: float
    min_psnr: float
    drawn: float = 1.0

    def for_drawn(self) -> Tolerance:
        """The row for noise and patterns: errors `drawn` times as large, PSNR lower by as much."""
        return Tolerance(
            self.max_abs * self.drawn, self.mean_abs * self.drawn, self.min_psnr - 20 * math.log10(self.drawn)
        )


# One row a precision. What is right was measured on the packaged sample, on small, medium and large, and on
# tiny networks whose every parameter is random (the worst); what is wrong, on the sample with one block of
# four damaged: LayerNorm eps 1e-5 for 1e-6 (the least visible) errs by 3e-5 at most and 2e-5 on average, a
# small kernel shifted by one pixel by 0.16, dropped by 0.24; after 2,000 iterations of training by 2e-3 and 6e-3.
TOLERANCES: dict[str, Tolerance] = {
    # The fused network, its weights rounded to float32, run in float64: right is below 2e-7, 3e-8 on average.
    "fp64": Tolerance(max_abs=1e-6, mean_abs=1e-7, min_psnr=140),
    # Float32 arithmetic in another order: right is below 4e-6, 3e-7 on average.
    "fp32": Tolerance(max_abs=2e-5, mean_abs=1e-6, min_psnr=110),
    # On photos half an 8-bit level, and 70 dB, whose root mean square error bounds the mean. Right is below 0.18
    # of a level and above 77 dB there with the default islands, 0.36 and 69 dB on what is drawn
    # (benchmarks/islands.py). What is too small to be seen here is found before rounding: see `onnx_proof`.
    "fp16": Tolerance(max_abs=0.5 / 255, mean_abs=3.2e-4, min_psnr=70, drawn=2),
    # Three bits less of mantissa, so eight times each.
    "bf16": Tolerance(max_abs=4 / 255, mean_abs=2.6e-3, min_psnr=52, drawn=2),
}


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
        return {"passed": self.passed, "worst": self.worst.case, "figures": _finite(dataclasses.asdict(self.overall))}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN or Infinity, which JSON has not; they become null."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "tolerance": dataclasses.asdict(self.tolerance),
            "worst": self.worst.case,
            "figures": _finite(dataclasses.asdict(self.overall)),
            "cases": [
                {"case": r.case, "failure": r.failure, **_finite(dataclasses.asdict(r.figures))} for r in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """What the network gave as it was trained, captured before any transformation."""

    cases: tuple[Case, ...]
    outputs: tuple[Array, ...]


def parity_cases(
    photos: Sequence[tuple[str, Array]] = (),
    *,
    in_chans: int = 3,
    static: tuple[int, int, int, int] | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> tuple[Case, ...]:
    """Photos, noise, black, white, a step edge and a checkerboard; batch 2, odd, non-square and 1x1.

    Args:
        photos: (name, (1, C, H, W) in [0, 1]); those with another number of channels are left out.
        in_chans: C.
        static: the one (N, C, H, W) that an artifact takes; every case has it then, photos being mirrored
            and cropped to it.
        shapes: further (N, H, W) for noise, say those of an optimization profile.
    """
    rng = np.random.default_rng(0)

    def noise(n: int, h: int, w: int) -> Case:
        return Case("noise", rng.random((n, in_chans, h, w), dtype=np.float32), drawn=True)

    if static is not None:
        n, in_chans, height, width = static
        photos = [(name, _fit(lr, n, height, width)) for name, lr in photos]
        noises, patterns = [(n, height, width)], (n, height, width)
    else:
        noises, patterns = [(1, 48, 64), (2, 40, 24), (1, 37, 53), (1, 1, 1), *shapes], (1, 24, 32)
    n, height, width = patterns
    rows, columns = np.indices((height, width))
    drawn = {
        "black": np.zeros((height, width)),
        "white": np.ones((height, width)),
        "step edge": columns >= width // 2,
        "checkerboard": (rows + columns) % 2,
    }
    return (
        *(Case(name, lr) for name, lr in photos if lr.shape[1] == in_chans),
        *(noise(*shape) for shape in noises),
        *(
            Case(name, np.broadcast_to(plane, (n, in_chans, height, width)).astype(np.float32), drawn=True)
            for name, plane in drawn.items()
        ),
    )


def _fit(lr: Array, n: int, height: int, width: int) -> Array:
    rows, columns = max(0, height - lr.shape[2]), max(0, width - lr.shape[3])
    mirrored = np.pad(lr, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric")
    return np.ascontiguousarray(np.broadcast_to(mirrored[:, :, :height, :width], (n, lr.shape[1], height, width)))


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
    levels = np.abs(_to_levels(actual) - _to_levels(expected))
    return Figures(
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        psnr=math.inf if mse == 0 else -10 * math.log10(mse) if mse == mse else math.nan,
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


def _to_levels(image: Array) -> NDArray[np.int16]:
    levels: NDArray[np.int16] = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.int16)
    return levels


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _gate(asked: str, *precisions: str) -> str:
    """The row asked for, or the most tolerant of those that the precisions call for."""
    return asked if asked != "auto" else max(precisions, key=lambda precision: TOLERANCES[precision].max_abs)


@click.command(cls=cli.Command, name="parity")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--gate",
    type=click.Choice(["auto", *TOLERANCES]),
    default="auto",
    show_default=True,
    help="Row of the tolerance table; auto takes that of the least precise of both.",
)
@cli.images_option
@cli.trust_option
@cli.json_option
def command(a: Path, b: Path, gate: str, images: Path | None, trust: bool, as_json: bool) -> None:
    """Compares two artifacts or checkpoints, A being the reference."""
    with cli.progress("parity"):
        from aether_deploy.half_executor import open_faithful
        from aether_deploy.images import parity_photos

        first, second = open_faithful(a, trust=trust), open_faithful(b, trust=trust)
        if (first.in_chans, first.scale) != (second.in_chans, second.scale):
            raise RunnerError(
                f"{a} has {first.in_chans} channels and scale {first.scale}, {b} {second.in_chans} and "
                f"{second.scale}; give two files of one network"
            )
        static = first.static or second.static
        cases = parity_cases(parity_photos(images), in_chans=first.in_chans, static=static)
        report = verify(
            capture(first.run, cases), second.run, _gate(gate, first.precision, second.precision), what=b.name
        )
        report.require(f"{b}, compared with {a},")
    out = cli.console(stderr=as_json)
    out.print(f"A {a} ({first.name})\nB {b} ({second.name})")
    cli.show_report(report, out)
    if as_json:
        cli.print_json({"a": str(a), "b": str(b), **report.as_dict()})
    cli.next_command("python", "-m", "aether_deploy.upscale", b, "PHOTO.png", as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.parity")
