"""The outputs of the network as it was trained, captured before anything is done to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aether_deploy.network.family import Sizes
from aether_deploy.pictures.sizes import fitted, run_fitted, with_channels
from aether_deploy.proof.cases import Case, parity_cases
from aether_deploy.proof.photos import parity_photos
from aether_deploy.proof.tolerances import TOLERANCES, Tolerance
from aether_deploy.proof.verdict import Reference, capture
from aether_deploy.runners.pytorch import TorchRunner

if TYPE_CHECKING:
    from aether_deploy.arrays import Shape
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.precisions.variant import Variant

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
        return self._captured()

    def of(self, variant: Variant) -> Reference:
        """The outputs for what an artifact takes: any input, one shape, or also sizes that the network does not."""
        if variant.static is None and not variant.pad:
            return self.reference
        return self._captured(static=variant.static, any_size=variant.pad)

    def _captured(self, **inputs: Any) -> Reference:
        return capture_reference(self.checkpoint, self.images, tolerances=self.tolerances, **inputs)

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
    any_size: bool = False,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> Reference:
    """Runs every case through the trained network in float32, with weights read from disk.

    Args:
        checkpoint: unfused, or fused if only that is left.
        images: folder of photos for the cases; by default the packaged ones.
        static, shapes: see `parity_cases`.
        any_size: whether sizes that the network does not take are among them, for which it is run as `run_fitted` does.
        tolerances: by what candidates will be judged.
    """
    spec = checkpoint.spec
    sizes = Sizes() if any_size else spec.sizes
    cases = parity_cases(parity_photos(images), in_chans=spec.in_chans, static=static, shapes=shapes, sizes=sizes)
    with TorchRunner.from_checkpoint(checkpoint, channels_last=True) as runner:
        return capture(functools.partial(run_fitted, runner) if any_size else runner.run, cases, tolerances)


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
