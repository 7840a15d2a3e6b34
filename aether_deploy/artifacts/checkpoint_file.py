"""The checkpoint as a format: opened and described; fused, written, reloaded from disk and proved."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.formats import Finding, Format, KnownFile
from aether_deploy.errors import ReparameterizationError, RunnerError
from aether_deploy.extras import install_extra, is_installed
from aether_deploy.files import publish, staging
from aether_deploy.network.families import family_of
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof import manifest
from aether_deploy.proof.manifest import Manifest
from aether_deploy.runners.devices import device_of

if TYPE_CHECKING:
    from torch import Tensor

    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.proof.reference import Trained
    from aether_deploy.proof.verdict import ParityReport
    from aether_deploy.runners.protocol import Runner

__all__ = ["FuseResult", "default_output", "describe", "findings", "fuse_checkpoint", "open_file", "prove"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FuseResult:
    """What `fuse_checkpoint` wrote.

    Attributes:
        output: the fused checkpoint.
        checkpoint: what it was made from.
        already_fused: whether the output is a copy of a checkpoint that was fused already.
        exact: the fused file against the unfused network, both in float64; None for a copy.
        report: the fused file against the unfused network, both in float32; None for a copy.
        bytes: of the fused file as it was written; 0 for a copy. Another run may be replacing it already.
    """

    output: Path
    checkpoint: Checkpoint
    already_fused: bool
    exact: ParityReport | None
    report: ParityReport | None
    bytes: int = 0


def default_output(checkpoint: Checkpoint) -> Path:
    """`2x_Name_fused.pth` beside the input."""
    # Weights that only their network's description makes readable need a file that has room for it.
    shown = checkpoint.spec.fused or family_of(checkpoint.spec).shown_by_weights
    suffix = checkpoint.path.suffix if shown else ".safetensors"
    return checkpoint.path.with_name(f"{checkpoint.spec.scale}x_{checkpoint.name}_fused{suffix}")


def fuse_checkpoint(
    checkpoint: Checkpoint | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    images: str | os.PathLike[str] | None = None,
    trained: Trained | None = None,
) -> FuseResult:
    """Fuses, writes, reloads from disk, and proves that file against the unfused network.

    Args:
        checkpoint: as trained, or its path; a fused one is only copied.
        output: .pth or .safetensors; by default `2x_Name_fused.pth` beside the input.
        images: folder of photos for the parity cases; by default the packaged ones.
        trained: the checkpoint's outputs, if other steps need them too; has its own `images`.
    Raises:
        CheckpointError: a path that cannot be read as a checkpoint.
        ParityError: the file is not the network as it was trained; nothing is left behind.
        ReparameterizationError: the output would replace the input, or the branches are not one convolution.
    """
    from aether_deploy.network.checkpoint import Checkpoint, load_checkpoint, network_metadata
    from aether_deploy.proof.exactness import require_exact
    from aether_deploy.proof.reference import Trained

    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    target = Path(output) if output is not None else default_output(loaded)
    if loaded.spec.fused:
        _copy(loaded, target)
        return FuseResult(target, loaded, True, None, None)
    if target.resolve() == loaded.path.resolve():
        raise ReparameterizationError(
            f"{target} is the input itself; the unfused weights would be lost: choose another"
        )

    shown = family_of(loaded.spec).shown_by_weights
    if not shown and target.suffix != ".safetensors":
        raise ReparameterizationError(
            f"{target}: fused, {loaded.spec.variant} is loaded by what the file says of it; give a .safetensors file"
        )

    trained = trained or Trained(loaded, images)
    with staging(target.parent) as folder:
        path = folder / target.name
        _save(loaded.spec.fuse(loaded.state_dict), path, {} if shown else network_metadata(loaded.spec.as_fused()))
        reloaded = load_checkpoint(path, img_range=loaded.spec.img_range)
        exact = require_exact(trained, reloaded.build(), target.name)
        report = _compared(reloaded, trained, target.name)
        described = manifest.describe_artifact(path, "checkpoint")
        Manifest(
            artifact=described,
            source=manifest.describe_source(loaded),
            network=reloaded.spec.as_dict(),
            parity=report.as_dict(),
            variant=Variant(),
            tools=manifest.tool_versions("torch", "numpy"),
            created=manifest.utc_now(),
        ).write(path)
        publish(folder, target.parent)
    return FuseResult(target, loaded, False, exact, report, described["bytes"])


def _compared(fused: Checkpoint, trained: Trained, name: str) -> ParityReport:
    """The fused network, read from disk, against the trained one in float32; raises ParityError."""
    from aether_deploy.proof.verdict import verify
    from aether_deploy.runners.pytorch import TorchRunner

    with TorchRunner.from_checkpoint(fused, channels_last=True) as runner:
        report = verify(trained.reference, runner.run, "fp32", what="fused")
    report.require(name)
    return report


def prove(file: KnownFile, trained: Trained) -> Manifest:
    """In float64 and in float32, as when it was fused; see `FormatModule.prove`."""
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.proof.exactness import require_exact

    assert file.manifest is not None  # the caller's part
    fused = load_checkpoint(file.path, img_range=trained.checkpoint.spec.img_range, sha256=file.sha256)
    require_exact(trained, fused.build(), file.path.name)
    return dataclasses.replace(file.manifest, parity=_compared(fused, trained, file.path.name).as_dict())


def _save(state_dict: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes weights as neosr does: below `params` in a .pth; bare in .safetensors, which has room for metadata."""
    # In memory first: given a path, torch writes its name into the file, and both libraries have errors of their own
    # for a full disk, and neither takes a name that is no UTF-8.
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        path.write_bytes(save(state_dict, dict(metadata or {}) or None))
        return
    import torch

    file = io.BytesIO()
    torch.save({"params": state_dict}, file)
    path.write_bytes(file.getbuffer())


