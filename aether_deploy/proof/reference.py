"""What the network gives as it was trained, captured before anything is done to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.arrays import Shape
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.verdict import Reference, capture
from aether_deploy.runners.pytorch import TorchRunner

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["capture_reference"]


def capture_reference(
    checkpoint: Checkpoint,
    images: Path | None = None,
    *,
    double: bool = False,
    static: Shape | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> Reference:
    """What the network gives as it was trained, from weights read off the disk, before anything is done to it.

    Args:
        checkpoint: unfused, or fused where nothing else is left.
        images: photos for the cases, the packaged ones by default.
        double: in float64, on two small cases (it takes ten times as long as float32).
        static, shapes: see `parity_cases`.
    """
    runner = TorchRunner.from_checkpoint(checkpoint, double=double)
    if not double:
        cases = parity_cases(parity_photos(images), in_chans=checkpoint.spec.in_chans, static=static, shapes=shapes)
        return capture(runner.run, cases)
    (name, photo), *_ = parity_photos(images)
    small = parity_cases([(name, photo[:, :, :32, :48])], in_chans=checkpoint.spec.in_chans)
    return capture(runner.run, [case for case in small if case.lr.shape[2:] in ((32, 48), (37, 53))])
