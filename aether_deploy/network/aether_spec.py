"""An AetherNet without its weights: how it is built, fused and described, and what a run of it costs.

Torch is imported only to build or fuse a network, so that an ONNX file runs without it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.arrays import Shape
from aether_deploy.errors import CheckpointError, ConfigError
from aether_deploy.network.aether_limits import require_sensible
from aether_deploy.network.family import Sizes, Widths
from aether_deploy.network.fusion import merge_branches

if TYPE_CHECKING:
    from torch import Tensor

    from neosr.archs.aether_arch import AetherNet

__all__ = ["AetherSpec", "fuse_state_dict"]

# Channels between the body and the last convolution, as in aether_arch; repeated so that ONNX needs no torch.
_TAIL_CHANNELS = 64
_BLOCK = "layers.0.0."


@dataclass(frozen=True, slots=True)
class AetherSpec:
    """An AetherNet, without its weights.

    Attributes:
        variant: `aether_small`, `aether_medium`, `aether_large`, or `aether` for any other.
        scale: output pixels for each input pixel along one side.
        in_chans: channels of the image.
        embed_dim: D, channels of the body.
        depths: number of blocks in each stage.
        hidden: channels between the layers of the FFN.
        lk_kernel: side of the large kernel, in pixels.
        sk_kernel: side of the small kernel; None once fused, when it can no longer be seen.
        fused: whether each block has one convolution instead of two branches.
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
    def family(self) -> str:
        """The name of its row in `families.FAMILIES`."""
        return "aether"

    @property
    def architecture(self) -> str:
        """The name that catalogues of models give to its kind."""
        return "aether"

    @property
    def tiling(self) -> str:
        """Its kernels reach as far as `receptive_field`."""
        return "supported"

    @property
    def sizes(self) -> Sizes:
        """Any."""
        return Sizes()

    @property
    def widths(self) -> Widths:
        """The channel counts from which the memory of a run is estimated."""
        last = self.upsample_factors[-1] if self.upsample_factors else 1
        return Widths(self.embed_dim, self.hidden, _TAIL_CHANNELS, last)

    @property
    def mlp_ratio(self) -> float:
        """A ratio for which int(embed_dim * ratio) is exactly `hidden`.

        hidden / embed_dim can fail in floating point (49 * (122 / 49) truncates to 121); half a channel more cannot.
        """
        ratio = self.hidden / self.embed_dim
        return ratio if int(self.embed_dim * ratio) == self.hidden else (self.hidden + 0.5) / self.embed_dim

    @property
    def receptive_field(self) -> int:
        """The distance, in input pixels, beyond which an input pixel has no influence on an output pixel.

        Counted from the output: each convolution adds its radius, and a PixelShuffle by f turns a radius of r into at
        most ceil(r / f). At x2 it is 85 for small, 185 for medium and 389 for large.
        """
        radius = 1  # conv_last
        for factor in self.upsample_factors:
            radius = -(-radius // factor) + 1
        blocks = sum(self.depths) * (self.lk_kernel // 2)
        return radius + 1 + 1 + blocks + 1  # conv_before_upsample, conv_after_body, conv_first

    @property
    def upsample_factors(self) -> tuple[int, ...]:
        """Factors of the PixelShuffles, in order: (3,) for x3, else as many 2s as give the scale."""
        return (3,) if self.scale == 3 else (2,) * (self.scale.bit_length() - 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AetherSpec:
        """The inverse of `as_dict`, for a stranger's values too; keys that are not fields (mlp_ratio) are ignored.

        Raises:
            CheckpointError: see `require_sensible`.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        chosen = {"img_range": 1.0, **{name: value for name, value in values.items() if name in names}}
        require_sensible(chosen)
        return cls(**{**chosen, "depths": tuple(chosen["depths"])})

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON and metadata."""
        values = {**dataclasses.asdict(self), "depths": list(self.depths), "mlp_ratio": self.mlp_ratio}
        return {"family": self.family, **values}

    def as_fused(self) -> AetherSpec:
        """The same network in its fused form."""
        return dataclasses.replace(self, fused=True, sk_kernel=None)

    def with_img_range(self, img_range: float) -> AetherSpec:
        """The same network with this img_range, the one value that its weights do not show."""
        return dataclasses.replace(self, img_range=img_range)

    def fuse(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `fuse_state_dict`."""
        return fuse_state_dict(state_dict)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one run, counting a multiply-add as two; without biases, norms and GELU.

        Args:
            shape: (N, C, H, W) of the input.
        """
        n, _, height, width = shape
        dim = self.embed_dim
        block = dim * (self.lk_kernel**2 + (self.sk_kernel or 0) ** 2) + 3 * dim * self.hidden
        macs = 9 * self.in_chans * dim + sum(self.depths) * block + 9 * dim * dim + 9 * dim * _TAIL_CHANNELS
        size = 1
        for factor in self.upsample_factors:
            macs += size * 9 * _TAIL_CHANNELS * _TAIL_CHANNELS * factor**2
            size *= factor**2
        macs += size * 9 * _TAIL_CHANNELS * self.in_chans
        return 2 * n * height * width * macs

    def bytes_moved(self, shape: Shape, *, width_of_value: int = 4) -> int:
        """The fewest bytes to be read and written in one run if each layer's fused kernel touches memory once.

        A block is two kernels: the depthwise convolution reads and writes D channels; norm, FFN and skip read D twice
        (convolved and skip) and write D, while the hidden channels stay on the chip. Weights are read once.

        Args:
            shape: (N, C, H, W) of the input.
            width_of_value: bytes per value.
        """
        n, _, height, width = shape
        dim = self.embed_dim
        values = self.in_chans + dim + sum(self.depths) * 5 * dim + 3 * dim + dim + _TAIL_CHANNELS
        size = 1
        for factor in self.upsample_factors:
            values += size * _TAIL_CHANNELS * (1 + factor**2)
            size *= factor**2
        values += size * (_TAIL_CHANNELS + self.in_chans)
        weights = sum(math.prod(shape) for shape in self.as_fused().expected_shapes().values())
        return width_of_value * (n * height * width * values + weights)

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
        """The network in eval mode, freshly initialised; the global RNG is kept. CheckpointError if it cannot be."""
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
        """Key -> shape for everything in the state dict of this network."""
        import torch

        # All blocks are alike, so one is built, and on a device without memory.
        with torch.device("meta"):
            built = dataclasses.replace(self, depths=(1,))._construct().state_dict()
        shapes = {key: tuple(value.shape) for key, value in built.items()}
        block = {key.removeprefix(_BLOCK): shapes.pop(key) for key in built if key.startswith(_BLOCK)}
        places = [f"layers.{stage}.{number}." for stage, depth in enumerate(self.depths) for number in range(depth)]
        return shapes | {place + key: shape for place in places for key, shape in block.items()}

    def check_options(self, options: Mapping[str, Any], source: Path) -> None:
        """Compares [network_g] of a neosr options file with these weights.

        Raises:
            ConfigError: a value contradicts the weights; the message names the first.
        """
        from aether_deploy.network.definition import arch

        network = options.get("network_g", {})
        defaults = arch.PRESETS.get(str(network.get("type")), {})
        seen = {**defaults, **network, "scale": options.get("scale", self.scale)}
        compared = ("scale", "in_chans", "embed_dim", "depths", "lk_kernel")
        for name in compared:
            have = list(self.depths) if name == "depths" else getattr(self, name)
            stated = seen.get(name, have)
            stated = list(stated) if isinstance(stated, tuple) else stated
            # True is 1 to Python, not to a reader.
            if stated != have or isinstance(stated, bool):
                raise ConfigError(
                    f"{source}: {name} is {stated!r} there, but the weights have {have}; "
                    "give the options file that this checkpoint was trained with"
                )


def fuse_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the fused network; the given one is not changed.

    Args:
        state_dict: canonical keys, see `network.checkpoint`; one that is fused already is copied.
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
