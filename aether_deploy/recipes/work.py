"""A recipe with its checkpoint read, and what its steps share: the trained network's outputs, limits, keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from aether_deploy.artifacts.opening import known_file
from aether_deploy.errors import ConfigError
from aether_deploy.files import locked
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.proof.manifest import utc_now
from aether_deploy.proof.reference import Trained
from aether_deploy.proof.tolerances import TOLERANCES, Tolerance
from aether_deploy.recipes.keys import key_of, photos, tools
from aether_deploy.recipes.recipe import Limits, Recipe

__all__ = ["Work", "tolerances"]


class Work:
    """A recipe with its checkpoint read, and what the steps share.

    Attributes:
        recipe: as read.
        output: the folder for everything.
        checkpoint: as it was trained.
        trained: its outputs, captured when the first step needs them.
        name: of the files.
        photos: name -> sha256 of those that the proof and the pictures are made with.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Reads the checkpoint.

        Raises:
            CheckpointError, ConfigError: see `load_checkpoint` and `tolerances`.
        """
        self.recipe = recipe
        self.output = Path(recipe.output)
        self.images = Path(recipe.images) if recipe.images else None
        self.checkpoint = load_checkpoint(
            recipe.checkpoint,
            param_key=recipe.param_key,
            img_range=recipe.img_range,
            options=Path(recipe.opt) if recipe.opt else None,
        )
        judged_by = tolerances(recipe.limits)
        self.trained = Trained(self.checkpoint, self.images, judged_by)
        self.name = recipe.name or self.checkpoint.name
        self.photos = photos(recipe.images)
        self.source = key_of(self.checkpoint.sha256, self.checkpoint.spec.as_dict(), recipe.param_key)
        self.proof = {gate: key_of(self.photos, dataclasses.asdict(tolerance)) for gate, tolerance in judged_by.items()}

    def key(self, *parts: object) -> str:
        """A key of the checkpoint, the tools and more."""
        return key_of(self.source, tools(), *parts)

    def prove_again(self, name: str) -> None:
        """Compares an artifact with the trained network, and writes its manifest anew if it passes."""
        file = known_file(self.output / name)
        proved = file.format.maker.prove(file, self.trained)
        with locked(self.output):
            dataclasses.replace(proved, created=utc_now()).write(file.path)


def tolerances(limits: Mapping[str, Limits]) -> dict[str, Tolerance]:
    """`TOLERANCES`, narrowed by a recipe.

    Raises:
        ConfigError: a limit that is wider than what is allowed anyway.
    """
    result = dict(TOLERANCES)
    for precision, asked in limits.items():
        row = TOLERANCES[precision]
        levels = row.max_abs * 255 if asked.levels is None else asked.levels
        psnr = row.min_psnr if asked.psnr is None else asked.psnr
        if levels > row.max_abs * 255 or psnr < row.min_psnr:
            raise ConfigError(
                f"limits.{precision}: {levels:g} levels and {psnr:g} dB; a recipe may ask for less than "
                f"{row.max_abs * 255:.3g} levels and more than {row.min_psnr:g} dB, never the reverse"
            )
        result[precision] = dataclasses.replace(row, max_abs=levels / 255, min_psnr=psnr)
    return result
