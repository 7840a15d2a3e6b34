"""What every format shares: the request, what will be made, what it is made from, and what was made."""

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
    from aether_deploy.precisions.forms import Exported

__all__ = ["Artifact", "ExportOptions", "ExportPlan", "Source", "Target"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a checkpoint.

    Attributes:
        formats: names from `formats.EXPORTS`.
        variants: the forms of each, see `variant.variants`; all with the same `static` shape and `pad`.
        output: folder; by default the checkpoint's.
        name: of the files, without scale and tags; by default the checkpoint's.
        images: folder of photos to prove parity on; by default the packaged ones.
        engine: targets, profiles and memory of engines.
        calibration: folder of low-resolution photos on which the ranges of 8 bits are found; by default parts of
            packaged ones. None of them may be in `images`.
        quality: least PSNR of 8 bits to the network as it was trained, in dB; by default the precision's own.
        max_lost: most PSNR that 8 bits may lose against ground truth, in dB; by default the precision's own.
    """

    formats: tuple[str, ...] = ("onnx",)
    variants: tuple[Variant, ...] = (Variant(),)
    output: str | os.PathLike[str] | None = None
    name: str | None = None
    images: str | os.PathLike[str] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    calibration: str | os.PathLike[str] | None = None
    quality: float | None = None
    max_lost: float | None = None

    @property
    def static(self) -> Shape | None:
        """The variants' fixed input shape (N, C, H, W); None if it is dynamic."""
        return self.variants[0].static


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact to be made.

    Attributes:
        format: a key of `FORMATS`.
        variant: the ONNX form that it has, or is built from.
        path: of the file.
        engine: how to build an engine; None for other formats.
        onnx: the file that an engine is built from; None for other formats.
        parts: the other files that belong to it, and have no manifests of their own.
    """

    format: str
    variant: Variant
    path: Path
    engine: EnginePlan | None = None
    onnx: Target | None = None
    parts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What `export_model` will make, checked and named; nothing has been run.

    Attributes:
        checkpoint: to export.
        options: as requested.
        targets: the artifacts, in order.
    """

    checkpoint: Checkpoint
    options: ExportOptions
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What every target is made from: the fused network, the trained one's outputs, and the options.

    `exported` collects what the exporter gave, and `proved` the ONNX files as they are written, so that nothing is made
    twice.
    """

    checkpoint: Checkpoint
    network: nn.Module
    reference: Reference
    options: ExportOptions = field(default_factory=ExportOptions)
    exported: Exported = field(default_factory=dict)
    proved: dict[Variant, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was reloaded and proved.

    Attributes:
        target: that it was made for.
        path: of the file.
        report: the figures, case by case; printing it gives the table that the commands show.
        manifest: the one beside it.
    """

    target: Target
    path: Path
    report: ParityReport
    manifest: Manifest
