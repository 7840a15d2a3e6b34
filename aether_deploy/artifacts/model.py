"""What every format shares: what is asked for, what will be made, what it is made from, and what was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.arrays import Shape
from aether_deploy.engines.plan import EngineOptions, EnginePlan
from aether_deploy.graphs.forms import Variant, default_opset
from aether_deploy.graphs.types import HALF
from aether_deploy.proof.manifest import Manifest
from aether_deploy.proof.verdict import ParityReport, Reference

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint
    from neosr.archs.aether_arch import AetherNet

__all__ = ["Artifact", "ExportOptions", "Target"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make of a checkpoint.

    Attributes:
        formats: keys of `FORMATS`.
        precisions: rows of the tolerance table.
        opset: of ONNX, 17 to 23; 20 by default, 22 for bf16, which needs it.
        static: fixed (N, C, H, W) of the input; dynamic otherwise.
        output: folder; beside the checkpoint by default.
        name: of the files, without scale and tags; the checkpoint's by default.
        images: photos to prove parity on; the packaged ones by default.
        io: fp32 or fp16, the type at both ends of half-precision files.
        islands: what stays in fp32 in half-precision files; see `precision.POLICIES`, or auto.
        ffn: linear, or conv1x1.
        engine: targets, profiles and memory of engines.
    """

    formats: tuple[str, ...] = ("onnx",)
    precisions: tuple[str, ...] = ("fp32",)
    opset: int | None = None
    static: Shape | None = None
    output: Path | None = None
    name: str | None = None
    images: Path | None = None
    io: str = "fp32"
    islands: str = "default"
    ffn: str = "linear"
    engine: EngineOptions = field(default_factory=EngineOptions)

    def variant(self, precision: str) -> Variant:
        """The ONNX form of one precision; a file in fp32 has fp32 ends and no islands.

        Raises:
            ExportError: a value that there is not.
        """
        opset = default_opset(precision) if self.opset is None else self.opset
        if precision not in HALF:
            return Variant(precision, ffn=self.ffn, opset=opset, static=self.static)
        return Variant(precision, self.io, self.islands, self.ffn, opset, self.static)


@dataclass(frozen=True, slots=True)
class Target:
    """One artifact to be made.

    Attributes:
        format: a key of `FORMATS`.
        variant: the ONNX form that it is or is built from.
        path: of the file.
        options: that asked for it.
        engine: how an engine is built.
        onnx: the ONNX file that an engine is built from.
    """

    format: str
    variant: Variant
    path: Path
    options: ExportOptions
    engine: EnginePlan | None = None
    onnx: Path | None = None

    @property
    def precision(self) -> str:
        """The row of the tolerance table that it is judged by."""
        return self.variant.precision


@dataclass(frozen=True, slots=True)
class Source:
    """What every target is made from: the fused network, and what the trained one gave.

    `proved` collects the ONNX files that are written, so that no target makes one again.
    """

    checkpoint: Checkpoint
    network: AetherNet
    reference: Reference
    proved: dict[Variant, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was reloaded and proved, its report, and the manifest beside it."""

    target: Target
    path: Path
    report: ParityReport
    manifest: Manifest
