"""The outputs of the network as it was trained, captured before anything is done to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aether_deploy.pictures.sizes import fitted, with_channels
from aether_deploy.proof.cases import Case, parity_cases
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.tolerances import TOLERANCES, Tolerance
from aether_deploy.proof.verdict import Reference, capture
from aether_deploy.runners.pytorch import TorchRunner

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["Trained", "capture_exact", "capture_reference"]


class Trained:
    """A trained network's outputs, each captured when first asked for and kept for the steps that follow.

    Fusing and exporting are compared with the same outputs, which take a fifth of the time of both.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: str | os.PathLike[str] | None = None,
        tolerances: Mapping[str, Tolerance] = TOLERANCES,
    ) -> None:
        """Args are those of `capture_reference`; nothing is run yet."""
        self.checkpoint = checkpoint
        self.images = images
        self.tolerances = tolerances

    @functools.cached_property
    def reference(self) -> Reference:
        """See `capture_reference`."""
        return self._captured(None)

    def of_shape(self, static: Shape | None) -> Reference:
        """The outputs for the only (N, C, H, W) that an artifact takes; `reference` if it takes any."""
        return self.reference if static is None else self._captured(static)

    def _captured(self, static: Shape | None) -> Reference:
        return capture_reference(self.checkpoint, self.images, static=static, tolerances=self.tolerances)

    @functools.cached_property
    def exact(self) -> Reference:
        """See `capture_exact`."""
        return capture_exact(self.checkpoint)


def capture_reference(
    checkpoint: Checkpoint,
    images: str | os.PathLike[str] | None = None,
    *,
    static: Shape | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> Reference:
    """Runs every case through the trained network in float32, with weights read from disk.

    Args:
        checkpoint: unfused, or fused if only that is left.
        images: folder of photos for the cases; by default the packaged ones.
        static, shapes: see `parity_cases`.
        tolerances: by what candidates will be judged.
    """
    spec = checkpoint.spec
    cases = parity_cases(parity_photos(images), in_chans=spec.in_chans, static=static, shapes=shapes, sizes=spec.sizes)
    with TorchRunner.from_checkpoint(checkpoint, channels_last=True) as runner:
        return capture(runner.run, cases, tolerances)


def capture_exact(checkpoint: Checkpoint) -> Reference:
    """Runs a small photo and small noise in float64, which takes ten times as long as float32.

    A picture of 13 pixels a side uses every weight of a kernel of up to 25x25.
    """
    channels, sizes = checkpoint.spec.in_chans, checkpoint.spec.sizes
    (name, photo), *_ = parity_photos()
    noise = np.random.default_rng(0).random((1, channels, *sizes.fit(17, 13)), dtype=np.float32)
    cases = [
        Case(name, with_channels(fitted(photo, 1, *sizes.fit(16, 24)), channels)),
        Case("noise", noise, drawn=True),
    ]
    with TorchRunner.from_checkpoint(checkpoint, double=True) as runner:
        return capture(runner.run, cases)
