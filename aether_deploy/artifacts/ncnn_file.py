"""The ncnn network as a format: converted by pnnx, renamed for the programs of the field, run by ncnn and proved.

The FFN is always written as 1x1 convolutions: ncnn's linear layers take twenty times as long.
"""

from __future__ import annotations

import dataclasses
import logging
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.formats import Finding, Format, KnownFile
from aether_deploy.artifacts.model import Artifact, ExportOptions, Source, Target
from aether_deploy.errors import ExportError, RunnerError
from aether_deploy.extras import install_extra
from aether_deploy.files import publish, scratch, staging
from aether_deploy.network.families import spec_from_dict
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import Manifest
from aether_deploy.proof.verdict import Reference, verify
from aether_deploy.runners.devices import device_of
from aether_deploy.runners.ncnn import INPUT, OUTPUT, NcnnRunner, require_ncnn

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec
    from aether_deploy.proof.reference import Trained
    from aether_deploy.proof.verdict import ParityReport
    from aether_deploy.runners.protocol import Runner

__all__ = ["describe", "export", "findings", "open_file", "plan", "prove"]

logger = logging.getLogger(__name__)

# pnnx compares two shapes to find out which sizes are free.
_SHAPES = ((48, 64), (56, 40))
_PRECISIONS = ("fp32", "fp16")


def plan(row: Format, spec: NetworkSpec, variant: Variant, options: ExportOptions, stem: Path) -> Target:
    """`2x_Name_fp16.param` and `.bin`; see `FormatModule.plan`."""
    if variant.precision not in _PRECISIONS:
        raise ExportError(f"ncnn has no {variant.precision} here; give --precision {' or '.join(_PRECISIONS)}")
    if variant.static is not None or variant.pad or (variant.io, variant.islands) != ("fp32", "default"):
        raise ExportError("--static, --pad, --io and --islands are not for ncnn's files; leave them out")
    _require_pnnx()
    require_ncnn()
    path = stem.with_name(f"{stem.name}_{variant.precision}{row.suffixes[0]}")
    return Target(row.name, dataclasses.replace(variant, ffn="conv1x1"), path, parts=row.parts_of(path))


def export(source: Source, target: Target) -> Artifact:
    """Converts the fp32 graph, its weights rounded for fp16; see `FormatModule.export`.

    Raises:
        ParityError: the network that ncnn runs is not the one that was trained.
        ExportError: pnnx cannot convert it.
    """
    spec, variant = source.checkpoint.spec.as_fused(), target.variant
    logger.info("converting %s with pnnx", target.path.name)
    with staging(target.path.parent) as folder:
        path = folder / target.path.name
        _convert(source, variant, path)
        report = _proved(path, spec, variant, source.reference)
        written = Manifest(
            artifact=manifest.describe_artifact(path, target.format, *(folder / part.name for part in target.parts)),
            source=manifest.describe_source(source.checkpoint),
            network=spec.as_dict(),
            parity=report.as_dict(),
            variant=variant,
            tools=manifest.tool_versions("torch", "onnx", "onnx-ir", "onnxscript", "pnnx", "ncnn", "numpy"),
            created=manifest.utc_now(),
        )
        written.write(path)
        publish(folder, target.path.parent)
    return Artifact(target, target.path, report, written)


def _proved(path: Path, spec: NetworkSpec, variant: Variant, reference: Reference) -> ParityReport:
    with NcnnRunner(path, precision=variant.precision, spec=spec, exact=True) as runner:
        report = verify(reference, runner.run, variant.precision, what=path.name)
    report.require(path.name)
    return report


