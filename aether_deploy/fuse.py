"""Two branches -> one convolution, in float64; and `python -m aether_deploy.fuse`.

Torch is imported by what needs it, so that the command's `--help` does not wait for it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aether_deploy import cli
from aether_deploy.errors import ReparameterizationError
from aether_deploy.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from aether_deploy.checkpoint import Checkpoint
    from aether_deploy.parity import ParityReport
    from neosr.archs.aether_arch import AetherNet

__all__ = ["FuseResult", "fuse_aether", "fuse_checkpoint", "fuse_state_dict", "merge_branches"]

logger = logging.getLogger(__name__)


def merge_branches(large: Tensor, small: Tensor, large_bias: Tensor, small_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the single convolution that equals both branches.

    K = K_large + pad(k_small), b = b_large + b_small; holds because both have stride 1 and same padding.

    Args:
        large: (D, 1, K, K) float.
        small: (D, 1, k, k) float, k at most K and of the same parity.
        large_bias, small_bias: (D) float.
    Returns:
        (D, 1, K, K) and (D), in the dtype of `large`; summed in float64.
    Raises:
        ReparameterizationError: the small kernel is larger, or the parities differ.
    Source: RepLKNet, arXiv:2203.06717.
    """
    margin = large.shape[-1] - small.shape[-1]
    if margin < 0 or margin % 2:
        raise ReparameterizationError(
            f"kernels of {large.shape[-1]} and {small.shape[-1]}; expected a small one that is not larger, both odd"
        )
    inner = slice(margin // 2, margin // 2 + small.shape[-1])
    kernel = large.double().clone()
    kernel[..., inner, inner] += small.double()
    bias = large_bias.double() + small_bias.double()
    return kernel.to(large.dtype), bias.to(large.dtype)


def fuse_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the fused network; the given one is not changed.

    Args:
        state_dict: canonical keys (see `aether_deploy.checkpoint`); a fused one is copied as it is.
    Raises:
        ReparameterizationError: see `merge_branches`.
    """
    fused: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        prefix, found, _ = key.partition("lk_conv.weight")
        if found:
            fused[f"{prefix}fused_conv.weight"], fused[f"{prefix}fused_conv.bias"] = merge_branches(
                value.detach(),
                state_dict[f"{prefix}sk_conv.weight"].detach(),
                state_dict[f"{prefix}lk_bias"].detach(),
                state_dict[f"{prefix}sk_bias"].detach(),
            )
        elif not key.endswith((".sk_conv.weight", ".conv.lk_bias", ".conv.sk_bias")):
            fused[key] = value.detach().clone()
    return fused


def fuse_aether(network: AetherNet) -> AetherNet:
    """A new network in eval mode, fused; the caller's is left untouched.

    Args:
        network: as trained, on any device and in any floating-point type; a fused one gives a copy.
    Raises:
        ReparameterizationError: see `merge_branches`.
    """
    from aether_deploy.spec import NetworkSpec

    state_dict = network.state_dict()
    spec = NetworkSpec.from_state_dict(state_dict, img_range=network.img_range)
    weight = network.conv_first.weight
    fused = spec.as_fused().build().to(device=weight.device, dtype=weight.dtype)
    fused.load_state_dict(fuse_state_dict(state_dict), strict=True)
    return fused


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
    from aether_deploy import manifest
    from aether_deploy.checkpoint import load_checkpoint
    from aether_deploy.parity import verify
    from aether_deploy.torch_runner import TorchRunner, capture_reference

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


@click.command(cls=cli.Command, name="fuse", context_settings={"show_default": True})
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Fused file; beside the input by default.",
    show_default=False,
)
@cli.checkpoint_options
@cli.images_option
@cli.config_option
@cli.json_option
def command(
    checkpoint: Path,
    output: Path | None,
    param_key: str,
    opt: Path | None,
    img_range: float | None,
    images: Path | None,
    as_json: bool,
) -> None:
    """Fuses CHECKPOINT: both branches of each block become one convolution.

    The written file is reloaded and compared with the network as it was trained. It loads in neosr
    with `fused_init = true`.
    """
    with cli.progress("fuse"):
        from aether_deploy.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint, param_key=param_key, img_range=img_range, options=opt)
        if output is not None and output.is_dir():
            output = output / default_output(loaded).name
        result = fuse_checkpoint(loaded, output, images=images)

    out = cli.console(stderr=as_json)
    out.print(f"read    {loaded.path} ({loaded.param_key}, {loaded.dtype}): {loaded.spec.describe()}")
    if result.already_fused:
        out.print(f"wrote   {result.output}: it is fused already, so this is an identical copy")
    elif result.report and result.exact:
        cli.show_report(result.report, out, title="fused, reloaded from disk, against the unfused network")
        out.print(f"exact   in float64 max abs error {result.exact.overall.max_abs:.1e}")
        out.print(f"wrote   {result.output} ({result.output.stat().st_size / 1e6:.1f} MB) and its manifest")
    if as_json:
        cli.print_json(
            {
                "output": str(result.output),
                "source": {"file": str(loaded.path), "sha256": loaded.sha256, "param_key": loaded.param_key},
                "network": loaded.spec.as_fused().as_dict(),
                "already_fused": result.already_fused,
                "parity": result.report.as_dict() if result.report else None,
                "parity_float64": result.exact.as_dict() if result.exact else None,
            }
        )
    cli.next_command("python", "-m", "aether_deploy.export", result.output, as_json=as_json)


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.fuse")
