"""Two files of one network, run on the same inputs."""

from __future__ import annotations

import os

from aether_deploy.artifacts.opening import open_artifact
from aether_deploy.proof.comparison import Comparison, compare_runners
from aether_deploy.proof.photos import parity_photos

__all__ = ["compare"]


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    gate: str = "auto",
    images: str | os.PathLike[str] | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Comparison:
    """Runs both on photos, noise and patterns; a failed parity raises nothing until `require` is called on the result.

    Half precision is executed as its types say where the CPU runs it.

    Args:
        a: the reference: any artifact or checkpoint.
        b: the candidate.
        gate: a row of the tolerance table; `auto` takes that of the less precise of both.
        images: a folder of photos, the packaged ones by default.
        device: that both run on; see `open_artifact`.
        trust: open what no manifest vouches for.
    Returns:
        the report, figures in output units (1.0 is white), and what could not be run.
    Raises:
        RunnerError: two networks, or files that take no shape in common.
        AetherDeployError: see `open_artifact`.
    """
    with (
        open_artifact(a, device=device, trust=trust, faithful=True) as reference,
        open_artifact(b, device=device, trust=trust, faithful=True) as candidate,
    ):
        names = str(a), str(b)
        return compare_runners(reference.runner, candidate.runner, parity_photos(images), names=names, gate=gate)
