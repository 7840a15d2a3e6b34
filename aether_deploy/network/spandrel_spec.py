"""A network of spandrel's without its weights: which class with which options, what it takes, and what a run costs.

Torch and spandrel are imported only to build or fuse a network, so that an ONNX file runs without them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.arrays import Shape
from aether_deploy.errors import CheckpointError, ConfigError
from aether_deploy.network.family import Sizes, Widths

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Cost", "SpandrelSpec"]

# More than any network has, of layers, channels or entries of a list.
_MOST = 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run takes, measured on a small picture and divided by its pixels.

    Attributes:
        flops: floating-point operations for each input pixel, a multiply-add being two.
        values: read and written by its layers for each input pixel, if each touches memory once.
        parameters: number of weights.
        body, hidden: channels of its widest layer at the input's size, and of its widest of all.
    """

    flops: int
    values: int
    parameters: int
    body: int
    hidden: int


@dataclass(frozen=True, slots=True)
class SpandrelSpec:
    """A network that spandrel defines.

    Attributes:
        architecture: spandrel's name of it, such as `SPAN`.
        network: the class in `spandrel.architectures.<architecture>`.
        options: of that class, as JSON has them.
        scale: output pixels for each input pixel along one side, 1 to 16.
        in_chans: channels of the image, in and out.
        fused: whether all that `fusions.merging` can merge is merged; so it is from the start where there is nothing.
        sizes: the pictures that it takes.
        tiling: spandrel's advice: supported, discouraged or internal.
        half, bfloat16: whether spandrel runs it in these.
        cost, fused_cost: of a run as it is, and in its fused form.
    """

    architecture: str
    network: str
    options: Mapping[str, Any]
    scale: int
    in_chans: int
    fused: bool
    sizes: Sizes
    tiling: str
    half: bool
    bfloat16: bool
    cost: Cost
    fused_cost: Cost

    @property
    def family(self) -> str:
        """The name of its row in `families.FAMILIES`."""
        return "spandrel"

    @property
    def variant(self) -> str:
        """The class that spandrel gave it."""
        return self.network

    @property
    def img_range(self) -> float:
        """The option of this name, which weights do not show; 1.0 without one."""
        return float(self.options.get("img_range", 1.0))

    @property
    def receptive_field(self) -> None:
        """Unknown; the overlap of tiles is measured."""
        return

    @property
    def widths(self) -> Widths:
        """Its widest layers, taken for the tail as well."""
        return Widths(self.cost.body, self.cost.hidden, self.cost.body, 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpandrelSpec:
        """The inverse of `as_dict`, for a stranger's values too.

        Raises:
            CheckpointError: a value that no such network has.
        """
        try:
            spec = cls(
                **{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name not in _NESTED},
                sizes=Sizes(**values["sizes"]),
                cost=Cost(**values["cost"]),
                fused_cost=Cost(**values["fused_cost"]),
            )
            names = (spec.architecture, spec.network, spec.tiling)
            costs = [count for cost in (spec.cost, spec.fused_cost) for count in dataclasses.astuple(cost)]
            counts = (spec.scale, spec.in_chans, *costs, spec.sizes.minimum, spec.sizes.multiple)
            flags = (spec.fused, spec.half, spec.bfloat16, spec.sizes.square)
            fits = (
                all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
                and all(type(count) is int and 0 <= count < 2**53 for count in counts)
                and all(type(flag) is bool for flag in flags)
                and 1 <= spec.scale <= 16
                and 1 <= spec.in_chans <= 16
                and 1 <= spec.sizes.multiple <= _MOST
                and spec.sizes.minimum <= _MOST
                and isinstance(spec.options, dict)
                and _sensible(spec.options)
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError("a network of spandrel's whose description is not whole; export it again") from error
        if not fits:
            raise CheckpointError("a network of spandrel's with values that none has; export it again")
        return spec

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON and metadata."""
        return {"family": self.family, "variant": self.variant, "img_range": self.img_range, **dataclasses.asdict(self)}

    def as_fused(self) -> SpandrelSpec:
        """The same network in its fused form."""
        return dataclasses.replace(self, fused=True, cost=self.fused_cost)

    def with_img_range(self, img_range: float) -> SpandrelSpec:
        """The same network with this img_range.

        Raises:
            ConfigError: it has no such option.
        """
        if img_range == self.img_range:
            return self
        if "img_range" not in self.options:
            raise ConfigError(f"img_range {img_range:g}: {self.architecture} has no such option; leave it out")
        return dataclasses.replace(self, options={**self.options, "img_range": img_range})

    def build(self) -> nn.Module:
        """The network in eval mode, freshly initialised; the global RNG is left as it was.

        Raises:
            CheckpointError: spandrel is missing, or has no such network.
        """
        import torch

        from aether_deploy.network.spandrel_network import build_network

        with torch.random.fork_rng(devices=[]):
            network = build_network(self.architecture, self.network, self.options)
        if self.fused:
            from aether_deploy.fusions.merging import fuse_layers

            network, _ = fuse_layers(network)
        return network

    def fuse(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the fused network; the given one is not changed."""
        from aether_deploy.fusions.merging import fuse_layers

        network = self.build()
        network.load_state_dict(state_dict)
        fused, _ = fuse_layers(network)
        return {name: value.detach().clone().contiguous() for name, value in fused.state_dict().items()}

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one run on (N, C, H, W), from those of a small picture."""
        return self.cost.flops * shape[0] * shape[2] * shape[3]

    def bytes_moved(self, shape: Shape, *, width_of_value: int = 4) -> int:
        """The fewest bytes to be read and written in one run, from those of a small picture."""
        return width_of_value * (self.cost.values * shape[0] * shape[2] * shape[3] + self.cost.parameters)

    def network_options(self) -> dict[str, Any]:
        """Its class and that one's options, as spandrel names them."""
        return {"type": self.network, **self.options}

    def check_options(self, options: Mapping[str, Any], source: Path) -> None:
        """Compares the scale of a neosr options file with these weights; raises ConfigError."""
        stated = options.get("scale", self.scale)
        if stated != self.scale or isinstance(stated, bool):
            raise ConfigError(f"{source}: scale is {stated!r} there, but the weights have {self.scale}")

    def describe(self) -> str:
        """One line for people."""
        sizes = f", sizes {self.sizes.describe()}" if not self.sizes.any else ""
        form = "fused" if self.fused else "unfused"
        name = self.network if self.network == self.architecture else f"{self.architecture} ({self.network})"
        return f"{name} x{self.scale}, {form}, {self.cost.parameters:,} parameters{sizes}"


_NESTED = ("sizes", "cost", "fused_cost")


def _sensible(value: Any) -> bool:
    """Whether options hold only what JSON has, and no number of layers or channels beyond reason."""
    if isinstance(value, dict):
        return len(value) <= _MOST and all(isinstance(key, str) and _sensible(item) for key, item in value.items())
    if isinstance(value, list):
        return len(value) <= _MOST and all(map(_sensible, value))
    if type(value) is int:
        return abs(value) <= _MOST
    return value is None or isinstance(value, bool | float | str)
