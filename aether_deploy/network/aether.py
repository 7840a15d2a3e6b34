"""AetherNet as a family: how its checkpoints are recognised and read, and what its graph consists of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from aether_deploy.errors import CheckpointError
from aether_deploy.network.aether_limits import require_sensible
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.family import Roles
from aether_deploy.network.fusion import fuse_network

if TYPE_CHECKING:
    from torch import Tensor

    from neosr.archs.aether_arch import AetherNet

__all__ = ["Aether", "fuse_aether", "read_spec"]

# Output channels of the convolution before each PixelShuffle -> its factor; only these show the scale.
_FACTOR_OF_CHANNELS = {64 * 4: 2, 64 * 9: 3}

# ESRGAN and SwinIR have `conv_first` and `layers` too.
_OWN_KEY = re.compile(r"layers\.[0-9]+\.[0-9]+\.(conv|norm|ffn)\.")

_QUANTIZATION = re.compile(r"^(quant|dequant)\.|\.activation_post_process\.|\.weight_fake_quant\.")


class Aether:
    """AetherNet's row in `families.FAMILIES`; see `Family`."""

    name = "aether"
    title = "AetherNet"
    operators: frozenset[str] | None = frozenset(
        [
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Conv",
            "MatMul",
            "Transpose",
            "LayerNormalization",
            "Gelu",
            "Erf",
            "LeakyRelu",
            "DepthToSpace",
        ]
    )
    roles = Roles()
    passes: tuple[str, ...] = ("shuffle_last", "channels_last_sum", "fold_norms")
    shown_by_weights = True
    counts = False

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether these keys are an AetherNet's, even an incomplete one.

        Raises:
            CheckpointError: they are its second generation's, or include leftovers of quantization-aware training.
        """
        _refuse_relatives(keys)
        return any(_OWN_KEY.match(key) for key in keys)

    def read(self, state_dict: Mapping[str, Tensor]) -> tuple[AetherSpec, Mapping[str, Tensor]]:
        """See `read_spec`."""
        return read_spec(state_dict), state_dict

    def spec_from_dict(self, values: Mapping[str, Any]) -> AetherSpec:
        """See `AetherSpec.from_dict`."""
        return AetherSpec.from_dict(values)


def fuse_aether(network: AetherNet) -> AetherNet:
    """A new, fused AetherNet in eval mode; the caller's is not changed.

    Args:
        network: as trained, on any device and of any floating-point type; a fused one is copied.
    Raises:
        ReparameterizationError: see `merge_branches`.
    """
    return cast("AetherNet", fuse_network(network, read_spec(network.state_dict(), img_range=network.img_range)))


def read_spec(state_dict: Mapping[str, Tensor], *, img_range: float = 1.0) -> AetherSpec:
    """Reads variant, scale, kernels, depths and form from canonical keys and shapes.

    Args:
        state_dict: canonical keys, see `network.checkpoint`.
        img_range: of the network; the weights do not show it.
    Raises:
        CheckpointError: keys that are missing, surplus or of a wrong shape.
    """
    embed_dim, in_chans = _shape(state_dict, "conv_first.weight")[:2]
    depths = _depths(state_dict)
    fused = any(key.endswith(".conv.fused_conv.weight") for key in state_dict)
    large = "fused_conv" if fused else "lk_conv"
    sk_kernel = None if fused else _shape(state_dict, "layers.0.0.conv.sk_conv.weight")[-1]
    spec = AetherSpec(
        variant="aether",
        scale=_scale(state_dict),
        in_chans=in_chans,
        embed_dim=embed_dim,
        depths=depths,
        hidden=_shape(state_dict, "layers.0.0.ffn.fc1_gate.weight")[0],
        lk_kernel=_shape(state_dict, f"layers.0.0.conv.{large}.weight")[-1],
        sk_kernel=sk_kernel,
        fused=fused,
        img_range=img_range,
    )
    require_sensible(dataclasses.asdict(spec))
    spec = dataclasses.replace(spec, variant=_variant(spec))
    _check_keys(state_dict, spec)
    return spec


def _refuse_relatives(keys: Collection[str]) -> None:
    if any(key.startswith("stages.") for key in keys):
        raise CheckpointError(
            "this is an AetherNet of the second generation (keys below `stages.`), which is another network; "
            "aether_deploy reads the first generation (keys below `layers.`)"
        )
    quantized = [key for key in keys if _QUANTIZATION.search(key)]
    if quantized:
        raise CheckpointError(
            f"{len(quantized)} keys of quantization-aware training, the first {quantized[0]}; their effect would be "
            "lost, so they are not dropped: give the checkpoint from before quantization"
        )


def _shape(state_dict: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in state_dict:
        raise CheckpointError(f"{key} is missing among {len(state_dict)} keys; is the checkpoint complete?")
    shape = tuple(state_dict[key].shape)
    expected = 2 if ".ffn." in key else 4
    if len(shape) != expected:
        raise CheckpointError(f"{key} has shape {shape}, expected {expected} dimensions")
    return shape


def _depths(state_dict: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for key in state_dict:
        # No more digits: int() refuses thousands, and no network has them.
        if match := re.match(r"layers\.([0-9]{1,4})\.([0-9]{1,4})\.", key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    for what, numbers in (("stages", set(blocks)), *((f"blocks of stage {s}", blocks[s]) for s in blocks)):
        if numbers != set(range(len(numbers))) or not numbers:
            raise CheckpointError(
                f"{what} are numbered {sorted(numbers)[:9]}, not 0, 1, 2 ...; is the checkpoint complete?"
            )
    return tuple(len(blocks[stage]) for stage in range(len(blocks)))


def _scale(state_dict: Mapping[str, Tensor]) -> int:
    scale = 1
    for number in sorted({match[1] for key in state_dict if (match := re.match(r"upsample\.([0-9]+)\.", key))}):
        key = f"upsample.{number}.weight"
        channels = _shape(state_dict, key)[0]
        if channels not in _FACTOR_OF_CHANNELS:
            allowed = " or ".join(map(str, _FACTOR_OF_CHANNELS))
            raise CheckpointError(f"{key} has {channels} output channels; expected {allowed}")
        scale *= _FACTOR_OF_CHANNELS[channels]
    return scale


def _variant(spec: AetherSpec) -> str:
    """The preset with these shapes, or `aether`; in a fused network the small kernel cannot be compared."""
    from aether_deploy.network.definition import arch

    for name, preset in arch.PRESETS.items():
        same_kernel = spec.sk_kernel is None or spec.sk_kernel == preset["sk_kernel"]
        if (
            same_kernel
            and (spec.embed_dim, spec.depths, spec.lk_kernel)
            == (preset["embed_dim"], preset["depths"], preset["lk_kernel"])
            and spec.hidden == int(preset["embed_dim"] * preset["mlp_ratio"])
        ):
            return name
    return "aether"


def _check_keys(state_dict: Mapping[str, Tensor], spec: AetherSpec) -> None:
    expected = spec.expected_shapes()
    missing = [key for key in expected if key not in state_dict]
    surplus = [key for key in state_dict if key not in expected]
    wrong = [key for key in expected if key in state_dict and tuple(state_dict[key].shape) != expected[key]]
    for keys, what in ((missing, "missing"), (surplus, "not part of the network"), (wrong, "of a wrong shape")):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            detail = f"{tuple(state_dict[keys[0]].shape)} for {expected[keys[0]]}: " if keys is wrong else ""
            raise CheckpointError(
                f"read as {spec.describe()}, {what}: {detail}{', '.join(keys[:3])}{more}; is the checkpoint complete?"
            )
