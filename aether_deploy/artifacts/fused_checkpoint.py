"""The fused checkpoint: written, reloaded from disk, and proved against the network as it was trained."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.errors import ReparameterizationError
from aether_deploy.files import replacing
from aether_deploy.network.fusion import fuse_state_dict

if TYPE_CHECKING:
    from torch import Tensor

    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.proof.verdict import ParityReport

__all__ = ["FuseResult", "fuse_checkpoint"]


@dataclass(frozen=True, slots=True)
class FuseResult:
    """What `fuse_checkpoint` wrote.

    Attributes:
        output: the fused checkpoint.
        checkpoint: what it was made from.
        already_fused: the output is a copy of a checkpoint that was fused before.
        exact: the fused file in float64 against the unfused network in float64.
        report: the fused file in float32 against the unfused network in float32.
    """

    output: Path
    checkpoint: Checkpoint
    already_fused: bool
    exact: ParityReport | None
    report: ParityReport | None


def default_output(checkpoint: Checkpoint) -> Path:
    """`2x_Name_fused.pth` beside the input."""
    suffix = checkpoint.path.suffix
    return checkpoint.path.with_name(f"{checkpoint.spec.scale}x_{checkpoint.name}_fused{suffix}")


def fuse_checkpoint(checkpoint: Checkpoint, output: Path | None = None, *, images: Path | None = None) -> FuseResult:
    """Fuses, writes, reloads from disk, and proves that file against the unfused network.

    Args:
        checkpoint: as trained; of a fused one the file is copied as it is.
        output: .pth or .safetensors; `2x_Name_fused.pth` beside the input by default.
        images: photos for the parity cases, the packaged ones by default.
    Raises:
        ParityError: the file is not the network as it was trained; nothing is left behind.
        ReparameterizationError: the output would replace the input, or see `merge_branches`.
    """
    from aether_deploy.network.checkpoint import load_checkpoint
    from aether_deploy.proof import manifest
    from aether_deploy.proof.reference import capture_reference
    from aether_deploy.proof.verdict import verify
    from aether_deploy.runners.pytorch import TorchRunner

    output = output or default_output(checkpoint)
    if checkpoint.spec.fused:
        _copy(checkpoint, output)
        return FuseResult(output, checkpoint, True, None, None)
    if output.resolve() == checkpoint.path.resolve():
        raise ReparameterizationError(
            f"{output} is the input itself; the unfused weights would be lost: choose another"
        )

    exact_reference = capture_reference(checkpoint, images, double=True)
    reference = capture_reference(checkpoint, images)
    with replacing(output) as temporary:
        _save(fuse_state_dict(checkpoint.state_dict), temporary)
        reloaded = load_checkpoint(temporary, img_range=checkpoint.spec.img_range)
        exact = verify(
            exact_reference, TorchRunner.from_checkpoint(reloaded, double=True).run, "fp64", what="fused, float64"
        )
        exact.require(f"{output.name} in float64")
        report = verify(reference, TorchRunner.from_checkpoint(reloaded).run, "fp32", what="fused")
        report.require(output.name)
        artifact = manifest.describe_artifact(temporary, "checkpoint", name=output.name)
    manifest.Manifest(
        artifact=artifact,
        source=manifest.describe_source(checkpoint),
        network=reloaded.spec.as_dict(),
        parity=report.as_dict(),
        precision="fp32",
        tools=manifest.tool_versions("torch", "numpy"),
        created=manifest.utc_now(),
    ).write(output)
    return FuseResult(output, checkpoint, False, exact, report)


def _save(state_dict: dict[str, Tensor], path: Path) -> None:
    """As neosr wraps it: `params` in a .pth; bare in .safetensors, which has no nesting."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state_dict, path)
        return
    import torch

    torch.save({"params": state_dict}, path)


def _copy(checkpoint: Checkpoint, output: Path) -> None:
    if output.resolve() == checkpoint.path.resolve():
        return
    with replacing(output) as temporary:
        if output.suffix == checkpoint.path.suffix:
            shutil.copyfile(checkpoint.path, temporary)
        else:
            _save(checkpoint.state_dict, temporary)
