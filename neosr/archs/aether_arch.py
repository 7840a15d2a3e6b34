"""AetherNet for neosr: large-kernel depthwise convolutions, LayerNorm, gated FFN, PixelShuffle.

Self-contained (torch only): copy this file into `neosr/archs/` of a neosr checkout, or let `aether-deploy install-arch`
do it. It registers `aether`, `aether_small`, `aether_medium` and `aether_large` with neosr only if it is imported as
`neosr.archs.aether_arch`.

A block, for x of shape (N, D, H, W):

    conv   depthwise KxK + depthwise kxk, summed (one KxK once fused)
    norm   LayerNorm over D, eps 1e-6
    ffn    fc2(GELU(fc1_gate(x)) * fc1_main(x)), hidden size int(D * mlp_ratio)
    x + drop_path(ffn(norm(conv(x))))

Source: RepLKNet, arXiv:2203.06717 (reparameterized large kernels); GLU variants,
arXiv:2002.05202 (gated FFN); ESPCN, arXiv:1609.05158 (PixelShuffle).
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PRESETS", "SCALES", "AetherNet", "aether", "aether_large", "aether_medium", "aether_small"]

SCALES = (1, 2, 3, 4, 8)

# The defaults of each variant; every one can be overridden in [network_g].
PRESETS: dict[str, dict[str, Any]] = {
    "aether_small": {
        "embed_dim": 96,
        "depths": (4,) * 4,
        "mlp_ratio": 2.0,
        "lk_kernel": 11,
        "sk_kernel": 3,
    },
    "aether_medium": {
        "embed_dim": 128,
        "depths": (6,) * 6,
        "mlp_ratio": 2.0,
        "lk_kernel": 11,
        "sk_kernel": 3,
    },
    "aether_large": {
        "embed_dim": 180,
        "depths": (8,) * 8,
        "mlp_ratio": 2.5,
        "lk_kernel": 13,
        "sk_kernel": 3,
    },
}

# Channels between the body and the last convolution, fixed by the checkpoint format.
UPSAMPLE_CHANNELS = 64


class DropPath(nn.Module):
    """Drops the whole residual branch of a sample with probability `rate` (0 to below 1) while training.

    Source: stochastic depth, arXiv:1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


class ReparamConv(nn.Module):
    """Depthwise convolution in two parallel branches, KxK and kxk, as trained.

    (N, D, H, W) -> (N, D, H, W). Both branches have stride 1 and same padding, so afterwards they can become one
    convolution (see `aether_deploy.fuse`).
    """

    def __init__(self, dim: int, lk_kernel: int, sk_kernel: int) -> None:
        super().__init__()
        self.lk_conv = _depthwise(dim, lk_kernel, bias=False)
        self.sk_conv = _depthwise(dim, sk_kernel, bias=False)
        self.lk_bias = nn.Parameter(torch.zeros(dim))
        self.sk_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        bias = (self.lk_bias + self.sk_bias).view(1, -1, 1, 1)
        return self.lk_conv(x) + self.sk_conv(x) + bias