def _copy(checkpoint: Checkpoint, output: Path) -> None:
    """Copies the file, with its manifest if that describes it; an old manifest beside the output is removed."""
    if output.resolve() == checkpoint.path.resolve():
        return
    with staging(output.parent) as folder:
        path = folder / output.name
        if output.suffix != checkpoint.path.suffix:
            _save(checkpoint.state_dict, path)
        else:
            shutil.copyfile(checkpoint.path, path)
            known = manifest.read_manifest(checkpoint.path)
            if known is not None and known.artifact["sha256"] == checkpoint.sha256:
                dataclasses.replace(known, artifact={**known.artifact, "file": output.name}).write(path)
        publish(folder, output.parent)


def open_file(file: KnownFile, *, device: str | None, threads: int | None, trust: bool, faithful: bool) -> Runner:
    """Opens the checkpoint in eager PyTorch.

    Raises:
        RunnerError: a device that is not PyTorch's, or a GPU that PyTorch does not see.
        CheckpointError: see `load_checkpoint`.
    """
    from aether_deploy.runners.pytorch import TorchRunner, torch_device

    if device_of(device).name not in ("auto", "cpu", "cuda"):
        raise RunnerError(f"{file.path}: a checkpoint runs in PyTorch, on cpu or cuda; export it for {device}")
    return TorchRunner.from_checkpoint(_read(file, {}), device=torch_device(device), threads=threads)


def describe(file: KnownFile, *, reading: dict[str, Any]) -> dict[str, Any]:
    """What the weights show: network, parameters, key and dtype.

    Raises:
        CheckpointError, ConfigError: see `load_checkpoint`.
    """
    checkpoint = _read(file, reading)
    return {
        "summary": checkpoint.spec.describe(),
        "param_key": checkpoint.param_key,
        "dtype": checkpoint.dtype,
        "parameters": sum(value.numel() for value in checkpoint.state_dict.values()),
        "network": checkpoint.spec.as_dict(),
    }


def _read(file: KnownFile, reading: dict[str, Any]) -> Checkpoint:
    """The checkpoint as it was read before, or with the value range that its manifest records."""
    from aether_deploy.network.checkpoint import load_checkpoint

    if file.loaded is not None:
        return file.loaded
    if file.manifest is not None and file.matches and reading.get("img_range") is None:
        reading = {**reading, "img_range": file.manifest.network["img_range"]}
    return load_checkpoint(file.path, sha256=file.sha256, **reading)


def findings(row: Format) -> Sequence[Finding]:
    """PyTorch's version, and the device that it sees; and whether networks other than AetherNet can be read."""
    logger.info("PyTorch")
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "on the CPU"
    found = [Finding("torch", "PyTorch", True, f"{torch.__version__}, {where}")]
    if is_installed("spandrel"):
        found.append(Finding("torch", "spandrel", True, f"{version('spandrel')}, networks other than AetherNet"))
    else:
        found.append(Finding("torch", "spandrel", False, "not installed", install_extra("spandrel")))
    return found
