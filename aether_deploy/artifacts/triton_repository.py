"""A model repository for NVIDIA's Triton Inference Server: `NAME/config.pbtxt` and `NAME/1/model.onnx` or `model.plan`.

The model is an ONNX file or a TensorRT engine like any other, proved, with its manifest beside it; Triton reads the two
files whose names it knows. The folder given to `export` is the repository.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.artifacts.formats import FORMATS, Finding, Format
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.artifacts.onnx_file import describe, open_file, prove
from aether_deploy.files import replacing
from aether_deploy.graphs.shapes import INPUT, OUTPUT

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.precisions.variant import Variant
    from aether_deploy.proof.manifest import Manifest

__all__ = ["describe", "export", "findings", "open_file", "plan", "prove"]

# Row -> the row of the file that it holds, and that file's name.
_MODELS = {"triton": ("onnx", "model.onnx"), "triton-tensorrt": ("tensorrt", "model.plan")}
_TYPES = {"fp32": "TYPE_FP32", "fp16": "TYPE_FP16"}
# Pictures of one size that wait are run together, at most so many.
_BATCH = 8


def plan(row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
    """`2x_Name_fp16/1/model.onnx` and `2x_Name_fp16/config.pbtxt`; see `FormatModule.plan`."""
    of, file = _MODELS[row.name]
    made = FORMATS[of].maker.plan(FORMATS[of], spec, variant, options, stem)
    place = stem.with_name(f"{stem.name}_{made.variant.precision}{made.variant.tags}")
    version = place / "1"
    onnx = made.onnx and dataclasses.replace(made.onnx, path=version / made.onnx.path.name)
    return dataclasses.replace(made, format=row.name, path=version / file, onnx=onnx, parts=(place / "config.pbtxt",))


def export(source: Source, target: Target) -> Artifact:
    """Makes and proves the model, then writes what Triton has to know; see `FormatModule.export`."""
    made = FORMATS[_MODELS[target.format][0]].maker.export(source, target)
    (config,) = target.parts
    with replacing(config) as temporary:
        temporary.write_text(_config(config.parent.name, made.manifest, target), encoding="utf-8")
    return made


def _config(name: str, manifest: Manifest, target: Target) -> str:
    """The text of config.pbtxt."""
    variant = manifest.variant
    if target.engine is not None:
        profiles = target.engine.request.profiles
        shapes = [shape for profile in profiles for shape in profile.shapes]
        front = [shapes[0][0] if len({shape[0] for shape in shapes}) == 1 else -1]
        static = shapes[0] if len(set(shapes)) == 1 else None
        lines = ['platform: "tensorrt_plan"', "max_batch_size: 0"]
        numbers = ", ".join(f'"{index}"' for index in range(len(profiles)))
        group = f"instance_group [ {{ kind: KIND_GPU count: 1 profile: [ {numbers} ] }} ]"
    else:
        static = variant.static
        # With a batch size of its own, Triton puts the batch in front of the other sizes.
        front = [static[0]] if static else []
        lines = ['backend: "onnxruntime"', f"max_batch_size: {0 if static else _BATCH}"]
        group = "instance_group [ { kind: KIND_AUTO count: 1 } ]"
    channels, scale = manifest.network["in_chans"], manifest.network["scale"]
    sizes = static[2:] if static else (-1, -1)
    for what, end, factor in (("input", INPUT, 1), ("output", OUTPUT, scale)):
        dims = [*front, channels, *(size if size < 0 else size * factor for size in sizes)]
        shown = ", ".join(map(str, dims))
        lines.append(f'{what} [ {{ name: "{end}" data_type: {_TYPES[variant.io]} dims: [ {shown} ] }} ]')
    lines.append(group)
    if not front:
        lines.append("dynamic_batching { }")
    return "\n".join([f'name: "{name}"', *lines]) + "\n"


def findings(row: Format) -> Sequence[Finding]:
    """Nothing: a repository is written without Triton, and what it holds is another row's."""
    return ()
