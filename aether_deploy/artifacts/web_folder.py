"""A folder for any static host: a page that upscales a photo in the browser, with the proved ONNX file in it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.artifacts import onnx_file
from aether_deploy.artifacts.formats import FORMATS, Finding, Format
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.artifacts.onnx_file import describe, open_file, prove
from aether_deploy.artifacts.web_runtime import RUNTIME_FILES, VERSION, write_runtime
from aether_deploy.errors import ExportError
from aether_deploy.files import publish, staging
from aether_deploy.pictures.edge_reach import effective_margin
from aether_deploy.runners.onnx_runtime import OnnxRunner

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.precisions.variant import Variant

__all__ = ["describe", "export", "findings", "open_file", "plan", "prove"]

logger = logging.getLogger(__name__)

_PAGE = ("index.html", "page.css", "page.mjs", "worker.mjs")
_SETTINGS, _NOTICE = "settings.json", "NOTICE.txt"
# Input pixels along a side of a tile, without its overlap: large enough for a GPU, small enough for a telephone.
_INNER = 128


def plan(row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
    """`2x_Name_fp32_web/index.html` and `model.onnx`; see `FormatModule.plan`."""
    if spec.in_chans != 3 or variant.static is not None or variant.io != "fp32":
        raise ExportError(
            "--format web is for photos of any size: a network of 3 channels, without --static and --io fp16"
        )
    made = onnx_file.plan(FORMATS["onnx"], spec, variant, options, stem)
    place = stem.with_name(f"{stem.name}_{variant.precision}{variant.tags}_web")
    parts = tuple(place / name for name in (*_PAGE, _SETTINGS, _NOTICE, *RUNTIME_FILES))
    return dataclasses.replace(made, format=row.name, path=place / "model.onnx", parts=parts)


def export(source: Source, target: Target) -> Artifact:
    """Makes and proves the ONNX file, then writes the page around it; see `FormatModule.export`.

    Raises:
        ExportError: onnxruntime-web cannot be had; see `write_runtime`.
    """
    place = target.path.parent
    with staging(place) as folder:
        write_runtime(folder)  # first, since it may fail where nothing else does
        made = onnx_file.export(source, target)
        logger.info("writing the page")
        page = files("aether_deploy.artifacts") / "web_page"
        for name in _PAGE:
            (folder / name).write_text((page / name).read_text(encoding="utf-8"), encoding="utf-8")
        with OnnxRunner(target.path) as runner:
            margin = effective_margin(runner)
        settings = {
            "name": source.options.name or source.checkpoint.name,
            "model": target.path.name,
            "sha256": made.manifest.artifact["sha256"],
            "precision": target.variant.precision,
            "scale": source.checkpoint.spec.scale,
            "margin": margin,
            "tile": _INNER + 2 * margin,
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (folder / _NOTICE).write_text(
            f"{' and '.join(RUNTIME_FILES)}: onnxruntime-web {VERSION},\n"
            "Copyright (c) Microsoft Corporation, MIT License, https://github.com/microsoft/onnxruntime/blob/main/LICENSE\n",
            encoding="utf-8",
        )
        publish(folder, place)
    return made


def findings(row: Format) -> Sequence[Finding]:
    """Nothing: what the page runs is in the folder."""
    return ()