def _convert(source: Source, variant: Variant, path: Path) -> None:
    """Writes `path` and its `.bin`."""
    from aether_deploy.graphs.exporter import save_onnx
    from aether_deploy.precisions.forms import fp32_model

    spec = source.checkpoint.spec.as_fused()
    plain = Variant("fp32", ffn=variant.ffn, opset=variant.opset)
    graph = fp32_model(source.network, spec, plain, source.exported)
    with scratch("ncnn") as folder:
        save_onnx(graph, folder / "network.onnx")
        first, second = (f"[1,{spec.in_chans},{height},{width}]" for height, width in _SHAPES)
        shapes = (f"inputshape={first}", f"inputshape2={second}")
        command = [_require_pnnx(), "network.onnx", *shapes, f"fp16={int(variant.precision == 'fp16')}"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        made = folder / "network.ncnn.param"
        if ran.returncode != 0 or not made.is_file():
            said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()[-1]
            raise ExportError(f"pnnx cannot convert {path.name} (exit {ran.returncode}: {said})")
        path.write_text(_renamed(made.read_text(encoding="utf-8")), encoding="utf-8")
        path.with_suffix(".bin").write_bytes(made.with_suffix(".bin").read_bytes())


def _renamed(text: str) -> str:
    """The same network with its ends called as the programs of the field expect them.

    A line is a layer: type, name, how many inputs and outputs, their names, settings.
    """
    names = {"in0": INPUT, "out0": OUTPUT}
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4:
            ends = range(4, 4 + int(words[2]) + int(words[3]))
            words = [names.get(word, word) if place in ends or place == 1 else word for place, word in enumerate(words)]
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def _require_pnnx() -> str:
    """Path of pnnx's program; raises ExportError if it is not installed."""
    try:
        import pnnx
    except ImportError as error:
        raise ExportError(f"pnnx is not installed ({error}): {install_extra('ncnn')}") from error
    return str(pnnx.EXEC_PATH)


def prove(file: KnownFile, trained: Trained) -> Manifest:
    """See `FormatModule.prove`."""
    assert file.manifest is not None  # the caller's part
    spec, variant = spec_from_dict(file.manifest.network), file.manifest.variant
    report = _proved(file.path, spec, variant, trained.reference)
    return dataclasses.replace(file.manifest, parity=report.as_dict())


def open_file(file: KnownFile, *, device: str | None, threads: int | None, trust: bool, faithful: bool) -> Runner:
    """Opens it in ncnn, on the CPU unless `device` is vulkan.

    Raises:
        RunnerError: another device; or no manifest vouches for the file, and ncnn does not check what it reads.
    """
    chosen = device_of(device)
    if chosen.name not in ("auto", "cpu", "vulkan"):
        raise RunnerError(f"{file.path}: an ncnn network for --device {chosen}; choose cpu or vulkan")
    if not (file.matches or trust):
        raise RunnerError(
            f"{file.path}: no manifest vouches for it, and ncnn does not check what it reads; "
            "export it here, or add --trust if you know where it comes from"
        )
    known = file.manifest
    return NcnnRunner(
        file.path,
        precision=known.variant.precision if known else "fp32",
        spec=spec_from_dict(known.network) if known else None,
        device=chosen if chosen.name == "vulkan" else None,
        threads=threads,
        exact=faithful,
    )


def describe(file: KnownFile, *, reading: dict[str, Any]) -> dict[str, Any]:
    """Layers and ends, from the text alone.

    Raises:
        RunnerError: it is no list of layers.
    """
    try:
        lines = [line.split() for line in file.path.read_text(encoding="utf-8").splitlines()]
        layers = [words for words in lines[2:] if words]
        count = int(lines[1][0])
        whole = lines[0] == ["7767517"] and count == len(layers) and all(len(words) > 4 for words in layers)
        ends = [(words, 4 + int(words[2]), 4 + int(words[2]) + int(words[3])) for words in layers]
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise RunnerError(f"{file.path}: no list of ncnn's layers; export it again") from error
    if not whole:
        raise RunnerError(f"{file.path}: no list of ncnn's layers; export it again")
    read = {name for words, inner, _ in ends for name in words[4:inner]}
    made = [name for words, inner, outer in ends for name in words[inner:outer]]
    return {
        "inputs": {words[4]: "float32 (C, H, W)" for words in layers if words[0] == "Input"},
        "outputs": {name: "float32 (C, H, W)" for name in made if name not in read},
        "layers": count,
        "operators": dict(Counter(words[0] for words in layers).most_common()),
        "precision": file.manifest.variant.precision if file.manifest else "unknown",
    }


def findings(row: Format) -> Sequence[Finding]:
    """Whether ncnn and its converter are here, and what Vulkan finds."""
    logger.info("ncnn")
    try:
        _require_pnnx()
        ncnn = require_ncnn()
    except (ExportError, RunnerError) as error:
        return [Finding("flavour", "ncnn", False, str(error), install_extra("ncnn"))]
    return [Finding("flavour", "ncnn", True, f"{ncnn.__version__}, --format {row.name}")]
