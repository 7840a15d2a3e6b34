"""`NetworkSpec`: everything needed to build the network, read off the shapes of its weights.

Torch is imported by what builds a network, so that an ONNX file runs without it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from neosr.archs.aether_arch import AetherNet

__all__ = ["NetworkSpec", "refuse_other_networks"]

# Shapes of the convolutions before each PixelShuffle, which is all that tells the scale.
_FACTOR_OF_CHANNELS = {64 * 4: 2, 64 * 9: 3}


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """An AetherNet, without its weights.

    Attributes:
        variant: `aether_small`, `aether_medium`, `aether_large`, or `aether` for any other.
        scale: output pixels for each input pixel, along one side.
        in_chans: channels of the image.
        embed_dim: D, channels of the body.
        depths: blocks of each stage.
        hidden: size of the FFN between its layers.
        lk_kernel: size of the large kernel.
        sk_kernel: size of the small kernel; None once fused, when it can no longer be seen.
        fused: one convolution in each block instead of two branches.
        img_range: the one value that the weights do not show; 1.0 unless the training options say otherwise.
    """

    variant: str
    scale: int
    in_chans: int
    embed_dim: int
    depths: tuple[int, ...]
    hidden: int
    lk_kernel: int
    sk_kernel: int | None
    fused: bool
    img_range: float = 1.0

    @property
    def mlp_ratio(self) -> float:
        """A ratio for which int(embed_dim * ratio) is exactly `hidden`.

        hidden / embed_dim fails in floating point for some (49 * (122 / 49) truncates to 121); half a
        channel more never does.
        """
        ratio = self.hidden / self.embed_dim
        return ratio if int(self.embed_dim * ratio) == self.hidden else (self.hidden + 0.5) / self.embed_dim

    @property
    def receptive_field(self) -> int:
        """The distance, in input pixels, beyond which an input pixel has no influence on an output pixel.

        Counted from the output: each convolution adds its radius, and a PixelShuffle by f turns a radius r
        into at most ceil(r / f). 85 for small, 185 for medium and 389 for large at x2.
        """
        radius = 1  # conv_last
        for factor in self.upsample_factors:
            radius = -(-radius // factor) + 1
        blocks = sum(self.depths) * (self.lk_kernel // 2)
        return radius + 1 + 1 + blocks + 1  # conv_before_upsample, conv_after_body, conv_first

    @property
    def upsample_factors(self) -> tuple[int, ...]:
        """Of the PixelShuffles: 3 for x3, else a 2 for each power of two."""
        return (3,) if self.scale == 3 else (2,) * (self.scale.bit_length() - 1)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], *, img_range: float = 1.0) -> NetworkSpec:
        """Reads variant, scale, kernels, depths and form off canonical keys and shapes.

        Raises:
            CheckpointError: another network, or keys that are missing, surplus or of a wrong shape.
        """
        refuse_other_networks(list(state_dict))
        embed_dim, in_chans = _shape(state_dict, "conv_first.weight")[:2]
        depths = _depths(state_dict)
        fused = any(key.endswith(".conv.fused_conv.weight") for key in state_dict)
        large = "fused_conv" if fused else "lk_conv"
        sk_kernel = None if fused else _shape(state_dict, "layers.0.0.conv.sk_conv.weight")[-1]
        spec = cls(
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
        spec = dataclasses.replace(spec, variant=_variant(spec))
        _check_keys(state_dict, spec)
        return spec

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSpec:
        """The inverse of `as_dict`; keys that are no fields (mlp_ratio) are left out."""
        names = {field.name for field in dataclasses.fields(cls)}
        chosen = {name: value for name, value in values.items() if name in names}
        return cls(**{**chosen, "depths": tuple(chosen["depths"])})

    def as_dict(self) -> dict[str, Any]:
        """For JSON and metadata."""
        return {**dataclasses.asdict(self), "depths": list(self.depths), "mlp_ratio": self.mlp_ratio}

    def as_fused(self) -> NetworkSpec:
        """The same network in its fused form."""
        return dataclasses.replace(self, fused=True, sk_kernel=None)

    def network_options(self) -> dict[str, Any]:
        """[network_g] of a neosr options file that builds this network; neosr adds the scale itself."""
        options: dict[str, Any] = {
            "type": self.variant,
            "in_chans": self.in_chans,
            "embed_dim": self.embed_dim,
            "depths": list(self.depths),
            "mlp_ratio": self.mlp_ratio,
            "lk_kernel": self.lk_kernel,
            "img_range": self.img_range,
            "fused_init": self.fused,
        }
        # A fused network has no small kernel, but the default one must not exceed a tiny large kernel.
        options["sk_kernel"] = self.sk_kernel or min(3, self.lk_kernel)
        return options

    def build(self) -> AetherNet:
        """The network in eval mode, with weights as freshly initialised; the global RNG is left as it was."""
        import torch

        with torch.random.fork_rng(devices=[]):
            return self._construct().eval()

    def describe(self) -> str:
        """One line for people."""
        kernels = f"{self.lk_kernel}x{self.lk_kernel}"
        if self.sk_kernel is not None:
            kernels += f" + {self.sk_kernel}x{self.sk_kernel}"
        form = "fused" if self.fused else "unfused"
        depths = "-".join(map(str, self.depths))
        return f"{self.variant} x{self.scale}, {form}, D {self.embed_dim}, depths {depths}, kernels {kernels}"

    def _construct(self) -> AetherNet:
        from aether_deploy.network.definition import arch

        options = self.network_options()
        del options["type"]
        try:
            return arch.AetherNet(scale=self.scale, **options)
        except ValueError as error:
            raise CheckpointError(f"the weights describe a network that cannot be built: {error}") from error

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Key and shape of everything in the state dict of this network."""
        import torch

        with torch.device("meta"):
            return {key: tuple(value.shape) for key, value in self._construct().state_dict().items()}

    def check_options(self, options: Mapping[str, Any], source: Path) -> None:
        """Compares [network_g] of a neosr options file with these weights.

        Raises:
            ConfigError: names the first value that the weights contradict.
        """
        from aether_deploy.network.definition import arch

        network = options.get("network_g", {})
        defaults = arch.PRESETS.get(str(network.get("type")), {})
        seen = {**defaults, **network, "scale": options.get("scale", self.scale)}
        compared = ("scale", "in_chans", "embed_dim", "depths", "lk_kernel")
        for name in compared:
            have = list(self.depths) if name == "depths" else getattr(self, name)
            stated = list(seen[name]) if name == "depths" and name in seen else seen.get(name, have)
            if stated != have:
                raise ConfigError(
                    f"{source}: {name} is {stated} there, but the weights have {have}; "
                    "give the options file that this checkpoint was trained with"
                )


