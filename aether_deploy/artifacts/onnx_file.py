"""The ONNX file as a format: planned, published, opened and described; `onnx_proof` writes and proves it."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from aether_deploy.artifacts.formats import Finding, Format, KnownFile
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.artifacts.onnx_proof import prove_again, write_proved
from aether_deploy.artifacts.onnx_providers import examine_providers
from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import AetherDeployError, ExportError, RunnerError
from aether_deploy.extras import ONNXRUNTIMES
from aether_deploy.files import publish, sha256_of, staging
from aether_deploy.graphs.shapes import dynamic_shapes, static_shapes
from aether_deploy.network.families import family_of
from aether_deploy.network.family import Sizes
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import Manifest, require_match
from aether_deploy.proof.verdict import ParityError
from aether_deploy.runners.devices import Device, device_of
from aether_deploy.runners.onnx_reading import read_onnx
from aether_deploy.runners.onnx_runtime import OnnxRunner

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.proof.reference import Trained
    from aether_deploy.runners.protocol import Runner

__all__ = ["describe", "export", "findings", "open_file", "plan", "prove", "write_onnx"]

logger = logging.getLogger(__name__)


def plan(row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
    """`2x_Name_fp16_op20.onnx`; see `FormatModule.plan`."""
    name = f"{stem.name}_{variant.precision}_op{variant.opset}{variant.tags}{row.suffixes[0]}"
    return Target(row.name, variant, stem.with_name(name))


def export(source: Source, target: Target) -> Artifact:
    """See `FormatModule.export`; a file that was already made is not made again, but copied if it stands elsewhere."""
    proved = source.proved.get(target.variant)
    if proved is not None and proved.path == target.path:
        return proved
    with staging(target.path.parent) as folder:
        made = write_onnx(source, target, folder) if proved is None else _copied(proved, target, folder)
        publish(folder, target.path.parent)
    source.proved.setdefault(target.variant, made)
    return made


def _copied(proved: Artifact, target: Target, folder: Path) -> Artifact:
    """The same bytes under another name, with a manifest that says so."""
    path = folder / target.path.name
    shutil.copyfile(proved.path, path)
    require_match(path, proved.manifest, sha256_of(path))
    written = dataclasses.replace(proved.manifest, artifact=manifest.describe_artifact(path, "onnx"))
    written.write(path)
    return Artifact(target, target.path, proved.report, written)


def write_onnx(source: Source, target: Target, folder: Path) -> Artifact:
    """Writes and proves the file and its manifest in a staging folder; the artifact has its final path.

    Raises:
        ParityError, ExportError: see `write_proved`.
    """
    from aether_deploy.precisions.forms import fp32_model

    spec = source.checkpoint.spec.as_fused()
    variant, name = target.variant, target.path.name
    logger.info("exporting %s", name)
    graph = fp32_model(source.network, spec, variant, source.exported)
    graph.metadata_props.update(_metadata(source, variant))
    path = folder / name
    try:
        proof = write_proved(graph, spec, variant, source.reference, path, source.options)
    except ParityError as error:
        raise ParityError(f"{error}; {_where(source, graph, path)}", error.report) from error
    except RunnerError as error:
        if family_of(spec).operators is not None or variant.static is not None:
            raise
        reason = str(error).replace(str(path), "it")
        raise ExportError(
            f"{name} does not run as exported: {reason}; a fixed size may, --static 1x3x256x256"
        ) from error
    written = Manifest(
        artifact=manifest.describe_artifact(path, "onnx"),
        source=manifest.describe_source(source.checkpoint),
        network=_network(source, variant),
        parity=proof.report.as_dict(),
        variant=variant,
        shapes=dict(static_shapes(variant.static, spec.scale) if variant.static else dynamic_shapes(spec.in_chans)),
        **proof.rounding,
        tools=manifest.tool_versions("torch", "onnx", "onnx-ir", "onnxscript", *ONNXRUNTIMES, "numpy"),
        created=manifest.utc_now(),
    )
    written.write(path)
    return Artifact(target, target.path, proof.report, written)


def _where(source: Source, graph: ir.Model, path: Path) -> str:
    """The first layer of a file that did not pass which is wrong, or the one that costs most."""
    from aether_deploy.artifacts.locating_files import locate_made

    try:
        return locate_made(source.checkpoint, graph, path, source.options.images).verdict
    except AetherDeployError as error:
        return f"which layer is not known ({error})"


def prove(file: KnownFile, trained: Trained) -> Manifest:
    """At the gate of its precision, half precision executed as its types say; see `FormatModule.prove`."""
    assert file.manifest is not None  # the caller's part
    variant = file.manifest.variant
    proof = prove_again(file.path, variant, trained.of(variant), file.manifest.fp32_islands)
    return dataclasses.replace(file.manifest, parity=proof.report.as_dict(), **proof.rounding)


def _network(source: Source, variant: Variant) -> dict[str, Any]:
    """The network that a file is; one that pads takes any size."""
    values = source.checkpoint.spec.as_fused().as_dict()
    return {**values, "sizes": dataclasses.asdict(Sizes())} if variant.pad else values


def _metadata(source: Source, variant: Variant) -> dict[str, str]:
    """The essentials of the manifest, but only what two exports have in common, so that their files are identical."""
    described = manifest.describe_source(source.checkpoint)
    values = {
        **variant.as_dict(),
        "scale": str(source.checkpoint.spec.scale),
        "network": json.dumps(_network(source, variant)),
        **{f"source.{key}": str(value) for key, value in described.items()},
        **{f"tool.{key}": value for key, value in manifest.tool_versions("torch").items()},
    }
    return {f"aether_deploy.{key}": value for key, value in sorted(values.items())}


def open_file(file: KnownFile, *, device: str | None, threads: int | None, trust: bool, faithful: bool) -> Runner:
    """Opens it in ONNX Runtime; on the CPU, half precision is rounded if `faithful` or if operators are missing."""
    chosen = device_of(device)
    if chosen.name == "vulkan":
        raise RunnerError(f"{file.path}: --device vulkan is for ncnn's files; export it with --format ncnn")
    # ONNX Runtime with CUDA looks for its libraries, and prints what it misses, even where there is no driver.
    if chosen.nvidia:
        read_driver().require(chosen.index, f"--device {chosen}")
    if chosen.name not in ("auto", "cpu"):
        return OnnxRunner(file.path, device=chosen, threads=threads)
    if chosen.name == "auto" and read_driver().gpus:
        try:
            return OnnxRunner(file.path, device=Device("cuda"))
        except RunnerError as error:
            logger.warning("%s; the CPU runs it", error)
    from aether_deploy.runners.rounded import RoundedRunner, graph_of, half_type_of

    model = read_onnx(file.path)
    kind = half_type_of(graph_of(model, file.path))
    stored = next((row for row in PRECISIONS.values() if kind is not None and row.half == kind.name), None)
    if stored is not None and (faithful or not stored.in_onnxruntime):
        return RoundedRunner(file.path, threads=threads, model=model)
    return OnnxRunner(file.path, threads=threads, model=model)


def describe(file: KnownFile, *, reading: dict[str, Any]) -> dict[str, Any]:
    """Inputs, outputs, opset, operators and metadata.

    Raises:
        RunnerError: see `read_onnx`.
    """
    model = read_onnx(file.path).proto

    def end(value: onnx.ValueInfoProto) -> str:
        tensor = value.type.tensor_type
        dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
        return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} ({dims})"

    def shown(text: str) -> str:
        return text if text.isprintable() else ascii(text)

    return {
        "opset": next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
        "inputs": {value.name: end(value) for value in model.graph.input},
        "outputs": {value.name: end(value) for value in model.graph.output},
        "nodes": len(model.graph.node),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "metadata": {item.key: shown(item.value) for item in model.metadata_props},
    }


def findings(row: Format) -> Sequence[Finding]:
    """What each execution provider of ONNX Runtime can do here."""
    return examine_providers()
