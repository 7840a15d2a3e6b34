"""Runs two files of one network on the same inputs."""

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
    """Runs both on photos, noise and patterns; a failed parity raises only when `require` is called on the result.

    On the CPU, half precision is executed as its types say.

    Args:
        a: the reference: any artifact or checkpoint.
        b: the candidate.
        gate: a key of `TOLERANCES`; `auto` takes that of the less precise file.
        images: a folder of photos; by default the packaged ones.
        device: that both run on; see `open_artifact`.
        trust: open files that no manifest vouches for.
    Returns:
        the report, with errors in output units (1.0 is white), and the inputs that were left out.
    Raises:
        RunnerError: the channels or scales differ, or the files take no shape in common.
        AetherDeployError: see `open_artifact`.
    """
    with (
        open_artifact(a, device=device, trust=trust, faithful=True) as reference,
        open_artifact(b, device=device, trust=trust, faithful=True) as candidate,
    ):
        names = str(a), str(b)
        return compare_runners(reference.runner, candidate.runner, parity_photos(images), names=names, gate=gate)
