"""The kinds of files, and how each is planned, made, opened and described.

A new one is a module beside this and a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from aether_deploy.network.experiment import SUFFIXES

if TYPE_CHECKING:
    from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.precisions.variant import Variant
    from aether_deploy.proof.manifest import Manifest
    from aether_deploy.proof.reference import Trained
    from aether_deploy.runners.protocol import Runner

__all__ = ["EXPORTS", "FORMATS", "Finding", "Format", "FormatModule", "KnownFile", "format_of"]


@dataclass(frozen=True, slots=True)
class Format:
    """A row of the table.

    Attributes:
        name: for `--format`.
        kind: in manifests.
        title: shown to people.
        suffixes: of its files.
        module: in this folder, a `FormatModule`; imported only when needed, so that the table itself is cheap.
        parts: suffixes of the other files that belong to each: they are hashed with it.
        exported: whether `export` makes it.
        use: the command to suggest after exporting, if it is not `upscale`; `{folder}` stands for the file's.
        next: the command to suggest after inspecting such a file, and what follows the file's name in it.
    """

    name: str
    kind: str
    title: str
    suffixes: tuple[str, ...]
    module: str
    parts: tuple[str, ...] = ()
    exported: bool = True
    use: tuple[str, ...] = ()
    next: tuple[str, ...] = ("upscale", "PHOTO.png")

    @property
    def maker(self) -> FormatModule:
        """The imported module of this format."""
        return cast("FormatModule", importlib.import_module(f"aether_deploy.artifacts.{self.module}"))

    @property
    def shows_layers(self) -> bool:
        """Whether its graph can be looked into, as `locate` does."""
        return self.kind in ("checkpoint", "onnx")

    def parts_of(self, path: Path) -> tuple[Path, ...]:
        """The other files that belong to one, whether they are there or not."""
        return tuple(path.with_suffix(suffix) for suffix in self.parts)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that was found, hashed once and compared with its manifest.

    Attributes:
        path: of the file; for a neosr folder, the checkpoint that was taken.
        format: by its suffix.
        sha256: of the file and its parts, one after the other; hexadecimal.
        manifest: the one beside it; None if there is none.
        loaded: a checkpoint that was read before, perhaps with options that its file does not tell; else None.
    """

    path: Path
    format: Format
    sha256: str
    manifest: Manifest | None
    loaded: Checkpoint | None = None

    @property
    def matches(self) -> bool:
        """Whether the file is the one that its manifest describes."""
        return self.manifest is not None and self.manifest.artifact["sha256"] == self.sha256


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a machine can or cannot do.

    Attributes:
        topic: driver, gpu, flavour, provider or torch.
        name: of the thing.
        works: whether it worked when tried.
        detail: the version, or why it does not work.
        remedy: a command or advice; "" if none is needed.
    """

    topic: str
    name: str
    works: bool
    detail: str
    remedy: str = ""


class FormatModule(Protocol):
    """What a format's module provides; one that is not exported has neither `plan` nor `export`."""

    def plan(self, row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
        """The file that would be made of a variant.

        Args:
            row: of the table, since several rows can share a module.
            spec: of the network.
            variant: the requested one.
            options: of the whole export.
            stem: folder, scale and name of the file, without tags.
        Raises:
            AetherDeployError: an impossible request, before anything is exported.
        """
        ...

    def export(self, source: Source, target: Target) -> Artifact:
        """Makes and proves the file, and publishes it with its manifest.

        Raises:
            ParityError: the file is not the network as it was trained; nothing is left behind.
            AetherDeployError: the file cannot be made.
        """
        ...

    def prove(self, file: KnownFile, trained: Trained) -> Manifest:
        """Compares a file that was made before with the network as it was trained, once more.

        Args:
            file: that matches its manifest.
            trained: the network, the photos and the tolerances.
        Returns:
            the file's manifest with the new proof; it is not written.
        Raises:
            ParityError: the file is not the network as it was trained.
            AetherDeployError: the file cannot be run.
        """
        ...

    def open_file(
        self, file: KnownFile, *, device: str | None, threads: int | None, trust: bool, faithful: bool
    ) -> Runner:
        """A runner for the file; see `opening.open_artifact`."""
        ...

    def describe(self, file: KnownFile, *, reading: dict[str, Any]) -> dict[str, Any]:
        """What the file says about itself, as plain values for JSON.

        Args:
            file: to describe.
            reading: how to read a checkpoint, see `load_checkpoint`.
        """
        ...

    def findings(self, row: Format) -> Sequence[Finding]:
        """What this machine can do with files of this format."""
        ...


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            "checkpoint",
            "checkpoint",
            "PyTorch checkpoint",
            SUFFIXES,
            "checkpoint_file",
            exported=False,
            next=("export",),
        ),
        Format("onnx", "onnx", "ONNX file", (".onnx",), "onnx_file", next=("parity", "OTHER")),
        Format("tensorrt", "engine", "TensorRT engine", (".engine", ".plan"), "engine_file"),
        Format("tensorrt-rtx", "engine", "TensorRT-RTX engine", (".engine",), "engine_file"),
        Format("triton", "onnx", "Triton model repository", (".onnx",), "triton_repository"),
        Format("triton-tensorrt", "engine", "Triton model repository", (".plan",), "triton_repository"),
        Format(
            "web",
            "onnx",
            "page for the browser",
            (".onnx",),
            "web_folder",
            use=("python", "-m", "http.server", "--directory", "{folder}"),
        ),
        Format("ncnn", "ncnn", "ncnn network", (".param",), "ncnn_file", parts=(".bin",)),
    )
}

# The choices of `--format`.
EXPORTS: tuple[str, ...] = tuple(name for name, row in FORMATS.items() if row.exported)


def format_of(path: Path) -> Format | None:
    """The first row with this suffix, or None; an engine's flavour is in its manifest and header."""
    return next((row for row in FORMATS.values() if path.suffix in row.suffixes), None)
