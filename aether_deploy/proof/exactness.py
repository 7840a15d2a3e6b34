"""Proves in float64, where rounding hides nothing, that fused weights are the trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_deploy.proof.verdict import ParityReport, verify
from aether_deploy.runners.pytorch import TorchRunner

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.proof.reference import Trained

__all__ = ["require_exact"]


def require_exact(trained: Trained, fused: nn.Module, what: str) -> ParityReport:
    """Compares a fused network with the trained one, both in float64 on two small cases.

    Fusing is exact algebra, not statistics: a single wrong kernel shows on any image large enough to use all its
    weights, so two inputs are as good as forty. In float32 one block in fp16, or a weight that is off by a thousandth,
    would be lost among rounding errors.

    Args:
        trained: what to compare with; a fused checkpoint can only be compared with itself.
        fused: in eval mode; not changed.
        what: its name, for messages.
    Raises:
        ParityError: they differ.
    """
    spec = trained.checkpoint.spec
    with TorchRunner(fused, in_chans=spec.in_chans, scale=spec.scale, spec=spec.as_fused(), double=True) as runner:
        report = verify(trained.exact, runner.run, "fp64", what="fused, float64")
    report.require(f"{what} in float64")
    return report