class FusedConv(nn.Module):
    """The single depthwise convolution that `ReparamConv` becomes. (N, D, H, W) -> (N, D, H, W)."""

    def __init__(self, dim: int, lk_kernel: int) -> None:
        super().__init__()
        self.fused_conv = _depthwise(dim, lk_kernel, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fused_conv(x)


class GatedFFN(nn.Module):
    """fc2(GELU(fc1_gate(x)) * fc1_main(x)) with exact (erf) GELU. (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1_gate = nn.Linear(dim, hidden)
        self.fc1_main = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc1_gate(x)) * self.fc1_main(x)
        return self.drop(self.fc2(self.drop(x)))


class AetherBlock(nn.Module):
    """x + drop_path(ffn(norm(conv(x)))), (N, D, H, W) -> (N, D, H, W)."""

    def __init__(self, dim: int, hidden: int, conv: nn.Module, drop_rate: float, drop_path: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = GatedFFN(dim, hidden, drop_rate)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).permute(0, 2, 3, 1)
        y = self.ffn(self.norm(y)).permute(0, 3, 1, 2)
        return x + self.drop_path(y)


class AetherNet(nn.Module):
    """The network, trained or fused. (N, C, H, W) -> (N, C, scale*H, scale*W), both RGB in [0, 1].

    The output is not clamped. `mean` is a constant (0.5 for RGB, else 0) and not in the state dict.

    Args:
        scale: one of `SCALES`; None takes neosr's own `scale`, if neosr is running.
        in_chans: channels of the image.
        embed_dim: D, channels of the body.
        depths: number of blocks in each stage; a list or a tuple.
        mlp_ratio: the FFN's hidden size is int(embed_dim * mlp_ratio).
        lk_kernel: side of the large kernel, odd.
        sk_kernel: side of the small kernel, odd, at most `lk_kernel`.
        drop_rate: dropout in the FFN, 0 to below 1.
        drop_path_rate: stochastic depth of the last block, 0 to below 1; it rises linearly from 0 over all blocks.
        img_range: factor on the centred image at the input, divided out at the output; above 0.
        fused_init: build the fused form, to load fused weights.
    Raises:
        ValueError: a value that is not allowed; the message says which are.
    Warns:
        UserWarning: an unknown keyword, which is ignored; the message names the nearest known one.
    """

    def __init__(
        self,
        *,
        scale: int | None = None,
        in_chans: int = 3,
        embed_dim: int = 128,
        depths: Sequence[int] = (6,) * 6,
        mlp_ratio: float = 2.0,
        lk_kernel: int = 11,
        sk_kernel: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        img_range: float = 1.0,
        fused_init: bool = False,
        **unknown: object,
    ) -> None:
        super().__init__()
        _warn_unknown(unknown)
        scale = _scale_or_default(scale)
        _check(in_chans, embed_dim, depths, mlp_ratio, lk_kernel, sk_kernel, drop_rate, drop_path_rate, img_range)

        self.scale = scale
        self.img_range = img_range
        self.fused_init = fused_init
        mean = 0.5 if in_chans == 3 else 0.0
        self.mean: Tensor
        self.register_buffer("mean", torch.full((1, in_chans, 1, 1), mean), persistent=False)

        hidden = int(embed_dim * mlp_ratio)
        count = sum(depths)
        path_rates = iter([drop_path_rate * i / max(count - 1, 1) for i in range(count)])
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(
                    AetherBlock(
                        embed_dim,
                        hidden,
                        FusedConv(embed_dim, lk_kernel) if fused_init else ReparamConv(embed_dim, lk_kernel, sk_kernel),
                        drop_rate,
                        next(path_rates),
                    )
                    for _ in range(depth)
                )
            )
            for depth in depths
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-5)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(
            nn.Conv2d(embed_dim, UPSAMPLE_CHANNELS, 3, padding=1), nn.LeakyReLU(0.01)
        )
        self.upsample = _upsample(scale)
        self.conv_last = nn.Conv2d(UPSAMPLE_CHANNELS, in_chans, 3, padding=1)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) * self.img_range
        features = self.conv_first(x)
        x = features
        for stage in self.layers:
            x = stage(x)
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.conv_after_body(x) + features
        x = self.conv_last(self.upsample(self.conv_before_upsample(x)))
        return x / self.img_range + self.mean


def aether(**options: Any) -> AetherNet:
    """AetherNet with no preset; takes the same options as `AetherNet`."""
    return AetherNet(**options)


def aether_small(**options: Any) -> AetherNet:
    """`AetherNet` with `PRESETS["aether_small"]`; every value can be overridden."""
    return AetherNet(**{**PRESETS["aether_small"], **options})


def aether_medium(**options: Any) -> AetherNet:
    """`AetherNet` with `PRESETS["aether_medium"]`; every value can be overridden."""
    return AetherNet(**{**PRESETS["aether_medium"], **options})


def aether_large(**options: Any) -> AetherNet:
    """`AetherNet` with `PRESETS["aether_large"]`; every value can be overridden."""
    return AetherNet(**{**PRESETS["aether_large"], **options})


def _depthwise(dim: int, kernel: int, *, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)


def _upsample(scale: int) -> nn.Sequential:
    """Convolution and PixelShuffle(2) for each power of two, PixelShuffle(3) for 3, nothing for 1."""
    factors = [3] if scale == 3 else [2] * int(math.log2(scale))
    layers: list[nn.Module] = []
    for factor in factors:
        layers += [
            nn.Conv2d(UPSAMPLE_CHANNELS, UPSAMPLE_CHANNELS * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
        ]
    return nn.Sequential(*layers)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _scale_or_default(scale: int | None) -> int:
    scale = _NEOSR_SCALE if scale is None else scale
    if scale not in SCALES:
        seen = "no scale given" if scale is None else f"scale is {scale!r}"
        raise ValueError(f"{seen}; allowed: {', '.join(map(str, SCALES))}")
    return scale


def _check(
    in_chans: int,
    embed_dim: int,
    depths: Sequence[int],
    mlp_ratio: float,
    lk_kernel: int,
    sk_kernel: int,
    drop_rate: float,
    drop_path_rate: float,
    img_range: float,
) -> None:
    """Raises ValueError that says what was given and what is allowed."""

    def require(valid: bool, name: str, value: object, allowed: str) -> None:
        if not valid:
            raise ValueError(f"{name} is {value!r}; allowed: {allowed}")

    def count(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1

    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    require(count(in_chans), "in_chans", in_chans, "an integer of at least 1")
    require(count(embed_dim), "embed_dim", embed_dim, "an integer of at least 1")
    stages = isinstance(depths, Sequence) and not isinstance(depths, str) and len(depths) >= 1
    require(
        stages and all(count(depth) for depth in depths),
        "depths",
        depths,
        "a list of one or more integers, each at least 1",
    )
    require(
        number(mlp_ratio) and int(embed_dim * mlp_ratio) >= 1,
        "mlp_ratio",
        mlp_ratio,
        "a number for which int(embed_dim * mlp_ratio) is at least 1",
    )
    require(count(lk_kernel) and lk_kernel % 2 == 1, "lk_kernel", lk_kernel, "an odd integer")
    require(
        count(sk_kernel) and sk_kernel % 2 == 1 and sk_kernel <= lk_kernel,
        "sk_kernel",
        sk_kernel,
        f"an odd integer up to lk_kernel, {lk_kernel}",
    )
    require(number(drop_rate) and 0 <= drop_rate < 1, "drop_rate", drop_rate, "0 up to below 1")
    require(number(drop_path_rate) and 0 <= drop_path_rate < 1, "drop_path_rate", drop_path_rate, "0 up to below 1")
    require(number(img_range) and img_range > 0, "img_range", img_range, "a number above 0")


def _warn_unknown(unknown: dict[str, object]) -> None:
    """Warns of unknown options: neosr passes [network_g] unchecked, and a misspelt `fused_init` would be lost."""
    known = list(AetherNet.__init__.__kwdefaults__ or {})
    for name in unknown:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        warnings.warn(f"aether: unknown option {name!r} is ignored; {hint}", stacklevel=4)


_NEOSR_SCALE: int | None = None

# neosr parses sys.argv when its modules are imported, so this file imports neosr only as part of it.
if __name__ == "neosr.archs.aether_arch":
    from neosr.archs.arch_util import net_opt
    from neosr.utils.registry import ARCH_REGISTRY

    _NEOSR_SCALE = net_opt()[0]
    _variants: tuple[Callable[..., AetherNet], ...] = (aether, aether_small, aether_medium, aether_large)
    for _variant in _variants:
        ARCH_REGISTRY.register(_variant)