def refuse_other_networks(keys: Sequence[str]) -> None:
    """Names what else a checkpoint of this family can hold.

    Raises:
        CheckpointError: the second generation, quantization-aware leftovers, or another network.
    """
    if any(key.startswith("stages.") for key in keys):
        raise CheckpointError(
            "this is an AetherNet of the second generation (keys below `stages.`), which is another network; "
            "aether_deploy reads the first generation (keys below `layers.`)"
        )
    quantized = [key for key in keys if _QUANTIZATION.search(key)]
    if quantized:
        raise CheckpointError(
            f"{len(quantized)} keys of quantization-aware training, {quantized[0]} the first; their effect would be "
            "lost, so they are not dropped: give the checkpoint from before quantization"
        )
    if "conv_first.weight" not in keys and not any(key.startswith("layers.") for key in keys):
        shown = ", ".join(keys[:3]) or "none"
        raise CheckpointError(f"no AetherNet: neither conv_first nor layers among its keys (first: {shown})")


_QUANTIZATION = re.compile(r"^(quant|dequant)\.|\.activation_post_process\.|\.weight_fake_quant\.")


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
        if match := re.match(r"layers\.(\d+)\.(\d+)\.", key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    for what, numbers in (("stages", set(blocks)), *((f"blocks of stage {s}", blocks[s]) for s in blocks)):
        if numbers != set(range(len(numbers))) or not numbers:
            raise CheckpointError(
                f"{what} are numbered {sorted(numbers)[:9]}, not 0, 1, 2 ...; is the checkpoint complete?"
            )
    return tuple(len(blocks[stage]) for stage in range(len(blocks)))


def _scale(state_dict: Mapping[str, Tensor]) -> int:
    scale = 1
    for number in sorted({match[1] for key in state_dict if (match := re.match(r"upsample\.(\d+)\.", key))}):
        key = f"upsample.{number}.weight"
        channels = _shape(state_dict, key)[0]
        if channels not in _FACTOR_OF_CHANNELS:
            allowed = " or ".join(map(str, _FACTOR_OF_CHANNELS))
            raise CheckpointError(f"{key} has {channels} output channels; expected {allowed}")
        scale *= _FACTOR_OF_CHANNELS[channels]
    return scale


def _variant(spec: NetworkSpec) -> str:
    """The preset that these shapes are, or `aether`; a fused network shows no small kernel to compare."""
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


def _check_keys(state_dict: Mapping[str, Tensor], spec: NetworkSpec) -> None:
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
