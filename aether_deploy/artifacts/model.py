"""What every format shares: what is asked for, what will be made, what it is made from, and what was made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.engines.plan import EngineOptions, EnginePlan
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.manifest import Manifest
from aether_deploy.proof.verdict import ParityReport, Reference

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.arrays import Shape
    from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["Artifact", "ExportOptions", "ExportPlan", "Source", "Target"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a checkpoint.

    Attributes:
        formats: names of `formats.EXPORTS`.
        variants: the forms of each, see `variant.variants`; all of one shape.
        output: folder; beside the checkpoint by default.
        name: of the files, without scale and tags; the checkpoint's by default.
        images: photos to prove parity on; the packaged ones by default.
        engine: targets, profiles and memory of engines.
    """

    formats: tuple[str, ...] = ("onnx",)
    variants: tuple[Variant, ...] = (Variant(),)
    output: str | os.PathLike[str] | None = None
    name: str | None = None
    images: str | os.PathLike[str] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)

    @property
    def static(self) -> Shape | None:
        """The fixed shape of the input that the variants have."""
        return self.variants[0].static


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact to be made.

    Attributes:
        format: a key of `FORMATS`.
        variant: the ONNX form that it is or is built from.
        path: of the file.
        engine: how an engine is built.
        onnx: the file that an engine is built from.
    """

    format: str
    variant: Variant
    path: Path
    engine: EnginePlan | None = None
    onnx: Target | None = None


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What `export_model` will make, checked and named; nothing has been run.

    Attributes:
        checkpoint: of which.
        options: that were asked for.
        targets: the artifacts, in order.
    """

    checkpoint: Checkpoint
    options: ExportOptions
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What every target is made from: the fused network, and what the trained one gave.

    `proved` collects the ONNX files that are written, so that no target makes one again.
    """

    checkpoint: Checkpoint
    network: nn.Module
    reference: Reference
    proved: dict[Variant, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was reloaded and proved.

    Attributes:
        target: that it was.
        path: of the file.
        report: the figures, case by case; print it as the table that the commands show.
        manifest: beside it.
    """

    target: Target
    path: Path
    report: ParityReport
    manifest: Manifest
